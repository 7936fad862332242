"""Aggregation over views: the streamed form equals the definition, whatever its budgets, and no order matters."""

import pytest
import torch

from sightline.kernels.view_aggregation import AggregatorWeights, aggregate, aggregate_tokens
from sightline.kernels.view_projection import lift, project_to_patches, refine_coords, voxel_centers
from sightline.scene.errors import InputError

VIEWS, VOXELS, WIDTH, SIDE = 5, 300, 16, 6


def case(seed=0, extra=0):
    draw = torch.Generator().manual_seed(seed)

    def layer(rows, columns):
        return torch.randn(rows, columns, generator=draw) * columns**-0.5, torch.randn(rows, generator=draw)

    wide = 3 * WIDTH + extra
    weights = AggregatorWeights(
        (layer(WIDTH, wide), layer(WIDTH, WIDTH), layer(WIDTH, WIDTH)), (layer(WIDTH, wide), layer(1, WIDTH))
    )
    tokens = torch.randn(VIEWS, 5 + SIDE * SIDE, WIDTH, generator=draw)
    patch = torch.randint(0, SIDE * SIDE, (VIEWS, VOXELS), generator=draw)
    valid = torch.rand(VIEWS, VOXELS, generator=draw) < 0.4
    valid[:, :3] = False
    return tokens, patch, valid, weights


@pytest.mark.parametrize("two_pass", [True, False])
@pytest.mark.parametrize("budget", [(1 << 30, 1 << 30), (8192, 1 << 30), (8192, 0), (1, 0)])
def test_streamed_equals_the_definition(two_pass, budget):
    tokens, patch, valid, weights = case()
    expected = aggregate(lift(tokens, patch, valid), valid, weights, two_pass=two_pass)
    pair_bytes, table_bytes = budget
    found = aggregate_tokens(
        tokens, patch, valid, weights, two_pass=two_pass, pair_bytes=pair_bytes, table_bytes=table_bytes
    )
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert not found[:3].any(), "a voxel that no view sees must be zero"


def test_further_inputs():
    tokens, patch, valid, weights = case(extra=5)
    camera = torch.randn(VIEWS, VOXELS, 5, generator=torch.Generator().manual_seed(9))
    expected = aggregate(lift(tokens, patch, valid), valid, weights, camera)
    found = aggregate_tokens(tokens, patch, valid, weights, extra=lambda view, voxel: camera[view, voxel])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_the_order_of_views_does_not_matter():
    tokens, patch, valid, weights = case()
    order = torch.tensor([3, 0, 4, 2, 1])
    one = aggregate_tokens(tokens, patch, valid, weights)
    other = aggregate_tokens(tokens[order], patch[order], valid[order], weights)
    torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_no_view_sees_anything():
    tokens, patch, valid, weights = case()
    assert not aggregate_tokens(tokens, patch, torch.zeros_like(valid), weights).any()
    with pytest.raises(InputError, match="5 views need"):
        aggregate_tokens(tokens, patch[:2], valid, weights)


def test_projection_of_a_camera_in_front():
    points = torch.tensor([[0.0, 0, 2], [0.9, 0, 2], [1.1, 0, 2], [0, 0, -1]])
    lens = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]])
    patch, valid = project_to_patches(points, torch.eye(4)[None], lens, 4)
    assert valid[0].tolist() == [True, True, False, False]
    assert patch[0, 0] == 2 * 4 + 2 and patch[0, 1] == 2 * 4 + 3
    with pytest.raises(InputError, match="are needed"):
        project_to_patches(points, torch.eye(4)[None], lens[:, :2], 4)


def test_children_lie_in_their_parents():
    coords = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 7]], dtype=torch.int32)
    fine, parent = refine_coords(coords, 2)
    assert torch.equal(fine[:, 1:] // 2, coords[parent][:, 1:]) and torch.equal(fine[:, 0], coords[parent][:, 0])
    middle = voxel_centers(8, fine[:8, 1:], 2).mean(0)
    torch.testing.assert_close(middle, voxel_centers(8, coords[:1, 1:])[0])
