"""The pixel filter: where in and around a pixel its samples lie, all with the same weight."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 2.0  # pixels: Cycles' window of 1.5 and what its denoiser adds, measured on its pictures


def offsets(count: int, width: float = WIDTH) -> Tensor:
    """[count**2, 2] float32 offsets from the pixel's center, drawn from a Blackman-Harris window by equal shares."""
    grid = torch.linspace(-0.5, 0.5, 4001, dtype=torch.float64)
    angle = 2 * torch.pi * grid
    window = 0.35875 + 0.48829 * torch.cos(angle) + 0.14128 * torch.cos(2 * angle) + 0.01168 * torch.cos(3 * angle)
    share = torch.cumsum(window, 0)
    share = (share - share[0]) / (share[-1] - share[0])
    wanted = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    at = torch.searchsorted(share, wanted).clamp(1, len(grid) - 1)
    low, high = share[at - 1], share[at]
    line = grid[at - 1] + (wanted - low) / (high - low) * (grid[1] - grid[0])
    line = (0.5 * width * (line - line.flip(0))).float()  # symmetric to the last bit
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
