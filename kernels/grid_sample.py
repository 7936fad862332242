"""Reading sparse voxel attributes between voxel centers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import AXIS_STEPS, MAX_COORDINATE, SparseTensor, pack_coords
from .projection import weighted_rows

CHUNK = 1 << 18  # points looked up at once


def sample_voxels(x: SparseTensor, points: Tensor, item: int | Tensor = 0, backend: str = "search") -> Tensor:
    """Trilinear attributes [P, C] over the voxels that exist around each point, zero where none does.

    x: attributes [N, C] at voxels whose centers are coords + 0.5. points: [P, 3] in voxel units. item: the batch item
    read, one for all or [P]. The weights of the existing corners are scaled to sum to 1. Points outside the grid are
    allowed. backend: "table" looks every corner up in a dense index of the voxels' bounding box (the definition),
    "search" makes four binary searches per point in the sorted coordinates. Raises InputError for shapes that do not
    fit. Source: TRELLIS.2, trilinear sampling by FlexGEMM.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"`points` has shape {list(points.shape)}; sample_voxels needs [P, 3].")
    if x.feats.ndim != 2:
        raise InputError(f"`x` has attributes {list(x.feats.shape)}; sample_voxels needs [N, C].")
    if isinstance(item, Tensor) and item.shape != points.shape[:1]:
        raise InputError(f"`item` has shape {list(item.shape)}; {points.shape[0]} points need [{points.shape[0]}].")
    if backend not in ("search", "table"):
        raise InputError(f"`backend` is {backend!r}; sample_voxels knows 'search' and 'table'.")
    look_up = _search if backend == "search" else _Table(x)
    rows = torch.cat([x.feats, x.feats.new_zeros(1, x.feats.shape[1])])  # the last row stands for an absent voxel
    out = x.feats.new_empty(points.shape[0], x.feats.shape[1])
    chunks = []
    for start in range(0, points.shape[0], CHUNK):
        part = points[start : start + CHUNK]
        items = item[start : start + CHUNK] if isinstance(item, Tensor) else torch.full_like(part[:, 0], item)
        chunks.append(_interpolate(x, rows, part, items.long(), look_up))
    return torch.cat(chunks) if chunks else out


def _interpolate(x: SparseTensor, rows: Tensor, points: Tensor, item: Tensor, look_up) -> Tensor:
    n = len(x)
    place = points - 0.5
    low = place.floor()
    fraction = place - low
    # far outside there is nothing to find, but the packed key must stay within its field
    low = low.nan_to_num(-2.0).clamp(-2, MAX_COORDINATE + 1).long()
    index = look_up(x, low, item)  # [P, 2, 2, 2]
    near_far = torch.stack([1 - fraction, fraction], -1)  # [P, axis, 2]
    weight = near_far[:, 0, :, None, None] * near_far[:, 1, None, :, None] * near_far[:, 2, None, None, :]
    weight = torch.where(index < n, weight, 0.0).flatten(1)
    total = weight.sum(1, keepdim=True)
    weight = torch.where(total > 0, weight / total.clamp(min=torch.finfo(weight.dtype).tiny), 0.0)
    return weighted_rows(rows.float(), index.flatten(1), weight.float()).to(x.dtype)


def _search(x: SparseTensor, low: Tensor, item: Tensor) -> Tensor:
    """[P, 2, 2, 2] row of each corner, N where there is none: the two corners along z are neighbors in key order."""
    keys, order = x.sorted_keys
    n = keys.shape[0]
    padded = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    base = pack_coords(torch.cat([item[:, None], low], 1))
    inside = ((low >= -1) & (low <= MAX_COORDINATE)).all(1) & (item >= 0)
    found = torch.full((low.shape[0], 2, 2, 2), n, device=low.device)
    for dx in range(2):
        for dy in range(2):
            wanted = base + dx * AXIS_STEPS[0] + dy * AXIS_STEPS[1]
            at = torch.searchsorted(keys, wanted)
            for dz in range(2):
                hit = (padded[at] == wanted + dz) & inside
                row = at if order is None else order[at.clamp(max=n - 1)] if n else at
                found[:, dx, dy, dz] = torch.where(hit, row, n)
                at = at + hit
    return found


class _Table:
    """Row of every voxel in the bounding box, one cell of margin around it."""

    def __init__(self, x: SparseTensor):
        shape = [x.batch_size, *(x.coords[:, 1:].amax(0) + 2).tolist()] if len(x) else [x.batch_size, 1, 1, 1]
        self.table = torch.full(shape, len(x), device=x.coords.device)
        self.table[tuple(x.coords.long().unbind(1))] = torch.arange(len(x), device=x.coords.device)

    def __call__(self, x: SparseTensor, low: Tensor, item: Tensor) -> Tensor:
        size = torch.tensor(self.table.shape, device=low.device)
        found = torch.full((low.shape[0], 2, 2, 2), len(x), device=low.device)
        for dx in range(2):
            for dy in range(2):
                for dz in range(2):
                    corner = torch.cat([item[:, None], low + low.new_tensor([dx, dy, dz])], 1)
                    inside = ((corner >= 0) & (corner < size)).all(1)
                    found[inside, dx, dy, dz] = self.table[tuple(corner[inside].unbind(1))]
        return found
