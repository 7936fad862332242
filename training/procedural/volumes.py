"""Distances, dual grids and materials of procedural objects on voxel grids of the cube [-0.5, 0.5]^3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .primitives import Primitive


def distance_grid(primitives: Sequence[Primitive], resolution: int, reach: float) -> Tensor:
    """Signed distance at the (resolution + 1)^3 corners, cut off at +-reach; float32 [R+1, R+1, R+1].

    Each primitive is evaluated only where it can matter: in its bounding box widened by `reach`.
    """
    line = torch.arange(resolution + 1) / resolution - 0.5
    grid = torch.full((resolution + 1,) * 3, reach)
    for primitive in primitives:
        points = primitive.outline_points()
        low = ((points.amin(0) - reach + 0.5) * resolution).floor().int().clamp(0, resolution)
        high = ((points.amax(0) + reach + 0.5) * resolution).ceil().int().clamp(0, resolution) + 1
        x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high))
        local = primitive.to_local(line[x, None, None], line[None, y, None], line[None, None, z])
        part = grid[x, y, z]
        torch.minimum(part, primitive.local_sdf(*torch.broadcast_tensors(*local)), out=part)
    return grid.clamp_(-reach, reach)


@dataclass(frozen=True)
class DualGrid:
    """The surface of a distance grid.

    coords [N, 3] int32, lexicographic: voxels with corners of both signs. dual [N, 3]: mean of the crossings of the
    voxel's edges, in voxel units [0, 1]. intersected [N, 3] bool: see `kernels.dual_grid`.
    """

    coords: Tensor
    dual: Tensor
    intersected: Tensor


def dual_grid(distance: Tensor) -> DualGrid:
    """Dual grid of corner distances [X+1, Y+1, Z+1], negative inside.

    Closed where the distances are positive on the faces of the box.
    """
    size = torch.tensor([n - 1 for n in distance.shape])
    _, sy, sz = size.tolist()
    cells = int(size.prod())
    inside = distance < 0
    total = torch.zeros(cells, 3)
    count = torch.zeros(cells)
    flags = torch.zeros(cells, 3, dtype=torch.bool)
    for axis in range(3):
        along_axis = distance.shape[axis] - 1
        first, second = distance.narrow(axis, 0, along_axis), distance.narrow(axis, 1, along_axis)
        edge = torch.nonzero(inside.narrow(axis, 0, along_axis) != inside.narrow(axis, 1, along_axis))
        a, b = first[tuple(edge.T)], second[tuple(edge.T)]
        along = a / (a - b)
        others = [k for k in range(3) if k != axis]
        for du in (0, 1):
            for dv in (0, 1):
                voxel = edge.clone()
                voxel[:, others[0]] -= du
                voxel[:, others[1]] -= dv
                kept = ((voxel >= 0) & (voxel < size)).all(1)
                voxel = voxel[kept]
                row = (voxel[:, 0] * sy + voxel[:, 1]) * sz + voxel[:, 2]
                place = torch.empty(len(voxel), 3)
                place[:, axis] = along[kept]
                place[:, others[0]], place[:, others[1]] = float(du), float(dv)
                total.index_add_(0, row, place)
                count.index_add_(0, row, torch.ones(len(row)))
                if du and dv:  # the edge ends in the upper corner of this voxel
                    flags[row, axis] = True
    row = torch.nonzero(count).squeeze(1)
    coords = torch.stack([row // (sy * sz), row // sz % sy, row % sz], 1).int()
    return DualGrid(coords, total[row] / count[row, None], flags[row])


def nearest_primitive(primitives: Sequence[Primitive], points: Tensor) -> Tensor:
    """Index [N] int64 of the primitive whose surface is nearest to points [N, 3] on the object's surface."""
    x, y, z = points.unbind(-1)
    return torch.stack([p.local_sdf(*p.to_local(x, y, z)) for p in primitives]).argmin(0)


def material_table(primitives: Sequence[Primitive]) -> Tensor:
    """[P, 5] base color, metallic, roughness of each primitive."""
    return torch.tensor([(*p.material.color, p.material.metallic, p.material.roughness) for p in primitives])
