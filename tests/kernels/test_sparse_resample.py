import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels.sparse_resample import channel_to_space, gather_children, space_to_channel, subdivide
from sightline.scene.errors import InputError
from sightline.scene.sparse import MAX_COORDINATE, SparseTensor


def voxels(seed, resolution, items, channels):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.nonzero(torch.rand(items, *[resolution] * 3, generator=generator) < 0.4).to(torch.int32)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator), coords, items)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_children_take_their_slot_in_parent_order(seed, resolution, items):
    x = voxels(seed, resolution, items, 24)
    mask = torch.rand(len(x), 8, generator=torch.Generator().manual_seed(seed)) < 0.5
    fine = channel_to_space(x, mask)
    row = 0
    for parent in range(len(x)):  # the definition, one child at a time
        for k in range(8):
            if mask[parent, k]:
                d = torch.tensor([0, k & 1, k >> 1 & 1, k >> 2])
                base = x.coords[parent] * torch.tensor([1, 2, 2, 2], dtype=torch.int32)
                assert torch.equal(fine.coords[row].long(), base + d)
                assert torch.equal(fine.feats[row], x.feats[parent].view(8, 3)[k])
                row += 1
    assert row == len(fine) and torch.equal(subdivide(x, mask).mask, mask)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_space_to_channel_and_back_is_the_identity(seed, resolution, items):
    x = voxels(seed, resolution, items, 3)
    coarse = space_to_channel(x)
    assert coarse.feats.shape[1] == 24
    parents = sorted({(b, i // 2, j // 2, k // 2) for b, i, j, k in x.coords.tolist()})
    assert [tuple(row) for row in coarse.coords.tolist()] == parents
    assert float(coarse.feats.abs().sum()) == pytest.approx(float(x.feats.abs().sum()), rel=1e-5, abs=1e-6)
    back = channel_to_space(coarse, gather_children(x))
    assert torch.equal(back.feats, x.feats) and torch.equal(back.coords, x.coords) and back.cache is x.cache


def test_one_plan_shares_its_caches():
    x = voxels(1, 4, 1, 8)
    plan = subdivide(x, torch.ones(len(x), 8, dtype=torch.bool))
    a, b = channel_to_space(x, plan), channel_to_space(x.replace(x.feats.repeat(1, 2)), plan)
    assert a.cache is b.cache and a.coords is b.coords
    assert space_to_channel(a, plan).cache is x.cache
    assert gather_children(a) is gather_children(b)


def test_gradients_reach_the_features():
    x = voxels(2, 3, 1, 8)
    feats = x.feats.double().requires_grad_()
    mask = torch.rand(len(x), 8) < 0.5
    assert torch.autograd.gradcheck(lambda f: space_to_channel(channel_to_space(x.replace(f), mask)).feats, feats)


def test_what_does_not_fit_is_named():
    x = voxels(3, 3, 1, 12)
    ones = torch.ones(len(x), 8, dtype=torch.bool)
    with pytest.raises(InputError, match="multiple of 8"):
        channel_to_space(x, ones)
    with pytest.raises(InputError, match="`mask` has shape"):
        subdivide(x, ones[1:])
    plan = subdivide(x, ones)
    with pytest.raises(InputError, match="subdivision was made for"):
        channel_to_space(voxels(4, 2, 1, 8), plan)
    with pytest.raises(InputError, match="subdivision leads to"):
        space_to_channel(x, plan)
    far = SparseTensor(torch.zeros(1, 8), torch.tensor([[0, MAX_COORDINATE, 0, 0]], dtype=torch.int32), 1)
    with pytest.raises(InputError, match="children exceed"):
        subdivide(far, torch.ones(1, 8, dtype=torch.bool))
