"""Tokens of a point map: a small transformer inside every window of points (SAM 3D `PointPatchEmbed`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis1.dinov2 import VitBlock

REMAPS = ("linear", "sinh", "exp", "sinh_exp", "exp_disparity")


def remap_points(points: Tensor, kind: str) -> Tensor:
    """Points [..., 3] with their range tamed; the published model leaves them ("linear")."""
    if kind not in REMAPS:
        raise InputError(f"`remap` is {kind!r}; one of {', '.join(REMAPS)} would work.")
    if kind == "linear":
        return points
    if kind == "sinh":
        return torch.asinh(points)
    xy, z = points.split([2, 1], -1)
    if kind == "exp":
        return torch.cat([xy / (1 + z), torch.log1p(z)], -1)
    if kind == "exp_disparity":
        return torch.cat([xy / z, torch.log(z)], -1)
    return torch.cat([torch.asinh(xy), torch.log(z.clamp(min=1e-8))], -1)


class PointPatchEmbed(nn.Module):
    def __init__(
        self, input_size: int = 256, patch_size: int = 8, embed_dim: int = 512, remap: str = "linear", heads: int = 16
    ):
        super().__init__()
        self.input_size, self.patch_size, self.embed_dim, self.remap = input_size, patch_size, embed_dim, remap
        side = input_size // patch_size
        self.point_proj = nn.Linear(3, embed_dim)
        self.invalid_xyz_token = nn.Parameter(torch.empty(embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
        self.pos_embed_window = nn.Parameter(torch.empty(1, 1 + patch_size**2, embed_dim))
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.blocks = nn.ModuleList([VitBlock(embed_dim, heads, 2.0)])

    def forward(self, xyz: Tensor) -> Tensor:
        """Point map [B, 3, H, W] float32 -> tokens [B, windows, D], row by row.

        A point that is not finite in all coordinates counts as unknown.
        """
        p, side = self.patch_size, self.input_size // self.patch_size
        points = F.interpolate(xyz, size=self.input_size, mode="nearest").permute(0, 2, 3, 1)
        known = points.isfinite().all(-1, keepdim=True)
        x = self.point_proj(remap_points(torch.where(known, points, torch.zeros_like(points)), self.remap))
        x = torch.where(known, x, self.invalid_xyz_token)
        x = x.view(len(x), side, p, side, p, -1).transpose(2, 3).reshape(-1, p * p, self.embed_dim)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed_window
        for block in self.blocks:
            tokens = block(tokens)
        positions = self.pos_embed.permute(0, 2, 3, 1).reshape(1, side * side, -1)
        return tokens[:, 0].view(len(xyz), side * side, -1) + positions
