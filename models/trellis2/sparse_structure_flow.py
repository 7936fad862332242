"""The flow transformer over the dense latent of the occupancy grid (first stage of TRELLIS.2 and Pixal3D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError
from .blocks import AttentionOptions, ModulatedBlock, TimestepEmbedder, absolute_positions, rope_phases, set_torso_dtype
from .conditions import Condition, dense_context
from .config import FlowConfig


def make_blocks(cfg: FlowConfig) -> nn.ModuleList:
    """The transformer blocks both flow networks share."""
    return nn.ModuleList(
        ModulatedBlock(
            cfg.model_channels,
            cfg.cond_channels,
            cfg.num_heads,
            cfg.mlp_ratio,
            share_mod=cfg.share_mod,
            qk_rms_norm=cfg.qk_rms_norm,
            qk_rms_norm_cross=cfg.qk_rms_norm_cross,
            projected_channels=cfg.projected_channels,
        )
        for _ in range(cfg.num_blocks)
    )


def grid_coords(resolution: int, device=None) -> Tensor:
    """[R^3, 3] integer coordinates in x-major order: row (x*R + y)*R + z."""
    axis = torch.arange(resolution, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)


class SparseStructureFlow(nn.Module):
    """Predicts the velocity of the R^3 structure latent; TRELLIS.2 `SparseStructureFlowModel`."""

    def __init__(self, cfg: FlowConfig):
        super().__init__()
        self.config = cfg
        c = cfg.model_channels
        self.t_embedder = TimestepEmbedder(c)
        if cfg.share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c, 6 * c))
        self.input_layer = nn.Linear(cfg.in_channels, c)
        self.blocks = make_blocks(cfg)
        self.out_layer = nn.Linear(c, cfg.out_channels)
        for name, table in self.computed_buffers().items():
            self.register_buffer(name, table)
        set_torso_dtype(self.blocks, cfg.dtype)

    def computed_buffers(self) -> dict[str, Tensor]:
        """The position table under its published name; it follows from the configuration and need not be in a file."""
        coords = grid_coords(self.config.resolution)
        if self.config.pe_mode == "ape":
            return {"pos_emb": absolute_positions(coords, self.config.model_channels)}
        return {"rope_phases": rope_phases(coords, self.config.model_channels // self.config.num_heads)}

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0].self_attn.to_qkv.weight.dtype

    def forward(
        self, x: Tensor, t: Tensor, cond: Tensor | Condition, options: AttentionOptions | None = None
    ) -> Tensor:
        """Velocity at `x`.

        x [B, C, R, R, R] float32, t [B] model time (1000 times the flow time), cond [B, M, D] image tokens or a
        `Condition` with projected features [B, R^3, P] -> [B, C, R, R, R] in the dtype of x. options: see
        `AttentionOptions`. Raises InputError where a shape does not fit the model.
        """
        cfg = self.config
        if x.shape[1:] != (cfg.in_channels, *[cfg.resolution] * 3):
            raise InputError(
                f"`x` is {list(x.shape)}; this model takes [B, {cfg.in_channels}, {cfg.resolution}, {cfg.resolution}, "
                f"{cfg.resolution}]."
            )
        dtype = self.torso_dtype
        h = self.input_layer(x.flatten(2).transpose(1, 2))
        if cfg.pe_mode == "ape":
            h = h + self.pos_emb
        mod = self.t_embedder(t)
        if cfg.share_mod:
            mod = self.adaLN_modulation(mod)
        context = dense_context(cond, cfg, x.shape[0], dtype)
        context.options = options
        h, mod = h.to(dtype), mod.to(dtype)
        phases = self.rope_phases if cfg.pe_mode == "rope" else None
        for block in self.blocks:
            h = block(h, mod, context, phases)
        h = F.layer_norm(h.to(x.dtype), h.shape[-1:])
        return self.out_layer(h).transpose(1, 2).reshape(x.shape[0], cfg.out_channels, *x.shape[2:])
