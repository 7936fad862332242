import math

import numpy as np
import pytest
import torch

from sightline.kernels.projection import front_camera, grid_points
from sightline.models.trellis2.image_condition import FrontCamera, PosedCameras
from sightline.models.trellis2.overlay import cube_edges, depth_colors, describe, grid_overlay, project_view, wall_lines
from sightline.scene.cameras import Cameras
from sightline.scene.errors import InputError
from sightline.scene.posed_views import four_view_rig

BLACK = np.zeros((40, 40, 3), np.uint8)
CAMERA = FrontCamera(math.radians(40))


def draw(camera=CAMERA, **options):
    return grid_overlay(BLACK, camera, size=200, caption="", **options).astype(int)


def test_the_lines_are_those_of_the_cube():
    edges = cube_edges(4)
    assert edges.shape == (12, 5, 3)
    lengths = (edges[:, 0] - edges[:, -1]).norm(dim=1)
    assert torch.equal(lengths, torch.full((12,), 2.0))
    assert len({tuple(sorted(map(tuple, edge[[0, -1]].tolist()))) for edge in edges}) == 12
    lines = wall_lines(4, 2)
    assert lines.shape == (12, 3, 3) and bool(((lines[..., 1] == -1) | (lines[..., 2] == -1)).all())


def test_tokens_appear_where_they_project_to_near_ones_over_far_ones():
    coords = torch.tensor([[16, 16, 28], [16, 16, 4], [26, 6, 16]])
    plain, picture = draw(coords=coords[:0], resolution=32), draw(coords=coords, resolution=32)
    uv, depth = project_view(grid_points(32, coords), CAMERA, 0, 200)
    changed = np.argwhere(np.abs(picture - plain).sum(-1) > 60)
    for u, v in uv.tolist():
        assert np.abs(changed + 0.5 - (v, u)).max(1).min() < 1.5
    u, v = uv[0].floor().int().tolist()
    assert picture[v, u, 0] > picture[v, u, 2] + 50  # the near token's warm color, not the far one's blue
    assert depth[0] < depth[2] < depth[1]


def test_a_wrong_field_of_view_moves_the_tokens():
    shell = torch.tensor([[x, y, z] for x in (2, 29) for y in (2, 29) for z in (2, 29)])
    same = draw(coords=shell, resolution=32)
    other = draw(FrontCamera(math.radians(60)), coords=shell, resolution=32)
    assert np.abs(same - other).max() > 100


def test_posed_cameras_draw_what_the_front_camera_draws():
    posed = PosedCameras(front_camera(math.radians(40), 1.6, 64), 1.2)
    front = FrontCamera(math.radians(40), 1.6, 1.2)
    assert np.abs(draw(posed) - draw(front)).mean() < 0.5
    assert describe(posed) == describe(front) == "field of view 40.00 degrees, distance 1.600, mesh scale 1.2"
    rig = PosedCameras(four_view_rig(64))
    token = torch.tensor([[8, 4, 4]])  # on the right: at the side in the front view, in the middle from the right
    side, middle = (draw(rig, view=view, coords=token, resolution=9) for view in (0, 1))
    assert np.abs(side - middle)[96:104, 96:104].sum(-1).max() > 60
    assert describe(rig, 2).startswith("view 2: field of view 20.00")


def test_a_wide_lens_inside_the_cube():
    assert draw(FrontCamera(math.radians(150))).max() > 100
    backward = front_camera(1.0, 0.2, 64)
    assert draw(PosedCameras(Cameras(backward.world_to_camera, backward.intrinsics, 64, 64))).max() > 100


def test_colors_run_from_warm_to_cold():
    colors = depth_colors(torch.tensor([0.0, 1.0, 1.5, 2.0, 9.0]), 1.0, 2.0)
    assert torch.equal(colors[0], colors[1]) and torch.equal(colors[3], colors[4])
    assert colors[1, 0] > colors[1, 2] and colors[3, 0] < colors[3, 2]


def test_what_cannot_be_drawn():
    with pytest.raises(InputError, match="uint8"):
        grid_overlay(BLACK.astype(np.float32), CAMERA)
    with pytest.raises(InputError, match="no view 1"):
        grid_overlay(BLACK, CAMERA, view=1)
    with pytest.raises(InputError, match="0..8"):
        grid_overlay(BLACK, CAMERA, coords=torch.tensor([[9, 0, 0]]), resolution=9)
