import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels import grid_sample
from sightline.kernels.grid_sample import sample_voxels
from sightline.scene.errors import InputError
from sightline.scene.sparse import MAX_COORDINATE, SparseTensor


def voxels(seed, resolution, items, density):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.nonzero(torch.rand(items, *[resolution] * 3, generator=generator) < density).to(torch.int32)
    coords = coords[torch.argsort(coords[:, 0] + 0.5 * torch.rand(len(coords), generator=generator))]
    return SparseTensor(torch.randn(len(coords), 3, generator=generator), coords, items)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 2), st.sampled_from([0.0, 0.2, 0.7, 1.0]))
@settings(max_examples=40, deadline=None)
def test_searching_equals_the_table(seed, resolution, items, density):
    x = voxels(seed, resolution, items, density)
    generator = torch.Generator().manual_seed(seed + 1)
    points = torch.rand(80, 3, generator=generator) * (resolution + 4) - 2
    item = torch.randint(0, items, (80,), generator=generator)
    found = sample_voxels(x, points, item)
    torch.testing.assert_close(found, sample_voxels(x, points, item, backend="table"), atol=1e-6, rtol=1e-5)


def test_a_full_grid_is_plain_trilinear_interpolation():
    x = voxels(1, 5, 1, 1.0)
    points = torch.rand(60, 3) * 4 + 0.5
    dense = torch.empty(3, 5, 5, 5)
    dense[(slice(None), *x.coords[:, 1:].long().unbind(1))] = x.feats.T
    grid = (points.flip(-1) / 5 * 2 - 1)[None, :, None, None]  # grid_sample wants z, y, x
    expected = torch.nn.functional.grid_sample(dense[None], grid, align_corners=False)[0, :, :, 0, 0].T
    torch.testing.assert_close(sample_voxels(x, points), expected, atol=1e-5, rtol=1e-5)


def test_a_linear_field_keeps_its_value_at_centers_and_one_voxel_fills_its_surroundings():
    x = voxels(2, 4, 1, 0.4)
    torch.testing.assert_close(sample_voxels(x, x.coords[:, 1:] + 0.5), x.feats)
    alone = SparseTensor(torch.tensor([[7.0]]), torch.tensor([[0, 3, 3, 3]], dtype=torch.int32))
    points = torch.tensor([[3.5, 3.5, 3.5], [4.4, 2.6, 3.0], [4.6, 3.5, 3.5], [2.4, 3.5, 3.5]])
    assert sample_voxels(alone, points).squeeze(1).tolist() == [7.0, 7.0, 0.0, 0.0]


def test_points_far_outside_find_nothing():
    edge = [[0, 0, 0, 0], [0, MAX_COORDINATE] + [MAX_COORDINATE] * 2]
    x = SparseTensor(torch.ones(2, 1), torch.tensor(edge, dtype=torch.int32))
    far = torch.tensor([[-5.0, 0, 0], [0, 1e9, 0], [0, 0, -1e9], [float("nan"), 0, 0], [float("inf"), 0, 0]])
    assert sample_voxels(x, far).nan_to_num(-1.0).abs().max() == 0
    assert sample_voxels(x, torch.tensor([[MAX_COORDINATE + 0.5] * 3, [0.0, 0.0, 0.0]])).squeeze(1).tolist() == [
        1.0,
        1.0,
    ]


def test_many_points_are_looked_up_in_chunks(monkeypatch):
    x = voxels(3, 4, 1, 0.5)
    points = torch.rand(50, 3) * 4
    whole = sample_voxels(x, points)
    monkeypatch.setattr(grid_sample, "CHUNK", 7)
    assert torch.equal(sample_voxels(x, points), whole)


def test_gradients_reach_the_attributes():
    x = voxels(4, 3, 1, 0.6)
    feats = x.feats.clone().requires_grad_()
    points = torch.rand(10, 3) * 3
    sample_voxels(x.replace(feats), points).sum().backward()
    hit = sample_voxels(x.replace(torch.ones_like(feats)), points)[:, 0].sum()
    torch.testing.assert_close(feats.grad[:, 0].sum(), hit)


@pytest.mark.parametrize(
    "points, item, said",
    [(torch.zeros(4, 2), 0, r"\[P, 3\]"), (torch.zeros(4, 3), torch.zeros(3), "4 points need")],
)
def test_what_does_not_fit_is_named(points, item, said):
    with pytest.raises(InputError, match=said):
        sample_voxels(voxels(5, 2, 1, 1.0), points, item)
