"""The embedded family's image encoder: a small stand-in for DINOv3 with the same interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import attention
from ...scene.errors import InputError
from .blocks import LayerNorm32, Linear, set_torso_dtype
from .config import parse_dtype

MEAN, STD = 0.45, 0.25


@dataclass(frozen=True)
class TinyEncoderConfig:
    """image_size: the side of the pictures, 16 patches of 8 pixels by default; stem: channels before the last level,
    each of which halves the picture, so that one level fewer gives patches of 4 pixels."""

    image_size: int = 128
    channels: int = 128
    stem: tuple[int, ...] = (32, 64)
    num_blocks: int = 5
    num_heads: int = 4
    mlp_ratio: float = 3.0
    registers: int = 4
    dtype: torch.dtype = torch.float32

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> TinyEncoderConfig:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items() if k in cls.__dataclass_fields__}
        if "dtype" in values:
            values["dtype"] = parse_dtype(values["dtype"])
        return cls(**values)


class EncoderBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.heads = heads
        hidden = int(channels * mlp_ratio)
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.to_qkv = Linear(channels, channels * 3)
        self.to_out = Linear(channels, channels)
        self.norm2 = LayerNorm32(channels, eps=1e-6)
        self.mlp = nn.Sequential(Linear(channels, hidden), nn.GELU(approximate="tanh"), Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        x = x + self.to_out(attention(q, k, v).flatten(-2))
        return x + self.mlp(self.norm2(x))


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that computes in the dtype of its weights, or in float32 where they are float16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and self.weight.dtype == torch.float16:
            return self._conv_forward(x.float(), self.weight.float(), self.bias.float())
        return super().forward(x.to(self.weight.dtype))


class TinyImageEncoder(nn.Module):
    """Convolutions to patches of 8 x 8 pixels (or as the stem says), then a few transformer blocks over patches, CLS
    and registers.

    The output is normalized without weights, like DINOv3's as TRELLIS.2 uses it.
    """

    patch_size = 8  # of the default stem

    def __init__(self, cfg: TinyEncoderConfig):
        super().__init__()
        self.config = cfg
        self.patch_size = 2 ** (len(cfg.stem) + 1)
        side = cfg.image_size // self.patch_size
        widths = (3, *cfg.stem, cfg.channels)
        self.stem = nn.ModuleList(Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:]))
        self.stem.append(Conv2d(cfg.channels, cfg.channels, 3, padding=1))
        self.positions = nn.Parameter(torch.randn(side * side, cfg.channels) * 0.5)
        self.prefix = nn.Parameter(torch.randn(self.prefix_tokens, cfg.channels) * 0.5)
        self.blocks = nn.ModuleList(
            EncoderBlock(cfg.channels, cfg.num_heads, cfg.mlp_ratio) for _ in range(cfg.num_blocks)
        )
        for torso in (self.stem, self.blocks):
            set_torso_dtype(torso, cfg.dtype)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: CLS and the registers."""
        return 1 + self.config.registers

    @property
    def channels(self) -> int:
        return self.config.channels

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, S, S] RGB in [0, 1] -> tokens [B, 1 + registers + P, C] float32, patches row by row.

        Raises InputError for another size than the configured one.
        """
        size = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise InputError(f"The images are {list(images.shape)}; this encoder takes [B, 3, {size}, {size}].")
        h = (images.float() - MEAN) / STD
        for layer in self.stem:
            h = F.gelu(layer(h), approximate="tanh")
        h = h.flatten(2).transpose(1, 2).to(self.positions.dtype) + self.positions
        h = torch.cat([self.prefix.expand(h.shape[0], -1, -1), h], dim=1).to(self.blocks[0].to_qkv.weight.dtype)
        for block in self.blocks:
            h = block(h)
        return F.layer_norm(h.float(), h.shape[-1:])
