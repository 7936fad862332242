"""The flow over the dense structure latent of TRELLIS (v1): TRELLIS.2's network with absolute positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..trellis2.blocks import AttentionOptions
from ..trellis2.conditions import Condition
from ..trellis2.config import FlowConfig
from ..trellis2.sparse_structure_flow import SparseStructureFlow


class PatchedStructureFlow(SparseStructureFlow):
    """Predicts the velocity of the R^3 structure latent in patches of p^3 voxels; TRELLIS `SparseStructureFlowModel`.

    The published model has p = 1.
    """

    def __init__(self, cfg: FlowConfig, patch_size: int = 1):
        p3 = patch_size**3
        super().__init__(
            replace(
                cfg,
                resolution=cfg.resolution // patch_size,
                in_channels=cfg.in_channels * p3,
                out_channels=cfg.out_channels * p3,
            )
        )
        self.patch_size = patch_size

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> PatchedStructureFlow:
        return cls(FlowConfig.from_args(args), int(args.get("patch_size", 2)))

    def forward(
        self, x: Tensor, t: Tensor, cond: Tensor | Condition, options: AttentionOptions | None = None
    ) -> Tensor:
        """Velocity [B, C, R, R, R] at `x`; see `SparseStructureFlow.forward`."""
        p = self.patch_size
        if p == 1:
            return super().forward(x, t, cond, options)
        out = super().forward(patchify(x, p), t, cond, options)
        return unpatchify(out, p)


def patchify(x: Tensor, p: int) -> Tensor:
    """[B, C, R, R, R] -> [B, C p^3, R/p, R/p, R/p], channels ordered (C, dx, dy, dz)."""
    b, c, *size = x.shape
    split = x.reshape(b, c, *(n for side in size for n in (side // p, p)))
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * p**3, *(side // p for side in size))


def unpatchify(x: Tensor, p: int) -> Tensor:
    """The inverse of `patchify`."""
    b, c, *size = x.shape
    split = x.reshape(b, c // p**3, p, p, p, *size)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // p**3, *(side * p for side in size))
