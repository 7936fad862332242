import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels.projection import (
    bilinear_corners,
    distance_from_fov,
    front_camera,
    front_uv,
    grid_points,
    in_view,
    posed_uv,
    sample_map,
    sample_views,
)
from sightline.scene.cameras import Cameras
from sightline.scene.errors import InputError


@given(st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_tokens_are_rows_of_the_whole_grid(resolution, seed):
    coords = torch.randint(0, resolution, (20, 3), generator=torch.Generator().manual_seed(seed))
    whole = grid_points(resolution)
    rows = (coords[:, 0] * resolution + coords[:, 1]) * resolution + coords[:, 2]
    assert torch.equal(grid_points(resolution, coords), whole[rows])
    assert float(whole.min()) == -1.0 and (resolution == 1 or float(whole.max()) == 1.0)


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 2.5),
    st.floats(1.5, 8.0),
    st.floats(0.5, 2.0),
    st.sampled_from([32, 64, 512]),
)
@settings(max_examples=30, deadline=None)
def test_the_closed_form_is_a_pinhole_camera(seed, fov, distance, scale, size):
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    uv, depth = front_uv(points, fov, distance, scale, size)
    uv_posed, depth_posed = posed_uv(points, front_camera(fov, distance, size), scale)
    torch.testing.assert_close(uv_posed[0], uv, atol=1e-3 * size / 32, rtol=1e-4)
    torch.testing.assert_close(depth_posed[0], depth, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fov", [0.2, 0.857, 2.0])
@pytest.mark.parametrize("scale", [0.7, 1.0])
def test_the_cube_fills_the_picture_at_the_distance_of_its_fov(fov, scale):
    edge = torch.tensor([[-1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    uv, _ = front_uv(edge, fov, distance_from_fov(fov, scale), scale, 512)
    torch.testing.assert_close(uv, torch.tensor([[0.0, 256], [512, 256], [256, 0]]), atol=1e-2, rtol=0)


def test_near_is_larger_up_is_up_and_behind_is_not_in_view():
    points = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.9], [0.0, 0.0, 1.0]])
    uv, depth = front_uv(points, 0.8, 1.2, 1.0, 64)
    assert uv[0, 0] > 32 and uv[0, 1] < 32
    assert uv[1, 0] > uv[0, 0] and uv[1, 1] < uv[0, 1] and depth[1] < depth[0]
    assert in_view(uv, depth, 64, 64).all()
    behind_uv, behind = front_uv(points[2:], 0.8, 0.3, 1.0, 64)
    assert float(behind) < 0 and not in_view(behind_uv, behind, 64, 64).any()


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_gathering_equals_grid_sample(seed, width, height, as_released, maps):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(maps, 5, height, width, generator=generator)
    uv = torch.rand(60, 2, generator=generator) * 96 - 16  # a third lies outside of the 64 x 48 picture
    item = torch.randint(0, maps, (60,), generator=generator)
    found = [sample_map(features, uv, (64, 48), item, as_released, backend) for backend in ("gather", "grid_sample")]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_corners_weigh_one_and_a_map_cell_is_read_at_its_center():
    uv = torch.tensor([[4.0, 12.0], [8.0, 8.0], [-50.0, 70.0]])  # cells of 8 pixels in a 16 x 32 picture
    index, weight = bilinear_corners(uv, (16, 32), 2, 4, as_released=False)
    torch.testing.assert_close(weight.sum(-1), torch.ones(3))
    features = torch.arange(8.0).reshape(1, 1, 4, 2)
    assert sample_map(features, uv, (16, 32), as_released=False).squeeze(1).tolist() == [2.0, 1.5, 6.0]
    shifted = sample_map(features, uv - 0.5, (16, 32))
    assert shifted.squeeze(1).tolist() == [2.0, 1.5, 6.0]


def test_gradients_reach_features_and_pixels():
    features = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    uv = (torch.rand(6, 2, dtype=torch.float64) * 14 + 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, p: sample_map(f, p, 16), (features, uv))


def test_several_views_are_averaged_and_one_view_is_itself():
    points = grid_points(3)
    one = front_camera(0.8, 1.5, 32)
    turned = Cameras(one.world_to_camera @ _turn(90.0), one.intrinsics, 32, 32)
    cameras = Cameras.cat([one, turned])
    features = torch.randn(2, 4, 6, 6)
    uv, _ = posed_uv(points, cameras)
    each = [sample_map(features[i : i + 1], uv[i], 32) for i in range(2)]
    torch.testing.assert_close(sample_views(features, uv, 32), (each[0] + each[1]) / 2)
    torch.testing.assert_close(sample_views(features[:1], uv[:1], 32), each[0])
    # turning the world by a quarter turn sees x where the front view sees z
    swapped = torch.stack([points[:, 2], points[:, 1], -points[:, 0]], -1)
    torch.testing.assert_close(uv[1], posed_uv(swapped, one)[0][0], atol=1e-3, rtol=1e-4)


def _turn(degrees):
    a = math.radians(degrees)
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    return turn


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: front_uv(torch.zeros(1, 3), 0.0, 1.0, 1.0, 64), "`fov` is 0.0"),
        (lambda: front_uv(torch.zeros(1, 3), math.pi, 1.0, 1.0, 64), "180 degrees"),
        (lambda: front_uv(torch.zeros(1, 3), float("nan"), 1.0, 1.0, 64), "`fov` is nan"),
        (lambda: front_uv(torch.zeros(1, 3), 0.8, -1.0, 1.0, 64), "`distance` is -1"),
        (lambda: distance_from_fov(0.8, 0.0), "`mesh_scale` is 0.0"),
        (lambda: grid_points(4, torch.tensor([[0, 0, 4]])), r"0\.\.3"),
        (lambda: grid_points(0), "at least 1 voxel"),
        (lambda: sample_map(torch.zeros(2, 1, 2, 2), torch.zeros(3, 2), 8), "which one each token"),
        (lambda: sample_map(torch.zeros(1, 2, 2), torch.zeros(3, 2), 8), "B, C, h, w"),
        (lambda: sample_views(torch.zeros(2, 1, 2, 2), torch.zeros(3, 1, 2), 8), "holds 2 views"),
    ],
)
def test_what_cannot_be_used_is_named(call, said):
    with pytest.raises(InputError, match=said):
        call()
