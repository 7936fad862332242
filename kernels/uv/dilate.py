"""Filling the texels between charts from the nearest chart, so that filters and smaller copies never read black."""

from __future__ import annotations

import torch
from torch import Tensor

from ...scene.errors import InputError


def nearest_written(mask: Tensor, backend: str = "auto") -> Tensor:
    """The flat index [H, W] int64 of the nearest written texel to each (its own where it is written).

    mask: [H, W] bool. backend: "flood" (jump flooding, any device; now and then a texel gets one that is a little
    farther), "exact" (a distance transform on the CPU), or "auto" = exact for tensors on the CPU. Raises InputError
    where nothing is written. Source: Rong and Tan 2006, with one more round of step 1.
    """
    if mask.ndim != 2 or not bool(mask.any()):
        raise InputError("No texel is written: the texture coordinates cover nothing of the texture; unwrap the mesh.")
    if backend not in ("auto", "flood", "exact"):
        raise InputError(f"`backend` is {backend!r}; nearest_written knows 'auto', 'flood' and 'exact'.")
    if backend == "exact" or (backend == "auto" and mask.device.type == "cpu"):
        return _exact(mask)
    return _flood(mask)


def _exact(mask: Tensor) -> Tensor:
    from scipy.ndimage import distance_transform_edt

    row, column = distance_transform_edt(~mask.cpu().numpy(), return_distances=False, return_indices=True)
    return (torch.from_numpy(row).long() * mask.shape[1] + torch.from_numpy(column).long()).to(mask.device)


def _flood(mask: Tensor) -> Tensor:
    height, width = mask.shape
    row = torch.arange(height, device=mask.device)[:, None].expand(height, width)
    column = torch.arange(width, device=mask.device).expand(height, width)
    far = 4 * (height + width)
    seed_row, seed_column = torch.where(mask, row, far), torch.where(mask, column, far)
    step = 1 << (max(height, width) - 1).bit_length() - 1
    steps = []
    while step >= 1:
        steps.append(step)
        step //= 2
    for step in [*steps, 1]:
        best = (seed_row - row).square() + (seed_column - column).square()
        old_row, old_column = seed_row, seed_column
        for dy in (-step, 0, step):
            for dx in (-step, 0, step):
                if dx == dy == 0:
                    continue
                to = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
                of = (slice(max(0, dy), height - max(0, -dy)), slice(max(0, dx), width - max(0, -dx)))
                if to[0].start >= to[0].stop or to[1].start >= to[1].stop:
                    continue
                y, x = old_row[of], old_column[of]
                gap = (y - row[to]).square() + (x - column[to]).square()
                nearer = gap < best[to]
                if seed_row is old_row:
                    seed_row, seed_column = old_row.clone(), old_column.clone()
                best[to] = torch.where(nearer, gap, best[to])
                seed_row[to] = torch.where(nearer, y, seed_row[to])
                seed_column[to] = torch.where(nearer, x, seed_column[to])
    return seed_row * width + seed_column
