"""SAM 3D's flow over the structure latent and the pose: a mixture of transformers, one stream for each.

The shape stream attends to itself, the pose stream to itself and the shape; both attend to the picture's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import attention
from ...scene.errors import InputError
from ..trellis2.blocks import (
    AttentionOptions,
    Context,
    CrossAttention,
    FeedForward,
    LayerNorm32,
    Linear,
    TimestepEmbedder,
    absolute_positions,
    set_torso_dtype,
)
from ..trellis2.config import _flow_dtype, _from_args
from ..trellis2.sparse_structure_flow import grid_coords

POSE = "6drotation_normalized"  # the stream of all pose tokens is named after its first
STREAMS = ("shape", POSE)
POSE_LATENTS = {POSE: 6, "translation": 3, "scale": 3, "translation_scale": 1}  # in the order of the stream
Latents = dict[str, Tensor]


@dataclass(frozen=True)
class MotFlowConfig:
    """in_channels: of the shape latent; resolution: its grid (16 as published)."""

    in_channels: int
    model_channels: int
    cond_channels: int
    num_blocks: int
    num_heads: int
    resolution: int = 16
    mlp_ratio: float = 4.0
    share_mod: bool = False
    qk_rms_norm: bool = True
    qk_rms_norm_cross: bool = False
    is_shortcut_model: bool = True
    dtype: torch.dtype = torch.float32

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> MotFlowConfig:
        renamed: dict[str, Any] = {"dtype": _flow_dtype(args)}
        if args.get("num_heads") is None:
            renamed["num_heads"] = args["model_channels"] // args.get("num_head_channels", 64)
        return _from_args(cls, args, renamed)


class HeadRMSNorm(nn.Module):
    """As TRELLIS's, but in the dtype of its input."""

    def __init__(self, head_dim: int, heads: int):
        super().__init__()
        self.scale = head_dim**0.5
        self.gamma = nn.Parameter(torch.ones(heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(x, dim=-1) * self.gamma * self.scale).to(x.dtype)


def _each(make) -> nn.ModuleDict:
    return nn.ModuleDict({name: make() for name in STREAMS})


class MotSelfAttention(nn.Module):
    def __init__(self, channels: int, heads: int, qk_rms_norm: bool):
        super().__init__()
        self.heads = heads
        self.to_qkv = _each(lambda: Linear(channels, channels * 3))
        self.normed = qk_rms_norm
        if qk_rms_norm:
            self.q_rms_norm = _each(lambda: HeadRMSNorm(channels // heads, heads))
            self.k_rms_norm = _each(lambda: HeadRMSNorm(channels // heads, heads))
        self.to_out = _each(lambda: Linear(channels, channels))

    def forward(self, x: Latents) -> Latents:
        q, k, v = {}, {}, {}
        for name, tokens in x.items():
            parts = self.to_qkv[name](tokens).unflatten(-1, (3, self.heads, -1)).unbind(dim=-3)
            q[name], k[name], v[name] = parts
            if self.normed:
                q[name], k[name] = self.q_rms_norm[name](q[name]), self.k_rms_norm[name](k[name])
        h = {
            "shape": attention(q["shape"], k["shape"], v["shape"]),
            POSE: attention(q[POSE], torch.cat([k[POSE], k["shape"]], 1), torch.cat([v[POSE], v["shape"]], 1)),
        }
        return {name: self.to_out[name](h[name].flatten(-2)) for name in x}


class MotBlock(nn.Module):
    def __init__(self, cfg: MotFlowConfig):
        super().__init__()
        c = cfg.model_channels
        self.norm1 = _each(lambda: LayerNorm32(c, eps=1e-6, elementwise_affine=False))
        self.norm2 = _each(lambda: LayerNorm32(c, eps=1e-6))
        self.norm3 = _each(lambda: LayerNorm32(c, eps=1e-6, elementwise_affine=False))
        self.self_attn = MotSelfAttention(c, cfg.num_heads, cfg.qk_rms_norm)
        self.cross_attn = _each(lambda: CrossAttention(c, cfg.cond_channels, cfg.num_heads, cfg.qk_rms_norm_cross))
        self.mlp = _each(lambda: FeedForward(c, cfg.mlp_ratio))
        if not cfg.share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(c, 6 * c))

    def forward(self, x: Latents, mod: Tensor, context: Context) -> Latents:
        mod = self.adaLN_modulation(mod) if hasattr(self, "adaLN_modulation") else mod
        shift_sa, scale_sa, gate_sa, shift_ff, scale_ff, gate_ff = mod[:, None].chunk(6, dim=-1)
        h = self.self_attn({n: self.norm1[n](v) * (1 + scale_sa) + shift_sa for n, v in x.items()})
        x = {n: v + h[n] * gate_sa for n, v in x.items()}
        x = {n: v + self.cross_attn[n](self.norm2[n](v), context, None) for n, v in x.items()}
        h = {n: self.mlp[n](self.norm3[n](v) * (1 + scale_ff) + shift_ff) for n, v in x.items()}
        return {n: v + h[n] * gate_ff for n, v in x.items()}


class LatentMap(nn.Module):
    """Tokens of one latent into the width of the transformer and back, with their positions."""

    def __init__(self, channels: int, width: int, positions: Tensor | None, tokens: int = 1):
        super().__init__()
        self.input_layer = nn.Linear(channels, width)
        self.out_layer = nn.Linear(width, channels)
        if positions is None:
            self.pos_emb = nn.Parameter(torch.empty(tokens, width))
        else:
            self.register_buffer("pos_emb", positions)


class MotFlow(nn.Module):
    """Predicts the velocities of shape and pose; SAM 3D `SparseStructureFlowTdfyWrapper`."""

    def __init__(self, cfg: MotFlowConfig):
        super().__init__()
        self.config = cfg
        c = cfg.model_channels
        if cfg.is_shortcut_model:
            self.d_embedder = TimestepEmbedder(c)
        self.t_embedder = TimestepEmbedder(c)
        if cfg.share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c, 6 * c))
        self.blocks = nn.ModuleList(MotBlock(cfg) for _ in range(cfg.num_blocks))
        table = absolute_positions(grid_coords(cfg.resolution, "cpu"), c)
        maps = {name: LatentMap(width, c, None) for name, width in POSE_LATENTS.items()}
        self.latent_mapping = nn.ModuleDict({**maps, "shape": LatentMap(cfg.in_channels, c, table)})
        set_torso_dtype(self.blocks, cfg.dtype)

    def computed_buffers(self) -> dict[str, Tensor]:
        """The position table, which need not be in a file."""
        coords = grid_coords(self.config.resolution, "cpu")
        return {"latent_mapping.shape.pos_emb": absolute_positions(coords, self.config.model_channels)}

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0].self_attn.to_qkv["shape"].weight.dtype

    def latent_shapes(self, batch: int = 1) -> dict[str, tuple[int, int, int]]:
        """Shape of every latent, in sorted order (in which noise is drawn)."""
        tokens = {name: 1 for name in POSE_LATENTS} | {"shape": self.config.resolution**3}
        widths = POSE_LATENTS | {"shape": self.config.in_channels}
        return {name: (batch, tokens[name], widths[name]) for name in sorted(tokens)}

    def forward(
        self, x: Latents, t: Tensor, cond: Tensor, options: AttentionOptions | None = None, d: Tensor | None = None
    ) -> Latents:
        """Velocities of the five latents.

        x: {name: [B, tokens, channels]} float32, see `latent_shapes`; t [B or 1]: 1000 times the flow time, data at 1;
        cond [B, M, D]; d [B or 1]: 1000 times the step size of a shortcut model. options: see `AttentionOptions`; a
        blur reaches cross-attention only, as released. Raises InputError for a latent that is missing or misshapen.
        """
        batch = cond.shape[0]
        for name, shape in self.latent_shapes(batch).items():
            if name not in x or tuple(x[name].shape) != shape:
                found = list(x[name].shape) if name in x else "missing"
                raise InputError(f"The latent {name!r} is {found}; this model takes {list(shape)}.")
        if cond.shape[-1] != self.config.cond_channels:
            raise InputError(
                f"The image tokens are {cond.shape[-1]} wide; this model takes {self.config.cond_channels}."
            )
        emb = self.t_embedder(t)
        if d is not None:
            emb = emb + self.d_embedder(d)
        if self.config.share_mod:
            emb = self.adaLN_modulation(emb)
        dtype, kind = self.torso_dtype, x["shape"].dtype
        tokens = {name: part.input_layer(x[name]) + part.pos_emb for name, part in self.latent_mapping.items()}
        h = {POSE: torch.cat([tokens[name] for name in POSE_LATENTS], 1).to(dtype), "shape": tokens["shape"].to(dtype)}
        context, mod = Context(cond.to(dtype), options=options), emb.to(dtype)
        for block in self.blocks:
            h = block(h, mod, context)
        parts = dict(zip(POSE_LATENTS, h[POSE].to(kind).split(1, 1))) | {"shape": h["shape"].to(kind)}
        return {
            name: part.out_layer(F.layer_norm(parts[name], parts[name].shape[-1:]))
            for name, part in self.latent_mapping.items()
        }
