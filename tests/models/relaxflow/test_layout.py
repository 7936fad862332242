"""Visibility from a known layout: a box before the object hides its lower half, in both frames of the networks."""

import dataclasses

import pytest
import torch

from sightline.models.relaxflow.layout import find_object, scene_view
from sightline.models.relaxflow.visibility import VisibilitySettings
from sightline.scene.document import Orbit, SceneCamera, SceneObject, Use, new_document
from sightline.scene.errors import InputError

R = 16
WHERE = VisibilitySettings(resolution=R)
SUBJECT = SceneObject(id="a", name="vase", prompt="a blue vase", position=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0))
WALL = SceneObject(id="b", name="wall", prompt="a wall", position=(1.5, 0.0, 0.0), size=(0.1, 4.0, 0.5))


def scene(*objects, azimuth=0.0, elevation=0.0):
    camera = SceneCamera(mode="orbit", orbit=Orbit((0.0, 0.0, 0.5), azimuth, elevation, 30.0), lens_mm=300.0)
    camera = dataclasses.replace(camera, id="cam1", roles=("control",))
    return dataclasses.replace(new_document(), cameras=(camera,), active_camera="cam1", objects=objects)


def grid(document, frame, subject="vase"):
    coords = torch.cartesian_prod(*[torch.arange(2, R - 2)] * 3)
    seen = scene_view(document, subject, frame).visibility(None, surface=coords, settings=WHERE)
    return seen.view(R, R, R)


def test_a_wall_in_front_hides_the_lower_half():
    """TRELLIS's cube stands upright, front at -Y; the wall is half as high as the object."""
    seen = grid(scene(SUBJECT, WALL), "z_up")
    front = seen[2:-2, 2]  # [x, z] of the side that faces the camera
    assert front[:, : R // 2 - 3].max() < 0.01 and front[:, R // 2 : -2].min() > 0.9
    assert seen[2:-2, -3, :-3].max() < 0.01, "the back is hidden by the object itself"
    alone = grid(scene(SUBJECT), "z_up")
    assert alone[2:-2, 2, 2:-2].min() > 0.9


def test_the_cube_of_pixal3d_looks_at_the_camera_from_wherever_it_stands():
    for azimuth in (0.0, 35.0):
        wall = dataclasses.replace(WALL, size=(0.1, 8.0, 0.5))
        seen = grid(scene(SUBJECT, wall, azimuth=azimuth), "y_up")
        low, high = seen[R // 2, 4, R - 3], seen[R // 2, R - 4, R - 3]  # x right, y up, z toward the camera
        assert low < 0.01 and high > 0.9


def test_a_turned_object_shows_another_side():
    """Turned by 90 degrees, the side that looks at the camera is the cube's own -X or +X."""
    turned = dataclasses.replace(SUBJECT, yaw_deg=90.0)
    seen = grid(scene(turned), "z_up")
    sides = {"-x": seen[2, 8, 8], "+x": seen[-3, 8, 8], "-y": seen[8, 2, 8], "+y": seen[8, -3, 8]}
    assert [name for name, value in sides.items() if value > 0.5] == ["-x"]


def test_what_stands_behind_or_is_no_part_of_the_picture_hides_nothing():
    behind = dataclasses.replace(WALL, position=(-1.5, 0.0, 0.0))
    unseen = dataclasses.replace(WALL, use=Use(control=False))
    plain = grid(scene(SUBJECT), "z_up")
    assert torch.equal(grid(scene(SUBJECT, behind), "z_up"), plain)
    assert torch.equal(grid(scene(SUBJECT, unseen), "z_up"), plain)


def test_the_cube_camera_sees_the_same_pixels():
    view = scene_view(scene(SUBJECT, WALL, azimuth=20.0, elevation=15.0), "vase", "z_up")
    points = torch.rand(20, 3) - 0.5
    direct, depth = view.camera.project(view.placement.to_world(points))
    own, own_depth = view.cube_camera().project(points)
    torch.testing.assert_close(direct, own, atol=1e-2, rtol=0)
    torch.testing.assert_close(depth, own_depth * view.placement.scale.max(), atol=1e-3, rtol=0)


def test_which_box_is_the_object():
    document = scene(SUBJECT, WALL)
    for name in ("vase", "A blue vase", "a", "1"):
        assert find_object(document, name).id == "a"
    assert find_object(scene(SUBJECT)).id == "a"
    marked = scene(SUBJECT, dataclasses.replace(WALL, use=Use(generate3d=False)))
    assert find_object(marked).id == "a"


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: find_object(scene(SUBJECT, WALL)), "1 vase, 2 wall"),
        (lambda: find_object(scene(SUBJECT, WALL), "cup"), "'cup'"),
        (lambda: find_object(scene(SUBJECT, WALL), "3"), "'3'"),
        (lambda: find_object(scene()), "no objects"),
        (lambda: scene_view(scene(SUBJECT), frame="y_down"), "y_up, z_up"),
    ],
)
def test_bad_input(work, said):
    with pytest.raises(InputError, match=said):
        work()
