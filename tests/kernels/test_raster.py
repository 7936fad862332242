"""Pixels of triangles: the row spans against trying every pixel."""

import sys
import types
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels import backends
from sightline.kernels.raster import rasterize, rasterize_dense
from sightline.scene.errors import InputError


def triangles(seed: int, count: int, dtype=torch.float32, size: int = 24) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 1, 2, generator=g) * size + torch.randn(count, 3, 2, generator=g) * 5
    corners[::3] = (corners[::3] * 2).round() / 2  # corners and edges on pixel centers
    return corners.to(dtype)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), dtype=st.sampled_from([torch.float32, torch.float64]), depth=st.booleans())
def test_spans_find_what_trying_every_pixel_finds(seed, dtype, depth):
    corners = triangles(seed, 30, dtype)
    near = torch.rand(30, 3, generator=torch.Generator().manual_seed(seed)).to(dtype) if depth else None
    ours, twin = rasterize(corners, (21, 26), near), rasterize_dense(corners, (21, 26), near)
    assert torch.equal(ours.face, twin.face)
    assert torch.equal(ours.weights, twin.weights)


def test_many_portions_give_the_same(monkeypatch):
    corners = triangles(1, 60)
    near = torch.rand(60, 3)
    whole = rasterize(corners, (40, 40), near)
    monkeypatch.setattr("sightline.kernels.raster.CHUNK", 37)
    for part, one in zip(rasterize(corners, (40, 40), near), whole):
        assert torch.equal(part, one)


def test_a_cut_square_has_no_gap_and_one_owner():
    g = torch.Generator().manual_seed(3)
    grid = torch.stack(torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="xy"), -1) * 4
    grid[1:-1, 1:-1] += torch.rand(7, 7, 2, generator=g) * 3 - 1.5
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    corners = torch.stack([torch.stack([a, b, c], -2), torch.stack([a, c, d], -2)]).reshape(-1, 3, 2)
    assert (rasterize(corners, (32, 32)).face >= 0).all()


def test_weights_give_the_pixel_back():
    corners = triangles(5, 8)
    found = rasterize(corners, (24, 24))
    row, column = torch.nonzero(found.face >= 0, as_tuple=True)
    place = (corners[found.face[row, column]] * found.weights[row, column][..., None]).sum(1)
    assert (place - torch.stack([column + 0.5, row + 0.5], 1)).abs().max() < 1e-4
    assert len(row) > 20


def test_broken_triangles_cover_nothing():
    corners = torch.tensor(
        [[[0, 0], [9, 0], [float("nan"), 9]], [[0, 0], [8, 8], [4, 4]], [[50, 50], [60, 50], [50, 60]]]
    )
    assert (rasterize(corners.float(), (10, 10)).face == -1).all()


def test_progress_may_stop_it():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rasterize(triangles(0, 5), (10, 10), progress=stop)


@pytest.mark.parametrize("bad", [torch.zeros(3, 2), torch.zeros(1, 3, 2, dtype=torch.long)])
def test_bad_triangles(bad):
    with pytest.raises(InputError, match="triangles are floats"):
        rasterize(bad, (4, 4))


def test_a_picture_too_large():
    with pytest.raises(InputError, match="40000x4"):
        rasterize(torch.zeros(1, 3, 2), (4, 40000))


def foreign(wrong: bool):
    """A stand-in for nvdiffrast: clip space, corner weights u and v, face numbers from 1, first row at y = -1."""

    class Torch(types.ModuleType):
        class RasterizeCudaContext:
            def __init__(self, device):
                self.device = device

        @staticmethod
        def rasterize(context, place, triangles, resolution):
            height, width = resolution
            assert place.shape[0] == 1 and (place[..., 3] == 1).all() and place[..., 2].abs().max() <= 1
            corners = (place[0, :, :2] + 1) * place.new_tensor([width / 2, height / 2])
            near = -place[0, :, 2][triangles.long()]
            face, weights = rasterize_dense(corners[triangles.long()], (height, width), near)
            out = torch.cat([weights[..., :2], torch.zeros_like(weights[..., :1]), (face + 1)[..., None]], -1)
            return (out.flip(0) if wrong else out)[None], None

    package, inner = types.ModuleType("nvdiffrast"), Torch("nvdiffrast.torch")
    package.torch = inner
    return {"nvdiffrast": package, "nvdiffrast.torch": inner}


@pytest.mark.parametrize("wrong", [False, True])
def test_nvdiffrast_is_used_where_it_agrees(monkeypatch, wrong):
    for name, module in foreign(wrong).items():
        monkeypatch.setitem(sys.modules, name, module)
    given = backends.KNOWN["nvdiffrast"]
    backends.register(replace(given, device="cpu"))
    try:
        assert backends.verdict("nvdiffrast").state == ("disagreed" if wrong else "agreed")
        corners = (torch.rand(20, 1, 2) * 30 + torch.randn(20, 3, 2) * 4).double()
        found, twin = rasterize(corners, (31, 29), backend="nvdiffrast"), rasterize_dense(corners, (31, 29))
        clear = twin.weights.amin(-1) > 1e-3
        assert torch.equal(found.face[clear], twin.face[clear]) and found.weights.dtype == torch.float64
        assert (found.weights - twin.weights)[clear].abs().max() < 1e-3
    finally:
        backends.register(given)
