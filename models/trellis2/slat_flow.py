"""The flow transformer over structured latents (shape and texture stages of TRELLIS.2 and Pixal3D)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .blocks import AttentionOptions, TimestepEmbedder, absolute_positions, on_voxels, rope_phases, set_torso_dtype
from .conditions import AnyCondition, sparse_context
from .config import FlowConfig
from .sparse_structure_flow import make_blocks


class StructuredLatentFlow(nn.Module):
    """Predicts the velocity of the latent features of occupied voxels; TRELLIS.2 `SLatFlowModel`."""

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
        set_torso_dtype(self.blocks, cfg.dtype)

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0].self_attn.to_qkv.weight.dtype

    def forward(
        self,
        x: SparseTensor,
        t: Tensor,
        cond: AnyCondition,
        concat: Tensor | None = None,
        options: AttentionOptions | None = None,
    ) -> SparseTensor:
        """Velocity at `x`.

        x features [N, C] float32 on integer coords, t [B] model time (1000 times the flow time), cond tokens
        [B, M, D], a list of [M_i, D] or a `Condition` with projected features [N, P]; concat [N, K] is appended on
        channels (the normalized shape latent of the texture stage). Returns features [N, out] on the same coords.
        Positions are absolute voxel indices. options: see `AttentionOptions`. Raises InputError where a shape does not
        fit the model.
        """
        cfg = self.config
        feats = x.feats if concat is None else torch.cat([x.feats, concat], dim=-1)
        if feats.shape[-1] != cfg.in_channels:
            raise InputError(
                f"The latent has {feats.shape[-1]} channels with what is appended; this model takes {cfg.in_channels}."
            )
        dtype = self.torso_dtype
        seqlens = x.seqlens
        context = sparse_context(cond, cfg, seqlens, dtype)
        context.options = on_voxels(options, x.coords)
        h = self.input_layer(feats)
        phases = None
        if cfg.pe_mode == "ape":
            h = h + absolute_positions(x.coords[:, 1:], cfg.model_channels)
        else:
            phases = rope_phases(x.coords[:, 1:], cfg.model_channels // cfg.num_heads)
        mod = self.t_embedder(t)
        if cfg.share_mod:
            mod = self.adaLN_modulation(mod)
        h, mod = h.to(dtype), mod.to(dtype)
        for block in self.blocks:
            h = block(h, mod, context, phases, seqlens)
        h = F.layer_norm(h.to(feats.dtype), h.shape[-1:])
        return x.replace(self.out_layer(h))
