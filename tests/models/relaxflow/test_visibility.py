"""What a camera sees of voxels: own surface, depth maps, other boxes, masks of other sizes."""

import pytest
import torch

from sightline.models.relaxflow.visibility import (
    Placement,
    VisibilitySettings,
    boxes_depth,
    check_mask,
    mask_of_voxels,
    mask_on_grid,
    selected_pixels,
    visibility_from_camera,
    visibility_from_pose,
)
from sightline.models.relaxflow.visibility_preview import mask_picture
from sightline.scene.cameras import look_at
from sightline.scene.errors import InputError

R = 16
WHERE = VisibilitySettings(resolution=R)


def cube():
    """The voxels of a solid cube in the middle of the grid."""
    return torch.cartesian_prod(*[torch.arange(4, 12)] * 3)


def front(distance=2.0, size=64):
    return look_at((0.0, -distance, 0.0), (0.0, 0.0, 0.0), 40.0, size, size)


def test_the_near_side_is_seen_and_the_far_side_is_not():
    voxels = cube()
    seen = visibility_from_camera(voxels, front(), settings=WHERE)
    assert seen[voxels[:, 1] == 4].min() > 0.9 and seen[voxels[:, 1] == 11].max() < 0.01


def test_empty_space_in_front_is_seen_and_space_behind_is_not():
    grid = visibility_from_camera(None, front(), surface=cube(), settings=WHERE).view(R, R, R)
    assert grid[8, 1, 8] == 1 and grid[8, 13, 8] < 0.01 and grid[1, 13, 1] == 1


def test_a_depth_map_replaces_the_own_surface():
    voxels, camera = cube(), front()
    near = torch.full((64, 64), 1.0)  # a wall before the object
    assert visibility_from_camera(voxels, camera, depth=near, settings=WHERE).max() < 0.01
    assert visibility_from_camera(voxels, camera, depth=torch.zeros(64, 64), settings=WHERE).min() == 1


def test_another_box_hides_what_stands_behind_it():
    voxels, camera = cube(), front()
    box = Placement(torch.tensor([0.3, 0.1, 2.0]), torch.eye(3), torch.tensor([-0.2, -1.0, 0.0]))
    depth = boxes_depth(camera, [box])
    assert depth.isfinite().any() and depth[depth.isfinite()].min() == pytest.approx(0.95, abs=1e-3)
    seen = visibility_from_camera(voxels, camera, in_front=depth, settings=WHERE)
    near = voxels[:, 1] == 4
    assert seen[near & (voxels[:, 0] == 4)].max() < 0.01 and seen[near & (voxels[:, 0] == 11)].min() > 0.9


def test_a_turned_placement_turns_the_seen_side():
    turn = torch.tensor([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    voxels = cube()
    turned = Placement(torch.ones(3), turn, torch.zeros(3))
    seen = visibility_from_camera(voxels, front(), placement=turned, settings=WHERE)
    assert seen[voxels[:, 1] == 11].min() > 0.9 and seen[voxels[:, 1] == 4].max() < 0.01


def test_nothing_is_seen_behind_the_camera_or_outside_the_picture():
    away = look_at((0.0, -2.0, 0.0), (0.0, -4.0, 0.0), 40.0, 64, 64)
    assert visibility_from_camera(cube(), away, settings=WHERE).max() == 0


def test_an_occluder_in_the_picture_hides():
    selected = torch.ones(32, 32)
    selected[16:] = 0  # of another size than the picture
    voxels = cube()
    seen = visibility_from_camera(voxels, front(), selected=selected, settings=WHERE)
    near = voxels[:, 1] == 4
    assert seen[near & (voxels[:, 2] == 11)].min() > 0.9 and seen[near & (voxels[:, 2] == 4)].max() == 0


def test_masks_on_other_grids():
    mask = torch.zeros(4, 4, 4)
    mask[:2, 0, 0] = 1
    assert mask_on_grid(mask, 4) is mask
    assert mask_on_grid(mask, 2)[0, 0, 0] == 0.25 and mask_on_grid(mask, 2, most=True)[0, 0, 0] == 1
    assert mask_on_grid(mask, 8).sum() == 16 and mask_on_grid(mask, 3).shape == (3, 3, 3)
    assert mask_of_voxels(mask, torch.tensor([[0, 0, 0], [7, 7, 7], [3, 1, 1]]), 8).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="cube"):
        mask_on_grid(torch.zeros(4, 4), 2)


def test_a_preview_shows_both_sides():
    mask = visibility_from_camera(None, front(), surface=cube(), settings=WHERE).view(R, R, R)
    picture = mask_picture(cube(), mask, front(), R, size=96).float()
    left, right = picture[48, 48], picture[48, 96 + 48]
    assert left[1] > 200 > left[0] and right[0] > 200 > right[1]


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: visibility_from_camera(cube()[:0], front(), settings=WHERE), "no voxels"),
        (lambda: visibility_from_camera(cube(), front(), depth=torch.zeros(3, 3)), "depth"),
        (lambda: check_mask(torch.ones(3), 4), "3 values"),
        (lambda: check_mask(torch.tensor([float("nan")]), 1), "finite"),
        (lambda: selected_pixels(torch.zeros(2, 2, 2, 2, 2), 4, 4), "mask"),
        (lambda: VisibilitySettings(falloff=-1), "falloff"),
        (lambda: VisibilitySettings(tolerance=float("nan")), "tolerance"),
        (
            lambda: visibility_from_pose(
                torch.zeros(1, 4).int(), None, torch.ones(1, 4), torch.ones(1, 3), torch.eye(3), 8, 8
            ),
            "no usable translation",
        ),
    ],
)
def test_bad_input(work, said):
    with pytest.raises(InputError, match=said):
        work()


def test_masks_over_nothing_and_over_all_are_fine():
    assert check_mask(torch.zeros(5), 5).sum() == 0 and check_mask(torch.full((5,), 9.0), 5).tolist() == [1.0] * 5
