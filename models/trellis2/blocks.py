"""Layers shared by the dense and the sparse flow transformers of TRELLIS.2 and Pixal3D.

Dense tokens are `[B, L, C]`; sparse tokens are `[N, C]` with the items of a batch one after the other, and the number
of rows of every item in `seqlens`. Parameter names are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import attention, varlen_attention
from ...kernels.logit_blur import LogitBlur, blur_qk


class Linear(nn.Linear):
    """`nn.Linear` that computes in float32 where the weights are float16 on a CPU (fp16 products are 100x slower)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.float16:
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self.weight.float(), bias).to(x.dtype)
        return super().forward(x)


class LayerNorm32(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32 and returned in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class MultiHeadRMSNorm(nn.Module):
    """Scales every head vector to length sqrt(head) times `gamma` (L2 normalize, not mean square plus epsilon)."""

    def __init__(self, head_dim: int, heads: int):
        super().__init__()
        self.scale = head_dim**0.5
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., heads, head] any float dtype -> the same shape and dtype, computed in float32."""
        return (F.normalize(x.float(), dim=-1) * self.gamma * self.scale).to(x.dtype)


class TimestepEmbedder(nn.Module):
    """Sinusoid of width 256 (cosines first) and two linear layers, float32."""

    def __init__(self, channels: int, frequencies: int = 256):
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """t [B] model time (1000 times the flow time) -> [B, channels] float32."""
        half = self.frequencies // 2
        freqs = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000.0) / half))
        angles = t.float()[:, None] * freqs
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


def rope_phases(coords: Tensor, head_dim: int) -> Tensor:
    """Unit complex rotations of three spatial axes.

    coords [N, 3] integer positions -> complex64 [N, head_dim // 2]: head_dim // 6 frequencies per axis, x, y, then z,
    1 / 10000^(j / count), the rest padded with the identity. Source: TRELLIS.2, rotary position embedding.
    """
    count = head_dim // 2 // 3
    freqs = 1.0 / 10000.0 ** (torch.arange(count, dtype=torch.float32, device=coords.device) / count)
    angles = (coords.reshape(-1).float()[:, None] * freqs).reshape(coords.shape[0], -1)
    phases = torch.polar(torch.ones_like(angles), angles)
    missing = head_dim // 2 - phases.shape[-1]
    if missing:
        phases = torch.cat([phases, phases.new_ones(phases.shape[0], missing)], dim=-1)
    return phases


def apply_rope(x: Tensor, phases: Tensor) -> Tensor:
    """Rotates neighboring channel pairs (2i, 2i+1); x [..., L, heads, head], phases [L, head // 2] complex64."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * phases[..., :, None, :]).reshape(x.shape).to(x.dtype)


def absolute_positions(coords: Tensor, channels: int) -> Tensor:
    """Sine-cosine position table of coords [N, 3]: float32 [N, channels], per axis sines then cosines, zeros behind."""
    count = channels // 3 // 2
    freqs = 1.0 / 10000.0 ** (torch.arange(count, dtype=torch.float32, device=coords.device) / count)
    angles = coords.reshape(-1).float()[:, None] * freqs
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).reshape(coords.shape[0], -1)
    return F.pad(table, (0, channels - table.shape[-1]))


@dataclass
class AttentionOptions:
    """How the attentions of one evaluation are computed; only a blur changes what comes out.

    blur: low-pass of the logits. keys_values: keeps the keys and values of the condition from one evaluation to the
    next (one dictionary per condition and blur). zero_context: the condition is all zeros, so that every key has the
    same value, and cross-attention is one constant vector, which is then not computed by attending. coords: [N, 3]
    voxels of the queries, for a blur along their axes.
    """

    blur: LogitBlur | None = None
    keys_values: dict | None = None
    zero_context: bool = False
    coords: Tensor | None = None


@dataclass
class Context:
    """What the tokens attend to across: image tokens and, for Pixal3D, the features projected onto the tokens.

    tokens: [B, M, C] for dense models; [sum M_i, C] for sparse ones. seqlens: tokens per item (sparse only).
    projected: per 3D token [B, L, P] or [N, P]; None for models without projection. options: see `AttentionOptions`.
    """

    tokens: Tensor
    seqlens: list[int] | None = None
    projected: Tensor | None = None
    options: AttentionOptions | None = None


def on_voxels(options: AttentionOptions | None, coords: Tensor) -> AttentionOptions | None:
    """The options for sparse tokens at coords [N, 4] (batch, x, y, z)."""
    if options is None or options.blur is None or not options.blur.grid_q:
        return options
    return replace(options, coords=coords[:, 1:])


class SelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int, qk_rms_norm: bool):
        super().__init__()
        self.heads = heads
        self.to_qkv = Linear(channels, channels * 3)
        self.q_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.k_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.to_out = Linear(channels, channels)

    def forward(
        self,
        x: Tensor,
        phases: Tensor | None,
        seqlens: Sequence[int] | None,
        options: AttentionOptions | None = None,
    ) -> Tensor:
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
        if self.q_rms_norm is not None:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if phases is not None:
            q, k = apply_rope(q, phases), apply_rope(k, phases)
        if options is not None:
            q, k = blur_qk(q, k, options.blur, "self", seqlens, seqlens, options.coords)
        h = attention(q, k, v) if seqlens is None else varlen_attention(q, k, v, seqlens, seqlens)
        return self.to_out(h.flatten(-2))


class CrossAttention(nn.Module):
    def __init__(self, channels: int, context_channels: int, heads: int, qk_rms_norm: bool):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(channels, channels)
        self.to_kv = Linear(context_channels, channels * 2)
        self.q_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.k_rms_norm = MultiHeadRMSNorm(channels // heads, heads) if qk_rms_norm else None
        self.to_out = Linear(channels, channels)

    def forward(self, x: Tensor, context: Context, seqlens: Sequence[int] | None) -> Tensor:
        options = context.options or AttentionOptions()
        if options.zero_context:
            value = self.to_kv.bias.unflatten(0, (2, -1))[1]  # of every key, whatever the weights that average them
            return self.to_out(value.to(x.dtype).expand(*x.shape[:-1], -1)[..., :1, :]).expand_as(x)
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        if self.q_rms_norm is not None:
            q = self.q_rms_norm(q)
        k, v = self._keys_values(context, options)
        q, k = blur_qk(q, k, options.blur, "cross", seqlens, context.seqlens, options.coords)
        h = attention(q, k, v) if seqlens is None else varlen_attention(q, k, v, seqlens, context.seqlens)
        return self.to_out(h.flatten(-2))

    def _keys_values(self, context: Context, options: AttentionOptions) -> tuple[Tensor, Tensor]:
        kept = options.keys_values
        if kept is not None and id(self) in kept:
            return kept[id(self)]
        k, v = self.to_kv(context.tokens).unflatten(-1, (2, self.heads, -1)).unbind(dim=-3)
        if self.k_rms_norm is not None:
            k = self.k_rms_norm(k)
        if kept is not None:
            kept[id(self)] = k, v
        return k, v


class ProjectedCrossAttention(nn.Module):
    """Cross-attention to the global image tokens plus a linear map of the feature every token projects to (Pixal3D)."""

    def __init__(self, channels: int, context_channels: int, heads: int, qk_rms_norm: bool, projected_channels: int):
        super().__init__()
        self.cross_attn_block = CrossAttention(channels, context_channels, heads, qk_rms_norm)
        self.proj_linear = Linear(projected_channels, channels)

    def forward(self, x: Tensor, context: Context, seqlens: Sequence[int] | None) -> Tensor:
        return self.cross_attn_block(x, context, seqlens) + self.proj_linear(context.projected)


class FeedForward(nn.Module):
    def __init__(self, channels: int, ratio: float):
        super().__init__()
        hidden = int(channels * ratio)
        self.mlp = nn.Sequential(Linear(channels, hidden), nn.GELU(approximate="tanh"), Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class ModulatedBlock(nn.Module):
    """Transformer block with adaptive layer norm; cross-attention is neither gated nor modulated.

    Source: TRELLIS.2, modulated transformer cross block; Pixal3D, projected cross-attention.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        heads: int,
        mlp_ratio: float,
        *,
        share_mod: bool,
        qk_rms_norm: bool,
        qk_rms_norm_cross: bool,
        projected_channels: int | None = None,
    ):
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=1e-6)
        self.norm3 = LayerNorm32(channels, eps=1e-6, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, heads, qk_rms_norm)
        if projected_channels is None:
            self.cross_attn = CrossAttention(channels, context_channels, heads, qk_rms_norm_cross)
        else:
            self.cross_attn = ProjectedCrossAttention(
                channels, context_channels, heads, qk_rms_norm_cross, projected_channels
            )
        self.mlp = FeedForward(channels, mlp_ratio)
        if share_mod:
            self.modulation = nn.Parameter(torch.randn(6 * channels) / channels**0.5)
        else:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(channels, 6 * channels))

    def forward(
        self,
        x: Tensor,
        mod: Tensor,
        context: Context,
        phases: Tensor | None = None,
        seqlens: Sequence[int] | None = None,
    ) -> Tensor:
        """x [B, L, C] or [N, C] (then `seqlens` is given); mod [B, 6C] shared modulation or [B, C] time embedding."""
        mod = (self.modulation + mod).to(mod.dtype) if hasattr(self, "modulation") else self.adaLN_modulation(mod)
        shift_sa, scale_sa, gate_sa, shift_ff, scale_ff, gate_ff = mod.chunk(6, dim=-1)
        h = _modulate(self.norm1(x), shift_sa, 1 + scale_sa, seqlens)
        x = x + _modulate(self.self_attn(h, phases, seqlens, context.options), None, gate_sa, seqlens)
        x = x + self.cross_attn(self.norm2(x), context, seqlens)
        h = _modulate(self.norm3(x), shift_ff, 1 + scale_ff, seqlens)
        return x + _modulate(self.mlp(h), None, gate_ff, seqlens)


def _modulate(x: Tensor, shift: Tensor | None, scale: Tensor, seqlens: Sequence[int] | None) -> Tensor:
    """x * scale + shift with the values [B, C] of each token's item; x [B, L, C], or [N, C] with `seqlens`."""
    if seqlens is not None and len(seqlens) > 1:  # item by item: a row per token would be as large as x itself
        shifts = [None] * len(seqlens) if shift is None else shift.split(1)
        parts = zip(x.split(list(seqlens)), shifts, scale.split(1), strict=True)
        return torch.cat([part * b if a is None else part * b + a for part, a, b in parts])
    if seqlens is None:
        shift, scale = None if shift is None else shift[:, None], scale[:, None]
    return x * scale if shift is None else x * scale + shift


def set_torso_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Casts the weights of linear and convolution layers to `dtype`; norms and bare parameters stay float32."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    for layer in module.modules():
        if isinstance(layer, kinds) or getattr(layer, "is_torso_layer", False):
            layer.to(dtype)
