"""The dense convolutional autoencoder of the occupancy grid (TRELLIS `SparseStructureDecoder` and `...Encoder`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError
from .blocks import set_torso_dtype
from .config import StructureVaeConfig


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` that computes in float32 where the weights are float16 on a CPU (fp16 products are 100x slower)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float16:
            bias = None if self.bias is None else self.bias.float()
            return self._conv_forward(x.float(), self.weight.float(), bias).to(x.dtype)
        return super().forward(x)


class ChannelLayerNorm32(nn.LayerNorm):
    """Layer norm over the channels of [B, C, X, Y, Z], computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1).float()).movedim(-1, 1).to(x.dtype)


class ResBlock3d(nn.Module):
    def __init__(self, channels: int, out_channels: int | None = None):
        super().__init__()
        out = out_channels or channels
        self.norm1 = ChannelLayerNorm32(channels)
        self.norm2 = ChannelLayerNorm32(out)
        self.conv1 = Conv3d(channels, out, 3, padding=1)
        self.conv2 = Conv3d(out, out, 3, padding=1)
        self.skip_connection = nn.Identity() if out == channels else Conv3d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.skip_connection(x)


class Downsample3d(nn.Module):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample3d(nn.Module):
    """Convolution to eight times the channels, then pixel shuffle; the channels are ordered (out, dx, dy, dz)."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = Conv3d(channels, out_channels * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h = h.unflatten(1, (-1, 2, 2, 2))  # B, C, dx, dy, dz, X, Y, Z
        b, c, *_, sx, sy, sz = h.shape
        return h.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c, sx * 2, sy * 2, sz * 2)


def _out_layer(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(ChannelLayerNorm32(channels), nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1))


class SparseStructureDecoder(nn.Module):
    """Latent to occupancy logits."""

    def __init__(self, cfg: StructureVaeConfig):
        super().__init__()
        self.config = cfg
        widths = cfg.channels
        self.input_layer = nn.Conv3d(cfg.latent_channels, widths[0], 3, padding=1)
        self.middle_block = nn.Sequential(*[ResBlock3d(widths[0]) for _ in range(cfg.num_res_blocks_middle)])
        self.blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            self.blocks.extend(ResBlock3d(width) for _ in range(cfg.num_res_blocks))
            if level + 1 < len(widths):
                self.blocks.append(Upsample3d(width, widths[level + 1]))
        self.out_layer = _out_layer(widths[-1], cfg.out_channels)
        for torso in (self.middle_block, self.blocks):
            set_torso_dtype(torso, cfg.dtype)

    @property
    def factor(self) -> int:
        """Occupancy voxels per latent voxel along an axis."""
        return 2 ** (len(self.config.channels) - 1)

    def forward(self, z: Tensor) -> Tensor:
        """z [B, latent, R, R, R] float32 -> logits [B, 1, factor*R, ...] float32; occupied voxels have logits > 0."""
        if z.ndim != 5 or z.shape[1] != self.config.latent_channels:
            raise InputError(
                f"The structure latent is {list(z.shape)}; it must be [B, {self.config.latent_channels}, R, R, R]."
            )
        h = self.input_layer(z)
        h = self.middle_block(h.to(self.middle_block[0].conv1.weight.dtype))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(z.dtype))


class SparseStructureEncoder(nn.Module):
    """Occupancy to the mean and log variance of the latent."""

    def __init__(self, cfg: StructureVaeConfig):
        super().__init__()
        self.config = cfg
        widths = cfg.channels
        self.input_layer = nn.Conv3d(cfg.in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            self.blocks.extend(ResBlock3d(width) for _ in range(cfg.num_res_blocks))
            if level + 1 < len(widths):
                self.blocks.append(Downsample3d(width, widths[level + 1]))
        self.middle_block = nn.Sequential(*[ResBlock3d(widths[-1]) for _ in range(cfg.num_res_blocks_middle)])
        self.out_layer = _out_layer(widths[-1], cfg.latent_channels * 2)
        for torso in (self.middle_block, self.blocks):
            set_torso_dtype(torso, cfg.dtype)

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """occupancy [B, 1, S, S, S] float32 of 0 and 1 -> mean and log variance [B, latent, R, R, R]; use the mean."""
        if occupancy.ndim != 5 or occupancy.shape[1] != self.config.in_channels:
            raise InputError(
                f"`occupancy` is {list(occupancy.shape)}; this encoder takes [B, {self.config.in_channels}, S, S, S]."
            )
        h = self.input_layer(occupancy).to(self.middle_block[0].conv1.weight.dtype)
        for block in self.blocks:
            h = block(h)
        mean, logvar = self.out_layer(self.middle_block(h).to(occupancy.dtype)).chunk(2, dim=1)
        return mean, logvar


def occupied_coords(logits: Tensor, resolution: int | None = None) -> Tensor:
    """The occupied voxels of a logit grid.

    logits [B, 1, S, S, S]; resolution: the grid wanted, a divisor of S (a coarse voxel is occupied if any of its voxels
    is). Returns int32 rows (item, x, y, z), lexicographic. Raises InputError where the resolution does not divide S.
    """
    size = logits.shape[-1]
    wanted = size if resolution is None else resolution
    if size % wanted:
        raise InputError(f"The structure grid is {size}^3, which cannot be pooled to {wanted}^3.")
    occupied = (logits[:, 0] > 0).float()
    if wanted != size:
        occupied = F.max_pool3d(occupied, size // wanted)
    return torch.argwhere(occupied > 0.5).int()
