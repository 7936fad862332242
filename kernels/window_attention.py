"""Attention within the cells of a coarse grid of windows laid over sparse voxels (the sparse form of Swin)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import SparseTensor, pack_coords
from .attention import attention


@dataclass(frozen=True)
class Windows:
    """Which voxels share a window, those of equally many voxels together.

    groups: [(rows [W, n] int64)] the rows of W windows with n voxels each; every row stands in one window.
    """

    groups: list[Tensor]


def windows(x: SparseTensor, size: int, shift: int = 0) -> Windows:
    """The windows of `size`^3 voxels over x's grid moved by `shift`; computed once per set of coordinates."""
    if size < 1:
        raise InputError(f"`size` of a window is {size}; at least 1 is needed.")
    return x.once(("windows", size, shift), lambda: _windows(x, size, shift))


def _windows(x: SparseTensor, size: int, shift: int) -> Windows:
    coords = x.coords.clone()
    coords[:, 1:] = (coords[:, 1:] + shift) // size
    _, window, count = torch.unique(pack_coords(coords), return_inverse=True, return_counts=True)
    rows = torch.argsort(window, stable=True)
    starts = count.cumsum(0) - count
    groups = []
    for n in torch.unique(count).tolist():
        first = starts[count == n]
        groups.append(rows[first[:, None] + torch.arange(n, device=rows.device)])
    return Windows(groups)


def window_attention(q: Tensor, k: Tensor, v: Tensor, plan: Windows, *, backend: str = "auto") -> Tensor:
    """Attention of every voxel to those of its own window: [N, H, Dv].

    q, k: [N, H, D], v: [N, H, Dv]; backend: as `attention`. Equals attention with everything outside the window masked.
    Source: TRELLIS, sparse windowed attention.
    """
    out = torch.empty_like(v)
    for rows in plan.groups:
        parts = (part[rows] for part in (q, k, v))
        out[rows.flatten()] = attention(*parts, backend=backend).flatten(0, 1)
    return out
