"""NAF: picture features raised to pixel resolution, read at the projections of 3D tokens."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op

CHANNELS = 1024


def _case(case: dict):
    """A picture, its patch map, points all over it, and which of them are clear of the borders."""
    import torch

    generator = torch.Generator().manual_seed(0)
    side, cells = case["side"], case["cells"]
    image = torch.rand(1, 3, side, side, generator=generator)
    patches = torch.randn(1, CHANNELS, cells, cells, generator=generator)
    uv = torch.rand(case["points"], 2, generator=generator) * side
    band = 5 * side / cells  # within four cells of a border core lets zeros join the attention
    inside = ((uv > band) & (uv < side - band)).all(1)
    return [tensor.to(case["device"]) for tensor in (image, patches, uv, inside)]


def _model(case: dict):
    import torch

    from ...models.trellis2.naf import Naf

    torch.manual_seed(1)
    return Naf().to(case["device"]).eval()


def _at_points(case):
    import torch

    image, patches, uv, inside = _case(case)
    model, side = _model(case), case["side"]

    def read():
        with torch.no_grad():
            return {"inside": model.at_points(image, patches, uv, side, side)[inside]}

    return read


def _whole_map(case):
    import torch

    from ...kernels.naf import upsample_map
    from ...kernels.projection import sample_map

    image, patches, uv, inside = _case(case)
    model, side = _model(case), case["side"]

    def read():
        with torch.no_grad():
            raised = upsample_map(
                model.queries(image, side), patches, model.config.heads_attn, model.config.kernel_size
            )
            return {"inside": sample_map(raised, uv, side)[inside]}

    return read


def _core(case):
    import torch

    network = opponents.comfyui("comfy.image_encoders.naf", case["device"]).NAF
    ops = opponents.comfyui("comfy.ops", case["device"]).manual_cast
    sample = opponents.comfyui("comfy.ldm.trellis2.model", case["device"])._sample_features
    image, patches, uv, inside = _case(case)
    side = case["side"]
    model = network(operations=ops).eval()
    model.load_state_dict(_model(case).state_dict())
    model.to(case["device"])

    def read():
        with torch.no_grad():
            output = torch.empty(1, CHANNELS, side, side, device=case["device"])
            raised = model(image, patches, (side, side), output=output)
            grid = ((uv + 0.5) / side * 2 - 1)[None]
            return {"inside": sample(raised, grid)[0].T[inside]}

    return read


OPS = [
    Op(
        "naf",
        "features raised by NAF to the picture's pixels, at 10,000 projected voxels",
        {
            "S": dict(side=128, cells=16, points=10_000),
            "M": dict(side=256, cells=16, points=10_000),
            "L": dict(side=512, cells=32, points=10_000),  # the stage shape_512
        },
        (
            Contender("ours, at points", _at_points),
            Contender("whole map twin", _whole_map, sizes=("S",)),
            Contender("core, whole map", _core, note="compared clear of the borders, where it pads with zeros"),
        ),
    )
]
