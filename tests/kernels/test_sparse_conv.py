import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels import sparse_conv
from sightline.kernels.sparse_conv import neighbor_map, neighbor_table, submanifold_conv3d
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


def random_voxels(seed, resolution, batch_size, channels, density=0.4, shuffle=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(batch_size, *[resolution] * 3, generator=generator) < density
    coords = torch.nonzero(occupied).to(torch.int32)
    if shuffle:  # within the items, as decoders leave them
        noise = torch.rand(len(coords), generator=generator) * 0.5
        coords = coords[torch.argsort(coords[:, 0] + noise)]
    feats = torch.randn(len(coords), channels, generator=generator, dtype=dtype)
    return SparseTensor(feats, coords, batch_size)


def random_kernel(seed, ci, co, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(co, 3, 3, 3, ci, generator=generator, dtype=dtype) / ci**0.5
    return weight, torch.randn(co, generator=generator, dtype=dtype)


def dense_convolution(x, weight, bias, resolution):
    dense = x.feats.new_zeros(x.batch_size, *[resolution] * 3, x.feats.shape[1])
    b, i, j, k = x.coords.long().unbind(1)
    dense[b, i, j, k] = x.feats
    out = torch.nn.functional.conv3d(dense.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3), bias, padding=1)
    return out.permute(0, 2, 3, 4, 1)[b, i, j, k]


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 3), st.sampled_from([0.05, 0.4, 1.0]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_both_paths_equal_the_dense_convolution_at_the_voxels(seed, resolution, items, density, shuffle):
    x = random_voxels(seed, resolution, items, 5, density, shuffle)
    weight, bias = random_kernel(seed + 1, 5, 6)
    expected = dense_convolution(x, weight, bias, resolution)
    for backend in ("table", "pairs", "auto"):
        out = submanifold_conv3d(x, weight, bias, backend=backend)
        assert out.coords is x.coords and out.cache is x.cache
        torch.testing.assert_close(out.feats, expected, atol=2e-5, rtol=1e-5)


def test_many_blocks_and_chunks_give_the_same(monkeypatch):
    x = random_voxels(3, 12, 2, 8)
    weight, bias = random_kernel(4, 8, 4)
    expected = dense_convolution(x, weight, bias, 12)
    monkeypatch.setattr(sparse_conv, "SEGMENT", 64)
    monkeypatch.setattr(sparse_conv, "GEMM_ROWS", 7)
    monkeypatch.setattr(sparse_conv, "TABLE_BYTES", 27 * 8 * 4 * 10)
    for backend in ("table", "pairs"):
        out = submanifold_conv3d(x.replace(x.feats), weight, bias, backend=backend)
        torch.testing.assert_close(out.feats, expected, atol=2e-5, rtol=1e-5)


def test_large_maps_are_cut_into_blocks_of_whole_segments():
    x = random_voxels(5, 18, 1, 256)
    assert len(x) > 2 * sparse_conv.SEGMENT
    weight, bias = random_kernel(6, 256, 256)
    expected = submanifold_conv3d(x, weight, bias, backend="table").feats
    out = submanifold_conv3d(x, weight, bias, backend="pairs").feats
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_map_lists_every_pair_once_in_both_directions():
    x = random_voxels(7, 6, 2, 1)
    table = neighbor_table(x)
    assert torch.equal(table[:, 13].long(), torch.arange(len(x)))
    shifts = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 3)
    for k, pair in enumerate(neighbor_map(x).pairs):
        if pair is None:
            assert k == 13
            continue
        targets, sources = (rows.long() for rows in pair)
        assert torch.equal(x.coords[targets, 1:] + shifts[k], x.coords[sources, 1:].long())
        assert torch.equal(x.coords[targets, 0], x.coords[sources, 0])
        assert int((table[:, k] < len(x)).sum()) == len(targets)


def test_the_map_is_built_once_per_set_of_coordinates(monkeypatch):
    x = random_voxels(8, 5, 1, 3)
    first = neighbor_map(x)
    monkeypatch.setattr(sparse_conv, "_build_map", lambda _: pytest.fail("built twice"))
    weight, bias = random_kernel(9, 3, 3)
    y = submanifold_conv3d(submanifold_conv3d(x, weight, bias), weight, bias)
    assert neighbor_map(y) is first


@pytest.mark.parametrize("backend", ["table", "pairs"])
def test_gradients(backend):
    x = random_voxels(10, 4, 2, 2, 0.5, dtype=torch.float64)
    weight, bias = random_kernel(11, 2, 3, torch.float64)
    inputs = [t.requires_grad_() for t in (x.feats, weight, bias)]

    def run(feats, weight, bias):
        return submanifold_conv3d(x.replace(feats), weight, bias, backend=backend).feats

    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("dtype, eps", [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("backend", ["table", "pairs"])
def test_half_precision_is_rounded_once(dtype, eps, backend):
    x = random_voxels(12, 8, 1, 64, 0.5)
    weight, bias = random_kernel(13, 64, 16)
    half = x.replace(x.feats.to(dtype))
    exact = submanifold_conv3d(
        half.replace(half.feats.double()), weight.to(dtype).double(), bias.to(dtype).double(), backend="table"
    ).feats
    out = submanifold_conv3d(half, weight.to(dtype), bias.to(dtype), backend=backend).feats
    assert out.dtype == dtype
    assert bool(((out.double() - exact).abs() <= eps * exact.abs() + 1e-4).all())


def test_row_order_and_other_items_do_not_matter():
    x = random_voxels(14, 6, 3, 4)
    weight, bias = random_kernel(15, 4, 4)
    together = submanifold_conv3d(x, weight, bias).feats
    for i in range(3):
        alone = submanifold_conv3d(x.item(i), weight, bias).feats
        torch.testing.assert_close(alone, together[x.layout[i]], atol=1e-5, rtol=0)


def test_no_voxel_gives_no_voxel():
    x = SparseTensor(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.int32), 1)
    assert submanifold_conv3d(x, *random_kernel(16, 4, 5)).feats.shape == (0, 5)


@pytest.mark.parametrize(
    "shape, bias, backend, said",
    [
        ((5, 3, 3, 3, 3), None, "auto", "takes 3 channels"),
        ((5, 4, 3, 3, 3), None, "auto", r"\[Co, 3, 3, 3, Ci\]"),
        ((5, 3, 3, 3, 4), 4, "auto", r"must be \[5\]"),
        ((5, 3, 3, 3, 4), 5, "hash", "'table'"),
    ],
)
def test_what_does_not_fit_is_named(shape, bias, backend, said):
    x = random_voxels(17, 3, 1, 4)
    with pytest.raises(InputError, match=said):
        submanifold_conv3d(x, torch.zeros(shape), None if bias is None else torch.zeros(bias), backend=backend)
