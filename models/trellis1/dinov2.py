"""DINOv2 with registers under its published names: the picture encoder of TRELLIS (v1) and SAM 3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import attention
from ...scene.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DinoV2Config:
    """Defaults: ViT-L/14 with 4 registers (`dinov2_vitl14_reg`)."""

    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    img_size: int = 518
    patch_size: int = 14
    num_register_tokens: int = 4

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> DinoV2Config:
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in args.items() if key in known})


class VitAttention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        return self.proj(attention(q, k, v).flatten(-2))


class VitFeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class VitBlock(nn.Module):
    """Pre-norm transformer block as timm and DINOv2 name it; `layer_scale` scales both branches."""

    def __init__(self, channels: int, heads: int, ratio: float, layer_scale: bool = False):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = VitAttention(channels, heads)
        self.ls1 = LayerScale(channels) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = VitFeedForward(channels, int(channels * ratio))
        self.ls2 = LayerScale(channels) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _PatchEmbed(nn.Module):
    def __init__(self, patch: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch, patch)


class DinoV2(nn.Module):
    """The encoder; tokens of all layers are in the dtype of the weights."""

    def __init__(self, cfg: DinoV2Config = DinoV2Config()):
        super().__init__()
        self.config, c = cfg, cfg.embed_dim
        side = cfg.img_size // cfg.patch_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, c))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + side * side, c))
        self.register_tokens = nn.Parameter(torch.empty(1, cfg.num_register_tokens, c))
        self.mask_token = nn.Parameter(torch.empty(1, c))  # of training; kept so that published files fit
        self.patch_embed = _PatchEmbed(cfg.patch_size, c)
        self.blocks = nn.ModuleList(
            VitBlock(c, cfg.num_heads, cfg.mlp_ratio, layer_scale=True) for _ in range(cfg.depth)
        )
        self.norm = nn.LayerNorm(c, eps=1e-6)

    def forward(self, images: Tensor, prenorm: bool = True) -> Tensor:
        """Tokens of images [B, 3, S, S] RGB in [0, 1], S the size of the model.

        prenorm: [B, 1 + registers + P, C], CLS, registers and patches row by row, before the last norm, then a norm
        without weights (TRELLIS, SAM 3D's latent stage); else [B, 1 + P, C], CLS and patches after the last norm
        (SAM 3D's structure stage). Raises InputError for another size.
        """
        size = self.config.img_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise InputError(f"The pictures are {list(images.shape)}; this encoder takes [B, 3, {size}, {size}].")
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        x = self.patch_embed.proj(((images - mean) / std).to(self.cls_token.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        if prenorm:
            return F.layer_norm(x, x.shape[-1:])
        x = self.norm(x)
        return torch.cat([x[:, :1], x[:, 1 + self.config.num_register_tokens :]], 1)


class DinoEncoder(nn.Module):
    """DINOv2 as SAM 3D embeds pictures and masks of any size: resized (bilinear), one channel repeated."""

    def __init__(self, cfg: DinoV2Config = DinoV2Config(), prenorm: bool = False):
        super().__init__()
        self.backbone = DinoV2(cfg)
        self.prenorm, self.embed_dim = prenorm, cfg.embed_dim

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3 or 1, H, W] in [0, 1] -> tokens, see `DinoV2.forward`."""
        size = self.backbone.config.img_size
        if tuple(images.shape[2:]) != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
        return self.backbone(images.expand(-1, 3, -1, -1), self.prenorm)
