"""What many pictures say about one voxel, in whatever order they come.

Per voxel: mean and variance of the features of the views that see it; every view's features, with both of them, go
through two small networks: one gives a change, the other a weight; the result is the mean plus the weighted changes.
`aggregate` is the definition; `aggregate_tokens` gives the same from the patch tokens, without the [N, V, 3 D] tensor:
the first layers act on every token once instead of on every sample, samples that are outside of a picture are never
computed, and the last layer acts on the weighted sum. Source: GenRecon, specification 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError

MASKED = -1e9
PAIR_BYTES = 64 << 20  # working memory of one batch of samples
TABLE_BYTES = 1 << 30  # above it the first layers' results are kept per batch only


class AggregatorWeights(NamedTuple):
    """weight and bias of the layers: feature [D, 3D (+ E)], [D, D], [D, D]; weight [D, 3D (+ E)], [1, D]."""

    feature: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    weight: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def aggregate(
    feats: Tensor, mask: Tensor, weights: AggregatorWeights, extra: Tensor | None = None, two_pass: bool = True
) -> Tensor:
    """The definition: [V, D] from the features feats [N, V, D] of N views, mask [N, V] bool.

    extra: [N, V, E], further inputs of both networks. two_pass: variance around the mean (the sparse models);
    otherwise mean of squares minus square of the mean, not below 0 (the dense model). Voxels that no view sees are 0.
    """
    m = mask[..., None].to(feats.dtype)
    count = m.sum(0).clamp(min=1)
    mean = (m * feats).sum(0) / count
    if two_pass:
        variance = (m * (feats - mean).square()).sum(0) / count
    else:
        variance = ((m * feats.square()).sum(0) / count - mean.square()).clamp(min=0)
    parts = [feats * m, mean.expand_as(feats), variance.expand_as(feats)]
    h = torch.cat(parts if extra is None else [*parts, extra], -1)
    (w0, b0), (w2, b2), (w4, b4) = weights.feature
    change = F.linear(F.relu(F.linear(F.relu(F.linear(h, w0, b0)), w2, b2)), w4, b4)
    (v0, c0), (v2, c2) = weights.weight
    logits = F.linear(F.relu(F.linear(h, v0, c0)), v2, c2)[..., 0].masked_fill(~mask, MASKED)
    share = torch.softmax(logits.float(), 0).to(feats.dtype) * mask.any(0)
    return mean + (share[..., None] * change).sum(0)


def _split(weight: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return weight.split([width, width, width, weight.shape[1] - 3 * width], dim=1)


@torch.no_grad()
def aggregate_tokens(
    tokens: Tensor,
    patch: Tensor,
    valid: Tensor,
    weights: AggregatorWeights,
    *,
    prefix: int = 5,
    extra: Callable[[Tensor, Tensor], Tensor] | None = None,
    two_pass: bool = True,
    pair_bytes: int = PAIR_BYTES,
    table_bytes: int = TABLE_BYTES,
) -> Tensor:
    """`aggregate` of `lift(tokens, patch, valid, prefix)`, [V, D], streamed over voxels.

    tokens: [N, prefix + P, D]; patch: [N, V] int64; valid: [N, V] bool. extra: (view [S], voxel [S]) -> [S, E] for
    samples. pair_bytes, table_bytes: working memory. Raises InputError for shapes that do not fit.
    """
    count_views, length, width = tokens.shape
    if patch.shape != valid.shape or patch.ndim != 2 or len(patch) != count_views:
        raise InputError(
            f"`patch` is {list(patch.shape)} and `valid` {list(valid.shape)}; {count_views} views need [N, V] each."
        )
    (w0, b0), (w2, b2), (w4, b4) = weights.feature
    (v0, c0), (v2, c2) = weights.weight
    if w0.shape[1] < 3 * width:
        raise InputError(f"The features are {width} wide; this aggregator takes {w0.shape[1] // 3}.")
    dtype = w0.dtype
    table = tokens.reshape(-1, width).to(dtype)
    w_own, w_mean, w_var, w_extra = _split(w0, width)
    v_own, v_mean, v_var, v_extra = _split(v0, width)
    first = torch.cat([w_own, v_own])  # both networks' first layers on a token, in one product
    shared = torch.cat([torch.cat([w_mean, v_mean]), torch.cat([w_var, v_var])], 1)
    bias = torch.cat([b0, c0])
    added = torch.cat([w_extra, v_extra]) if extra is not None else None

    voxel, view = valid.T.nonzero(as_tuple=True)
    row = view * length + patch.T[voxel, view] + prefix
    per_voxel = valid.sum(0)
    ends = per_voxel.cumsum(0)
    out = tokens.new_zeros(valid.shape[1], width, dtype=dtype)
    if not len(row):
        return out
    batch = max(count_views, pair_bytes // (first.element_size() * 5 * 2 * width))
    used, place = torch.unique(row, return_inverse=True)
    whole = len(used) * 2 * width * first.element_size() <= table_bytes
    projected = _project(table, used, first) if whole else None

    start_voxel = 0
    while start_voxel < len(out):
        done = int(ends[start_voxel - 1]) if start_voxel else 0
        stop_voxel = int(torch.searchsorted(ends, done + batch, right=True).clamp(min=start_voxel + 1))
        stop_voxel = min(stop_voxel, len(out))
        pairs = slice(done, int(ends[stop_voxel - 1]))
        if pairs.stop > pairs.start:
            local = voxel[pairs] - start_voxel
            rows = row[pairs]
            n = per_voxel[start_voxel:stop_voxel]
            count = n.clamp(min=1).to(dtype)[:, None]
            offsets = n.cumsum(0) - n
            mean = F.embedding_bag(rows, table, offsets, mode="sum") / count
            own = table[rows]
            if two_pass:
                square = (own - mean[local]).square_()
                variance = torch.zeros_like(mean).index_add_(0, local, square).div_(count)
            else:
                square = own.square()
                variance = torch.zeros_like(mean).index_add_(0, local, square).div_(count)
                variance = (variance - mean.square()).clamp_(min=0)
            del own, square
            if whole:
                h = projected[place[pairs]]
            else:
                used, place_here = torch.unique(rows, return_inverse=True)
                h = _project(table, used, first)[place_here]
            h += F.linear(torch.cat([mean, variance], 1), shared, bias)[local]
            if added is not None:
                h += F.linear(extra(view[pairs], voxel[pairs]).to(dtype), added)
            h.relu_()
            change, gate = h.split(width, 1)
            logit = F.linear(gate, v2, c2)[:, 0].float()
            share = _segment_softmax(logit, local, len(n)).to(dtype)
            change = F.linear(change, w2, b2).relu_().mul_(share[:, None])
            total = torch.zeros_like(mean).index_add_(0, local, change)
            seen = (n > 0).to(dtype)[:, None]
            out[start_voxel:stop_voxel] = mean + F.linear(total, w4) + b4 * seen
        start_voxel = stop_voxel
    return out


def _project(table: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    return F.linear(table[rows], weight)


def _segment_softmax(logit: Tensor, segment: Tensor, count: int) -> Tensor:
    top = logit.new_full((count,), -torch.inf).scatter_reduce_(0, segment, logit, "amax")
    share = (logit - top[segment]).exp_()
    total = logit.new_zeros(count).index_add_(0, segment, share)
    return share / total[segment]
