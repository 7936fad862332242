"""The aggregator in training: the same function as `kernels.view_aggregation`, on visible samples only, with gradients.

Of the optional camera inputs of the aggregator only the distance of voxel and camera is used here (meters): the others
depend on where a scene's joint frame lies. Their columns stay zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.view_projection import in_camera, project_to_patches
from ...models.genrecon.aggregator import ViewAggregator

DISTANCE = 4  # which of the camera inputs it is


@dataclass(frozen=True, eq=False)
class Visible:
    """The samples in which a voxel lies in a picture: row [S] of the flattened tokens, voxel [S], distance [S]; of so
    many voxels."""

    row: Tensor
    voxel: Tensor
    distance: Tensor
    voxels: int


def visible_samples(points: Tensor, extrinsics: Tensor, lens: Tensor, patches: int, prefix: int = 5) -> Visible:
    """Samples of points [V, 3] in N views; extrinsics [N, 4, 4] to cameras in meters, lens [N, 3, 3]."""
    patch, valid = project_to_patches(points, extrinsics, lens, patches)
    voxel, view = valid.T.nonzero(as_tuple=True)
    row = view * (prefix + patches * patches) + patch[view, voxel] + prefix
    distance = in_camera(points, extrinsics)[view, voxel].norm(dim=-1)
    return Visible(row, voxel, distance, len(points))


def join(parts: list[Visible], rows: int) -> Visible:
    """Samples of several items, whose tokens ([N, L, D], N L = `rows` each) are joined in the same order."""
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.voxels)
    return Visible(
        torch.cat([p.row + i * rows for i, p in enumerate(parts)]),
        torch.cat([p.voxel + start for p, start in zip(parts, starts)]),
        torch.cat([p.distance for p in parts]),
        starts[-1],
    )


def clear_unused(aggregator: ViewAggregator) -> ViewAggregator:
    """Zero the columns of the camera inputs that are not used."""
    if aggregator.use_camera:
        for layer in (aggregator.feature_mlp[0], aggregator.weight_mlp[0]):
            layer.weight.data[:, -5:-1] = 0
    return aggregator


def aggregate_visible(aggregator: ViewAggregator, tokens: Tensor, seen: Visible) -> Tensor:
    """[V, D] of the voxels from tokens [R, D]; equal to `aggregate` up to rounding. Voxels no view sees are 0."""
    width = tokens.shape[1]
    (w0, b0), (w2, b2), (w4, b4) = aggregator.weights.feature
    (v0, c0), (v2, c2) = aggregator.weights.weight
    count = torch.bincount(seen.voxel, minlength=seen.voxels).clamp_min(1).float()[:, None]
    own = tokens[seen.row].float()
    empty = own.new_zeros(seen.voxels, width)
    mean = empty.index_add(0, seen.voxel, own) / count
    variance = empty.index_add(0, seen.voxel, (own - mean[seen.voxel]).square()) / count
    first, bias = torch.cat([w0, v0]), torch.cat([b0, c0])
    h = F.linear(tokens, first[:, :width])[seen.row].float()
    h = h + F.linear(torch.cat([mean, variance], 1), first[:, width : 3 * width], bias).float()[seen.voxel]
    if aggregator.use_camera:
        h = h + seen.distance[:, None] * first[:, 3 * width + DISTANCE]
    change, gate = F.relu(h).split(width, 1)
    logit = F.linear(gate, v2, c2)[:, 0].float()
    top = logit.new_full((seen.voxels,), -torch.inf).scatter_reduce(0, seen.voxel, logit.detach(), "amax")
    share = (logit - top[seen.voxel]).exp()
    total = share.new_zeros(seen.voxels).index_add(0, seen.voxel, share)
    share = share / total[seen.voxel]
    change = F.relu(F.linear(change, w2, b2)).float() * share[:, None]
    summed = empty.index_add(0, seen.voxel, change)
    there = (torch.bincount(seen.voxel, minlength=seen.voxels) > 0).float()[:, None]
    return mean + F.linear(summed, w4).float() + b4 * there


KNOTS = (-0.8, -0.5, -0.3, -0.15, 0.0, 0.15, 0.3, 0.5, 0.8)  # meters


def begin_as_fusion(aggregator: ViewAggregator, weight: Tensor, bias: float) -> ViewAggregator:
    """Set some hidden units of an aggregator to functions of how far a voxel lies in front of what a view sees there.

    weight [D], bias: the linear reading of the distance (meters) of what a patch sees from its feature. Views whose
    surface lies before the voxel get little weight, as in the fusion of truncated distances.
    """
    width = len(weight)
    free = aggregator.feature_mlp[0].weight.data.norm(dim=1).argsort()
    units = [(sign, knot) for knot in KNOTS for sign in (1.0, -1.0)]

    def put(layer, row: int, sign: float, knot: float) -> None:
        layer.weight.data[row] = 0
        layer.weight.data[row, :width] = sign * 4 * weight
        layer.weight.data[row, 3 * width + DISTANCE] = -sign * 4
        layer.bias.data[row] = sign * 4 * (bias - knot)

    for row, (sign, knot) in zip(free.tolist(), units):
        put(aggregator.feature_mlp[0], row, sign, knot)
    gates = aggregator.weight_mlp[0].weight.data.norm(dim=1).argsort()[:2].tolist()
    for row, (sign, knot, value) in zip(gates, ((-1.0, -0.15, -1.2), (1.0, 0.3, -0.3))):
        put(aggregator.weight_mlp[0], row, sign, knot)
        aggregator.weight_mlp[2].weight.data[0, row] = value
    return aggregator
