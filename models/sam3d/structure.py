"""Voxels of SAM 3D's structure made fewer: inner ones are dropped, and a grid that is too full is halved."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError

MAX_VOXELS = 42000


def prune_inner(coords: Tensor, distance: int = 1) -> Tensor:
    """The voxels [M, 4] of coords [N, 4] int32 that have a free place within `distance` along some axes, in order.

    All rows count as one object, as in the official code. Source: SAM 3D, `prune_sparse_structure`.
    """
    if distance < 0:
        raise InputError(f"`distance` is {distance}; 0 or more would work.")
    if coords.shape[0] == 0:
        return coords
    place = (coords[:, 1:] - coords[:, 1:].amin(0)).long()
    size = (place.amax(0) + 1).tolist()
    grid = torch.zeros(1, 1, *size, device=coords.device)
    grid[0, 0, place[:, 0], place[:, 1], place[:, 2]] = 1
    width = 2 * distance + 1
    count = F.conv3d(grid, torch.ones(1, 1, width, width, width, device=coords.device), padding=distance)
    return coords[count[0, 0, place[:, 0], place[:, 1], place[:, 2]] < width**3]


def shrink(
    coords: Tensor, most: int = MAX_VOXELS, factor: int = 2, generator: torch.Generator | None = None
) -> tuple[Tensor, int]:
    """Voxels [M, 4] and 1, or where there are more than `most` the grid shrunk about its center and `factor`.

    Above `most` even then, a random choice of them. Source: SAM 3D, `downsample_sparse_structure`.
    """
    if coords.shape[0] <= most:
        return coords, 1
    place = coords[:, 1:].float()
    low, high = place.amin(0), place.amax(0)
    size = high - low + 1
    target = size / factor
    offset = (size - target) / 2
    first, last = low + offset, low + offset + target - 1
    moved = (place - low) / (high - low).clamp_min(1e-9) * (target - 1) + first
    moved = torch.round(moved).int().clamp(first.int(), last.int())
    rows = torch.unique(torch.cat([coords[:, :1], moved], 1), dim=0)
    if rows.shape[0] > most:
        rows = rows[torch.randperm(rows.shape[0], generator=generator)[:most].to(rows.device)]
    return rows.int(), factor
