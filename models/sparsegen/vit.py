"""The per-view image encoder: a DINOv2 ViT body whose blocks are modulated by the view's time (adaLN)."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .config import SparseGenConfig
from .embeddings import TimestepEmbedder

# DINOv2's resampling of position embeddings multiplies by (grid + 0.1) / stored grid; weights were trained with it.
INTERPOLATE_OFFSET = 0.1
CHUNK_TOKENS = 4096
# The weights were trained with ImageNet statistics applied to colors that lie in [-1,1]; pose channels are left alone.
MEAN = (0.485, 0.456, 0.406) + (0.0,) * 6 + (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225) + (1.0,) * 6 + (0.229, 0.224, 0.225)


def modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x [B,T,C] * (1 + scale [B,C]) + shift [B,C]."""
    return torch.addcmul(shift.unsqueeze(1), x, 1 + scale.unsqueeze(1))


class Attention(nn.Module):
    """Multi-head self attention with one joint query/key/value projection."""

    def __init__(self, dims: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,T,C] -> [B,T,C]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dims: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden)
        self.fc2 = nn.Linear(hidden, dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,T,C] -> [B,T,C]."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned gain per channel."""

    def __init__(self, dims: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[...,C] -> [...,C]."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm ViT block; the time embedding shifts, scales and gates both branches."""

    def __init__(self, dims: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dims, eps=1e-6)
        self.attn = Attention(dims, heads)
        self.ls1 = LayerScale(dims)
        self.norm2 = nn.LayerNorm(dims, eps=1e-6)
        self.mlp = Mlp(dims, hidden)
        self.ls2 = LayerScale(dims)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dims, 6 * dims))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """x [B,T,C], time [B,C] -> [B,T,C]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(time).chunk(6, dim=1)
        x = x + gate1.unsqueeze(1) * self.ls1(self.attn(modulate(self.norm1(x), shift1, scale1)))
        return x + gate2.unsqueeze(1) * self.ls2(self.mlp(modulate(self.norm2(x), shift2, scale2)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches -> tokens."""

    def __init__(self, channels: int, dims: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, dims, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,channels,S,S] -> [B,(S/patch)^2,dims], row-major."""
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """The ViT body with DINOv2's parameter names."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        dims = config.vit_dims
        self.grid, self.stored_grid = config.feature_grid, config.vit_grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.vit_grid**2 + 1, dims))
        # Part of the published weights; masked image modeling is not used here.
        self.mask_token = nn.Parameter(torch.zeros(1, dims), requires_grad=False)
        self.patch_embed = PatchEmbed(12, dims, config.patch_size)
        self.blocks = nn.ModuleList(Block(dims, config.vit_heads, config.vit_mlp_dims) for _ in range(config.vit_depth))
        self.norm = nn.LayerNorm(dims, eps=1e-6)

    def position_tokens(self) -> torch.Tensor:
        """[1, grid^2+1, C]: the stored position embedding resampled to the grid in use; as stored if it fits."""
        if self.grid == self.stored_grid:
            return self.pos_embed
        scale = (self.grid + INTERPOLATE_OFFSET) / self.stored_grid
        patches = self.pos_embed[:, 1:].float().unflatten(1, (self.stored_grid, self.stored_grid)).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], patches.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], dim=1)

    def forward(self, x: torch.Tensor, time: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """x [B,12,S,S], time [B,C], `positions` from `position_tokens` -> [B,grid^2,C] (class token dropped)."""
        if positions is None:
            positions = self.position_tokens()
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + positions
        for block in self.blocks:
            x = block(x, time)
        return self.norm(x)[:, 1:]


class ViTExtractor(nn.Module):
    """Views -> feature maps: resize, ImageNet normalization of the color channels, ViT, class token dropped."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        self.image_size, self.grid = config.image_size, config.feature_grid
        self.model = VisionTransformer(config)
        self.t_embedder = TimestepEmbedder(config.vit_dims)

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        """[N,12,H,W] -> [N,12,image_size,image_size], colors (channels 0-2 and 9-11) normalized."""
        size = self.image_size
        if x.shape[-2:] != (size, size):
            # Antialiasing only changes a reduction; several devices have no antialiased enlargement.
            x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=size < max(x.shape[-2:]))
        return (x - x.new_tensor(MEAN).view(12, 1, 1)) / x.new_tensor(STD).view(12, 1, 1)

    def forward(self, views: torch.Tensor, times: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """views [B,V,12,H,W], times [B,V] -> [B,V,vit_dims,g,g].

        Without gradients the views go through in chunks (they do not see each other), which bounds the memory.
        """
        batch, count = views.shape[:2]
        flat, dtype = views.flatten(0, 1), self.t_embedder.mlp[0].weight.dtype
        embedding = self.t_embedder(times.reshape(-1))
        if positions is None:
            positions = self.model.position_tokens()
        chunk = len(flat) if torch.is_grad_enabled() else max(1, CHUNK_TOKENS // (self.grid**2 + 1))
        tokens = torch.cat(
            [
                self.model(self.prepare(x).to(dtype), c, positions)
                for x, c in zip(flat.split(chunk), embedding.split(chunk))
            ]
        )
        return tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid)).unflatten(0, (batch, count))
