"""The control picture of a published scene: our closed form against Blender's Cycles, which the authors use.

Cycles took 56 to 118 s a picture of 1024 pixels on the two CPU cores where the parity fixtures were recorded.
"""

from __future__ import annotations

from .op import Contender, Missing, Op


def _scene(case: dict):
    from ...pipelines.layout_render import box_scene
    from ...scene.document.examples import load_example

    document = load_example(case["scene"])
    return document, box_scene(document, case["side"], case["side"]).to(case["device"])


def _ours(samples: int):
    def prepare(case):
        import torch

        from ...kernels.box_render.render import display, render_linear

        _, scene = _scene(case)

        def draw():
            with torch.no_grad():
                return {"picture": display(render_linear(scene, samples))}

        return draw

    return prepare


def _dense(case):
    import torch

    from ...kernels.box_render.render import display, render_dense

    _, scene = _scene(case)

    def draw():
        with torch.no_grad():
            return {"picture": display(render_dense(scene))}

    return draw


def _blender(case):
    from ...pipelines.layout_blender import HINT, has_blender, render_blender

    if not has_blender():
        raise Missing(HINT)
    document, scene = _scene(case)
    return lambda: {"picture": render_blender(document, scene.to("cpu"))}


OPS = [
    Op(
        "layout_render",
        "the control picture of a scene of boxes",
        {
            "S": dict(scene="mars", side=256),
            "M": dict(scene="mars", side=512),
            "L": dict(scene="mars", side=1024),
        },
        (
            Contender("ours", _ours(4)),
            Contender("one sample", _ours(1), same=False, note="jagged edges"),
            Contender("dense twin", _dense, same=False, sizes=("S",), note="16 samples in every pixel"),
            Contender("Cycles (bpy)", _blender, same=False, note="recorded for 1024 pixels on 2 cores: 56-118 s"),
        ),
    )
]
