"""The latents the embedded family works on: smooth, linear functions of the truncated signed distance and the colors.

A learned code was found too hard for a small flow to predict (surfaces came out pitted). These codes are linear, so
that the mean of several possible latents decodes to a surface between them; the decoders are trained to read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from .data import CELL_VOXELS, REACH

CELL = CELL_VOXELS
MARGIN = 1  # corners around a cell that its code describes too
WINDOW = CELL + 1 + 2 * MARGIN


def occupied_cells(voxels: Tensor) -> Tensor:
    """[B, R/4, ...] bool, the cells the surface passes through, from signed distances [B, R+1, R+1, R+1]."""
    inside = (voxels < 0).float()[:, None]
    return ((F.max_pool3d(inside, CELL + 1, CELL) > 0) & (F.max_pool3d(1 - inside, CELL + 1, CELL) > 0))[:, 0]


def near_cells(voxels: Tensor, within: float = 1.0) -> Tensor:
    """[B, R/4, ...] bool, the cells whose window comes within so many voxels of the surface."""
    far = F.pad(voxels.abs()[:, None], [MARGIN] * 6, value=REACH)
    return -F.max_pool3d(-far, WINDOW, CELL)[:, 0] < within


def pack_cells(cells: Tensor) -> Tensor:
    """[B, C, 2r, 2r, 2r] -> [B, 8 C, r, r, r], channels (field, dx, dy, dz)."""
    b, c, n = *cells.shape[:2], cells.shape[-1] // 2
    return cells.view(b, c, n, 2, n, 2, n, 2).permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * 8, n, n, n)


def structure_latent(voxels: Tensor) -> Tensor:
    """The structure latent [B, 16, R/8, R/8, R/8]: mean distance (8 channels) and occupancy (8) of the cells.

    voxels: signed distances [B, R+1, R+1, R+1]. Both fields are brought to mean 0 and spread 1 by fixed numbers.
    """
    distance = F.avg_pool3d(voxels[:, None], CELL + 1, CELL) / REACH
    fields = torch.cat([(distance - 0.75) / 0.5, (occupied_cells(voxels)[:, None].float() - 0.1) / 0.3], dim=1)
    return pack_cells(fields)


def windows(voxels: Tensor, coords: Tensor) -> Tensor:
    """Truncated distances [N, WINDOW^3] in [-1, 1] around cells coords [N, 3] of one grid [R+1, R+1, R+1]."""
    padded = F.pad(voxels[None, None], [MARGIN] * 6, mode="replicate")[0, 0]
    view = padded.unfold(0, WINDOW, CELL).unfold(1, WINDOW, CELL).unfold(2, WINDOW, CELL)
    x, y, z = coords.long().unbind(1)
    return view[x, y, z].reshape(len(coords), -1) / REACH


@dataclass(frozen=True)
class LinearCode:
    """Principal components of rows [N, D]: mean [D], basis [D, C] (orthonormal), std [C] of the components."""

    mean: Tensor
    basis: Tensor
    std: Tensor

    @classmethod
    def of(cls, rows: Tensor, channels: int) -> tuple[LinearCode, float]:
        """The code of sample rows, and the share of their variance it keeps."""
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T.double() @ (rows - mean).double() / len(rows))
        order = values.argsort(descending=True)[:channels]
        basis = vectors[:, order]
        signs = torch.sign(basis.gather(0, basis.abs().argmax(0, keepdim=True)))
        kept = float(values[order].sum() / values.sum())
        return cls(mean.float(), (basis * signs).float(), values[order].sqrt().float()), kept

    def encode(self, rows: Tensor) -> Tensor:
        """[N, D] -> standardized [N, C]."""
        return (rows - self.mean) @ self.basis / self.std

    def decode(self, code: Tensor) -> Tensor:
        """Standardized [N, C] -> [N, D]."""
        return (code * self.std) @ self.basis.T + self.mean

    @classmethod
    def read(cls, path: Path | str) -> LinearCode:
        """From a .safetensors file of `state`."""
        state = load_file(path)
        return cls(state["mean"], state["basis"], state["std"])

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "basis": self.basis, "std": self.std}
