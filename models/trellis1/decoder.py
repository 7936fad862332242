"""The sparse transformer with windows behind TRELLIS's (v1) three decoders, and the encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import varlen_attention
from ...kernels.window_attention import window_attention, windows
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ..trellis2.blocks import (
    FeedForward,
    LayerNorm32,
    Linear,
    MultiHeadRMSNorm,
    absolute_positions,
    apply_rope,
    rope_phases,
    set_torso_dtype,
)
from .config import LatentDecoderConfig


class WindowAttention(nn.Module):
    def __init__(self, channels: int, heads: int, qk_rms_norm: bool, window: int | None, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.to_qkv = Linear(channels, channels * 3)
        self.q_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.k_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.to_out = Linear(channels, channels)

    def forward(self, x: SparseTensor, phases: Tensor | None) -> Tensor:
        q, k, v = self.to_qkv(x.feats).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        if self.q_rms_norm is not None:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if phases is not None:
            q, k = apply_rope(q, phases), apply_rope(k, phases)
        if self.window is None:
            h = varlen_attention(q, k, v, x.seqlens, x.seqlens)
        else:
            h = window_attention(q, k, v, windows(x, self.window, self.shift))
        return self.to_out(h.flatten(-2))


class WindowBlock(nn.Module):
    def __init__(self, cfg: LatentDecoderConfig, index: int):
        super().__init__()
        c = cfg.model_channels
        window = cfg.window_size if cfg.attn_mode == "swin" else None
        shift = cfg.window_size // 2 * (index % 2) if window else 0
        self.norm1 = LayerNorm32(c, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm32(c, eps=1e-6, elementwise_affine=False)
        self.attn = WindowAttention(c, cfg.num_heads, cfg.qk_rms_norm, window, shift)
        self.mlp = FeedForward(c, cfg.mlp_ratio)

    def forward(self, x: SparseTensor, phases: Tensor | None) -> SparseTensor:
        x = x.replace(x.feats + self.attn(x.replace(self.norm1(x.feats)), phases))
        return x.replace(x.feats + self.mlp(self.norm2(x.feats)))


class LatentTransformer(nn.Module):
    """Input layer, absolute positions and window blocks; windows of odd blocks are moved by half their size."""

    def __init__(self, cfg: LatentDecoderConfig, in_channels: int):
        super().__init__()
        self.config = cfg
        self.input_layer = nn.Linear(in_channels, cfg.model_channels)
        self.blocks = nn.ModuleList(WindowBlock(cfg, index) for index in range(cfg.num_blocks))
        set_torso_dtype(self.blocks, cfg.dtype)

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0].attn.to_qkv.weight.dtype

    def transform(self, x: SparseTensor) -> SparseTensor:
        if x.feats.shape[-1] != self.input_layer.in_features:
            raise InputError(
                f"The latent has {x.feats.shape[-1]} channels; this decoder takes {self.input_layer.in_features}."
            )
        feats, phases = self.input_layer(x.feats), None
        if self.config.pe_mode == "ape":
            feats = feats + absolute_positions(x.coords[:, 1:], self.config.model_channels)
        else:
            phases = rope_phases(x.coords[:, 1:], self.config.model_channels // self.config.num_heads)
        h = x.replace(feats.to(self.torso_dtype))
        for block in self.blocks:
            h = block(h, phases)
        return h


class HeadedDecoder(LatentTransformer):
    """A latent transformer with a norm without weights and a linear head."""

    def __init__(self, cfg: LatentDecoderConfig, in_channels: int, out_channels: int):
        super().__init__(cfg, in_channels)
        self.out_layer = nn.Linear(cfg.model_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """x features [N, in] float32 -> features [N, out] of the same voxels."""
        h = self.transform(x)
        feats = h.feats.to(x.dtype)
        return h.replace(self.out_layer(F.layer_norm(feats, feats.shape[-1:])))


class LatentEncoder(HeadedDecoder):
    """Features of voxels [N, in] -> mean and log variance [N, 2 latent] of their latents; TRELLIS `SLatEncoder`."""

    def __init__(self, cfg: LatentDecoderConfig):
        super().__init__(cfg, cfg.in_channels or 1024, 2 * cfg.latent_channels)
