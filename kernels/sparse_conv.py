"""Submanifold sparse convolution: 3x3x3 kernels evaluated at the voxels that exist, over the neighbors that exist."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import AXIS_STEPS, SparseTensor

CENTER = 13  # offset index (kx*3 + ky)*3 + kz of the voxel itself
SEGMENT = 1024  # rows between two recorded cuts of a pair list
GEMM_ROWS = (1 << 19) - 1  # larger products have overflowed 32-bit indexing in some GPU libraries
TABLE_BYTES = 1 << 28  # gathered neighborhoods held at once by the table path


@dataclass(frozen=True)
class NeighborMap:
    """Which voxel reads which, per kernel offset k = (kx*3 + ky)*3 + kz.

    pairs[k]: (targets [P_k], sources [P_k]) int32 row indices: voxel `targets[i]` sees voxel `sources[i]` at offset k,
        in ascending order of the targets' coordinates. pairs[26-k] is pairs[k] with the roles exchanged, on the same
        storage; the center has none.
    cuts: [27, S + 1] int64; pairs of targets s*SEGMENT.. in coordinate order begin at cuts[k, s]. Blocks of targets
        that lie close together keep features and results in the processor's cache.
    """

    pairs: list[tuple[Tensor, Tensor] | None]
    cuts: Tensor
    rows: int


def neighbor_map(x: SparseTensor) -> NeighborMap:
    """The neighbor map of x's coordinates, built once and shared by all tensors on them.

    Four binary searches per voxel find its 26 neighbors: three neighbors along z follow one another in key order, and
    every pair found serves both of its voxels.
    """
    return x.once("neighbor_map", lambda: _build_map(x))


def _build_map(x: SparseTensor) -> NeighborMap:
    keys, order = x.sorted_keys
    n = keys.shape[0]
    bounds = torch.arange(0, n + SEGMENT, SEGMENT, device=keys.device)
    pairs: list[tuple[Tensor, Tensor] | None] = [None] * 27
    cuts = torch.zeros(27, bounds.shape[0], dtype=torch.int64, device=keys.device)

    def record(k: int, first: Tensor, second: Tensor) -> None:
        cuts[k] = torch.searchsorted(first, bounds)
        cuts[26 - k] = torch.searchsorted(second, bounds)
        if order is not None:
            first, second = order.index_select(0, first), order.index_select(0, second)
        first, second = first.to(torch.int32), second.to(torch.int32)
        pairs[k], pairs[26 - k] = (first, second), (second, first)

    above = torch.nonzero(keys[1:] - keys[:-1] == 1).squeeze(1)
    record(CENTER + 1, above, above + 1)
    padded = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    for dx, dy in ((0, 1), (1, -1), (1, 0), (1, 1)):
        wanted = keys + (dx * AXIS_STEPS[0] + dy * AXIS_STEPS[1] - 1)
        place = torch.searchsorted(keys, wanted)
        for dz in (-1, 0, 1):
            hit = padded.index_select(0, place) == wanted
            first = torch.nonzero(hit).squeeze(1)
            record(CENTER + dx * 9 + dy * 3 + dz, first, place.index_select(0, first))
            place, wanted = place + hit, wanted + 1
    return NeighborMap(pairs, cuts, n)


def neighbor_table(x: SparseTensor) -> Tensor:
    """[N, 27] int32 row of the voxel at every offset, N where there is none; cached like the map."""
    return x.once("neighbor_table", lambda: _build_table(x.cache.get("neighbor_map") or _build_map(x), x))


def _build_table(neighbors: NeighborMap, x: SparseTensor) -> Tensor:
    n = len(x)
    table = torch.full((27, n), n, dtype=torch.int32, device=x.coords.device)
    table[CENTER] = torch.arange(n, dtype=torch.int32, device=table.device)
    for k, pair in enumerate(neighbors.pairs):
        if pair is not None:
            table[k, pair[0].long()] = pair[1]
    return table.T.contiguous()


def submanifold_conv3d(
    x: SparseTensor, weight: Tensor, bias: Tensor | None = None, *, backend: str = "auto"
) -> SparseTensor:
    """3x3x3 convolution whose output voxels are exactly the input voxels; differentiable.

    out[p] = bias + sum_k weight[:, kx, ky, kz] @ f[p + k - 1] over the voxels present (cross-correlation).
    x: features [N, Ci]. weight: [Co, 3, 3, 3, Ci], kernel axes in the order of the coordinate columns x, y, z.
    bias: [Co] or None. Result: features [N, Co] of x's dtype on the same voxels.
    Half precision is accumulated in float32; on a CPU the products themselves are float32, where half precision
    products are up to a hundred times slower.
    backend: "table" gathers whole neighborhoods into one product per chunk (the definition, best on a GPU), "pairs"
        multiplies only the neighbors that exist, offset by offset in cache-sized blocks (best on a CPU, and where
        gradients are wanted, since it keeps no neighborhoods for them); "auto" picks.
    Raises InputError for shapes that do not fit. Source: TRELLIS.2, sparse convolution with FlexGEMM's weight layout.
    """
    if weight.ndim != 5 or weight.shape[1:4] != (3, 3, 3):
        raise InputError(f"`weight` has shape {list(weight.shape)}; submanifold_conv3d needs [Co, 3, 3, 3, Ci].")
    if x.feats.ndim != 2 or x.feats.shape[1] != weight.shape[4]:
        raise InputError(f"`x` has features {list(x.feats.shape)}, but `weight` takes {weight.shape[4]} channels.")
    if bias is not None and bias.shape != (weight.shape[0],):
        raise InputError(f"`bias` has shape {list(bias.shape)}; it must be [{weight.shape[0]}].")
    if backend == "auto":
        graph = torch.is_grad_enabled() and (x.feats.requires_grad or weight.requires_grad)
        backend = "pairs" if graph or x.device.type == "cpu" else "table"
    if len(x) == 0:
        return x.replace(x.feats.new_zeros(0, weight.shape[0]))
    matrices = weight.flatten(1, 3)  # [Co, 27, Ci]
    if backend == "table":
        return x.replace(_by_table(x, matrices, bias))
    if backend == "pairs":
        return x.replace(_PairConvolution.apply(x.feats, matrices, bias, neighbor_map(x)))
    raise InputError(f"`backend` is {backend!r}; submanifold_conv3d knows 'auto', 'table' and 'pairs'.")


def _compute_dtype(feats: Tensor) -> torch.dtype:
    half = feats.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half and feats.device.type == "cpu" else feats.dtype


def _by_table(x: SparseTensor, matrices: Tensor, bias: Tensor | None) -> Tensor:
    dtype = _compute_dtype(x.feats)
    co, _, ci = matrices.shape
    table = neighbor_table(x)
    padded = torch.cat([x.feats.to(dtype), x.feats.new_zeros(1, ci, dtype=dtype)])
    flat = matrices.reshape(co, 27 * ci).T.to(dtype)
    rows = min(GEMM_ROWS, max(1, TABLE_BYTES // (27 * ci * padded.element_size())))
    chunks = []
    for start in range(0, len(x), rows):
        chosen = table[start : start + rows]
        gathered = padded.index_select(0, chosen.flatten()).view(chosen.shape[0], 27 * ci)
        out = gathered @ flat
        chunks.append((out if bias is None else out + bias.to(dtype)).to(x.dtype))
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


class _PairConvolution(torch.autograd.Function):
    """The sum over existing pairs; the backward pass is the same sum with the kernel mirrored and transposed."""

    @staticmethod
    def forward(ctx, feats: Tensor, matrices: Tensor, bias: Tensor | None, neighbors: NeighborMap) -> Tensor:
        ctx.save_for_backward(feats, matrices)
        ctx.neighbors = neighbors
        return _sum_pairs(feats, matrices.transpose(1, 2), bias, neighbors).to(feats.dtype)  # matrices: [Co, Ci, 27]

    @staticmethod
    def backward(ctx, grad: Tensor):
        feats, matrices = ctx.saved_tensors
        neighbors, needed = ctx.neighbors, ctx.needs_input_grad
        grad = grad.contiguous()
        grad_feats = grad_matrices = grad_bias = None
        if needed[0]:
            mirrored = matrices.flip(1).permute(2, 0, 1)  # [Ci, Co, 27]
            grad_feats = _sum_pairs(grad, mirrored, None, neighbors).to(feats.dtype)
        if needed[1]:
            grad_matrices = _pair_products(grad, feats, neighbors).to(matrices.dtype)
        if needed[2]:
            grad_bias = grad.sum(0)
        return grad_feats, grad_matrices, grad_bias, None


def _sum_pairs(feats: Tensor, matrices: Tensor, bias: Tensor | None, neighbors: NeighborMap) -> Tensor:
    """sum_k matrices[:, :, k] @ feats[source] at every target; [N, Co] float32 or wider. matrices: [Co, Ci, 27]."""
    dtype = torch.promote_types(feats.dtype, torch.float32)
    co, ci, _ = matrices.shape
    segments = neighbors.cuts.shape[1] - 1
    step = min(segments, max(1, (1 << 19) // ((ci + co) * SEGMENT)))
    cuts = neighbors.cuts[:, list(range(0, segments, step)) + [segments]].tolist()
    blocks = len(cuts[0]) - 1
    feats = feats.to(dtype)
    if blocks > 1:
        matrices = matrices.to(dtype)  # once; a single block converts one offset at a time, in 1/27 of the memory

    def matrix(k: int) -> Tensor:
        return matrices[:, :, k].T.to(dtype)

    out = feats @ matrix(CENTER)
    if bias is not None:
        out += bias.to(dtype)
    for block in range(blocks):
        for k, pair in enumerate(neighbors.pairs):
            if pair is None or cuts[k][block] == cuts[k][block + 1]:
                continue
            start, end = cuts[k][block], cuts[k][block + 1]
            for part in range(start, end, GEMM_ROWS):
                rows = slice(part, min(end, part + GEMM_ROWS))
                product = feats.index_select(0, pair[1][rows]) @ matrix(k)
                out.index_add_(0, pair[0][rows].long(), product)  # four times faster than with an int32 index
    return out


def _pair_products(grad: Tensor, feats: Tensor, neighbors: NeighborMap) -> Tensor:
    """[Co, 27, Ci] sums of grad[target]^T feats[source] per offset."""
    dtype = torch.promote_types(feats.dtype, torch.float32)
    grad, feats = grad.to(dtype), feats.to(dtype)
    out = grad.new_zeros(grad.shape[1], 27, feats.shape[1])
    out[:, CENTER] = grad.T @ feats
    for k, pair in enumerate(neighbors.pairs):
        if pair is None:
            continue
        for targets, sources in zip(pair[0].split(GEMM_ROWS), pair[1].split(GEMM_ROWS)):
            out[:, k] += grad.index_select(0, targets).T @ feats.index_select(0, sources)
    return out
