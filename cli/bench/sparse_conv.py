"""Submanifold sparse convolution on a voxelized surface, with and without building the neighbor map."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op


def surface_voxels(resolution: int):
    """[N, 4] int32 voxels of a bumpy closed surface, about 2.2 resolution^2 of them, lexicographic."""
    import torch

    line = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    radius = (x * x + y * y + z * z).sqrt()
    bumps = 0.72 + 0.06 * torch.sin(5 * x) * torch.sin(5 * y) * torch.sin(5 * z)
    coords = torch.nonzero((radius - bumps).abs() < 1.35 / resolution).to(torch.int32)
    return torch.nn.functional.pad(coords, (1, 0))


def _layer(case: dict):
    import torch

    generator = torch.Generator().manual_seed(0)
    coords, width = surface_voxels(case["resolution"]), case["channels"]
    feats = torch.randn(len(coords), width, generator=generator)
    weight = torch.randn(width, 3, 3, 3, width, generator=generator) / (9 * width) ** 0.5
    bias = torch.randn(width, generator=generator)
    return [tensor.to(case["device"]) for tensor in (feats, coords, weight, bias)]


def _ours(backend: str, warm: bool):
    def prepare(case):
        import torch

        from ...kernels.sparse_conv import submanifold_conv3d
        from ...scene.sparse import SparseTensor

        feats, coords, weight, bias = _layer(case)
        kept = SparseTensor(feats, coords)

        def convolve():
            x = kept if warm else SparseTensor(feats, coords)
            with torch.no_grad():
                return {"feats": submanifold_conv3d(x, weight, bias, backend=backend).feats}

        return convolve

    return prepare


def _core(warm: bool):
    def prepare(case):
        import torch

        module = opponents.comfyui("comfy.ldm.trellis2.flexgemm", case["device"])
        feats, coords, weight, bias = _layer(case)
        shape = (case["resolution"],) * 3
        cache = None
        if warm:
            cache = module.sparse_submanifold_conv3d(feats, coords, shape, weight, bias, None, (1, 1, 1))[1]

        def convolve():
            with torch.no_grad():
                out, _ = module.sparse_submanifold_conv3d(feats, coords, shape, weight, bias, cache, (1, 1, 1))
            return {"feats": out}

        return convolve

    return prepare


def _spconv(case):
    import torch

    spconv = opponents.library("spconv.pytorch", "spconv")
    feats, coords, weight, bias = _layer(case)
    width = case["channels"]
    layer = spconv.SubMConv3d(width, width, 3, bias=True).to(case["device"])
    layer.weight.data = weight.contiguous()
    layer.bias.data = bias

    def convolve():
        x = spconv.SparseConvTensor(feats, coords, [case["resolution"]] * 3, 1)
        with torch.no_grad():
            return {"feats": layer(x).features}

    return convolve


SIZES = {
    "S": dict(resolution=95, channels=64),  # 20,000 voxels
    "M": dict(resolution=212, channels=64),  # 100,000 voxels
    "L": dict(resolution=212, channels=256),
}
OPS = [
    Op(
        "sparse_conv",
        "3x3x3 submanifold convolution of a surface's voxels, neighbor map included",
        SIZES,
        (
            Contender("ours", _ours("auto", False)),
            Contender("ours, whole neighborhoods", _ours("table", False), note="the definition; the default on a GPU"),
            Contender("core", _core(False), note="ComfyUI's own TRELLIS.2 decoder"),
            Contender("spconv", _spconv, note="on a CPU its results are wrong with more than one thread"),
        ),
    ),
    Op(
        "sparse_conv_warm",
        "the same with the neighbor map at hand, as in every layer but the first of a level",
        SIZES,
        (Contender("ours", _ours("auto", True)), Contender("core", _core(True))),
    ),
]
