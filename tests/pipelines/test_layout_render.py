"""From a scene document to picture, masks, visibility and warnings."""

import dataclasses

import pytest
import torch

from sightline.pipelines import layout_blender
from sightline.pipelines.layout_render import as_reference_jpeg, layout_warnings, picture_size, render_layout
from sightline.scene.document import SceneCamera, SceneError, new_document, parse_document
from sightline.scene.document.examples import EXAMPLES, load_example
from sightline.scene.document.model import Orbit
from sightline.scene.errors import InputError, MissingDependency


def scene(*objects, **changes):
    value = {"format": "sightline.scene", "version": 1, "id": "s", "objects": list(objects)}
    return parse_document({**value, **changes})


def box(name, x=0.0, y=0.0, z=0.0, **more):
    return {"id": name, "prompt": name, "position": [x, y, z], **more}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_published_scenes(name):
    document = load_example(name)
    made = render_layout(document, 64, samples=1)
    count = len(document.objects)
    assert made.image.shape == (1, 64, 64, 3) and 0 <= float(made.image.min()) < float(made.image.max()) <= 1
    assert made.masks.shape == (count, 64, 64) and made.cells.shape == (count, 32, 32)
    assert made.visibility.shape == (count, 64, 64) and made.depth.shape == (64, 64)
    assert bool(made.masks.flatten(1).any(1).all()) and not bool((made.visibility & ~made.masks).any())
    assert len(made.prompt.subjects) == count and all(0 <= share <= 1 for share in made.occlusion)
    assert "W111" not in [p.code for p in made.problems] or max(made.occlusion) > 0.9


def test_the_same_scene_gives_the_same_picture_from_every_equal_camera():
    document = load_example("verandah")
    camera = document.camera
    turned = dataclasses.replace(camera, orbit=dataclasses.replace(camera.orbit, azimuth_deg=90.0, distance=12.0))

    def far(one):
        x, y, z = one.position
        size = tuple(2 * s for s in one.size)
        return dataclasses.replace(
            one, position=(-2 * y, 2 * x, 2 * z), size=size, yaw_deg=(one.yaw_deg + 270) % 360 - 180
        )

    moved = document.replace(cameras=(turned,), objects=tuple(far(one) for one in document.objects))
    a, b = render_layout(document, 64, samples=2), render_layout(moved, 64, samples=2)
    assert 255 * float((a.image - b.image).abs().mean()) < 0.1 and torch.equal(a.cells, b.cells)
    # what is measured in scene units is twice as far
    assert torch.allclose(2 * a.depth[torch.isfinite(a.depth)], b.depth[torch.isfinite(b.depth)], rtol=1e-3)


def test_what_is_drawn_and_what_is_spoken():
    document = scene(
        box("a"),
        box("b", y=1.5, use={"prompt": False}),
        box("c", visible=False),
        box("d", y=-1.5, use={"control": False}),
    )
    made = render_layout(document, 96, samples=1)
    assert made.ids == ("a", "b") and made.prompt.subjects == ("a",) and made.masks.shape[0] == 1


def test_occlusion_and_its_warnings():
    document = scene(box("wall", x=2, size=[0.1, 3, 2]), box("hidden", x=-1, size=[0.5, 0.5, 0.5]), box("gone", y=40))
    made = render_layout(document, 128, samples=1)
    assert made.occlusion[1] > 0.95 and made.occlusion[2] == 0
    texts = {p.code: p.text for p in made.problems}
    assert texts["W111"] == "‘hidden’ is almost completely hidden by wall." and "W110" in texts
    assert [p.code for p in layout_warnings(document)] == [p.code for p in made.problems]
    row = scene(*(box(f"b{i}", x=2 - i, size=[0.3, 1, 1]) for i in range(6)))
    assert "W107" in [p.code for p in layout_warnings(row)]


def test_lights_are_fixed_or_drawn_or_given():
    base = scene(box("a"))
    images = [render_layout(base, 64, samples=1).image]
    for options in ({"lights_seed": 3}, {"lights_seed": 4}, {"light_positions": [[0, 0, 10]]}):
        again = scene(box("a"), output={"render": options})
        images.append(render_layout(again, 64, samples=1).image)
    assert torch.equal(images[0], render_layout(base, 64, samples=1).image)
    assert all(not torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])


def test_sizes():
    wide = scene(box("a"), output={"size": [1024, 512]})
    made = render_layout(wide, 128, samples=1)
    assert made.image.shape == (1, 64, 128, 3) and made.cells.shape == (1, 32, 32)
    assert picture_size(wide, 1000) == (1000, 500)
    with pytest.raises(InputError, match="64 to 4096"):
        render_layout(wide, 5000)


def test_reference_jpeg():
    base = scene(box("a"))
    sharp = render_layout(base, 128, samples=1).image
    saved = render_layout(scene(box("a"), output={"render": {"match_reference_jpeg": True}}), 128, samples=1).image
    assert 0.1 < 255 * float((sharp - saved).abs().mean()) < 3
    assert as_reference_jpeg(torch.zeros(16, 16, 3)).abs().max() < 0.02


@pytest.mark.parametrize(
    ("document", "code"),
    [(new_document(), "E120"), (scene(box("a", visible=False)), "E120"), (scene({"id": "a", "prompt": ""}), "E121")],
)
def test_what_cannot_be_run(document, code):
    with pytest.raises(SceneError) as caught:
        render_layout(document, 64)
    assert caught.value.code == code


def test_unusual_scenes_are_drawn():
    tall = box("tall", size=[1, 1, 40])  # higher than the lights
    flat = box("flat", y=1, size=[1, 1, 0.001])
    behind = box("behind", x=20)
    words = box("a cat (asleep), [left]", y=-1)
    many = [box(f"n{i}", x=-(i % 8), y=(i % 5) - 2, size=[0.4, 0.4, 0.4]) for i in range(46)]
    made = render_layout(scene(tall, flat, behind, words, *many), 64, samples=1)
    assert torch.isfinite(made.image).all() and made.masks.shape[0] == 50
    assert not made.masks[2].any() and made.prompt.subjects[3] == "a cat (asleep), [left]"
    for orbit in (Orbit(elevation_deg=90.0), Orbit(elevation_deg=-30.0), Orbit(elevation_deg=0.0), Orbit(distance=0.3)):
        camera = SceneCamera(orbit=orbit, lens_mm=24.0)
        again = render_layout(scene(box("a")).replace(cameras=(camera,)), 64, samples=2)
        assert torch.isfinite(again.image).all()


def test_blender_is_optional(monkeypatch):
    monkeypatch.setattr(layout_blender.importlib.util, "find_spec", lambda name: None)
    assert not layout_blender.has_blender()
    with pytest.raises(MissingDependency, match="pip install bpy"):
        render_layout(scene(box("a")), 64, backend="bpy")
    with pytest.raises(InputError, match="torch or bpy"):
        render_layout(scene(box("a")), 64, backend="eevee")
