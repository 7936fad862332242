"""The flow over structured latents of TRELLIS (v1) and SAM 3D Objects: a transformer between residual blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.sparse_conv import submanifold_conv3d
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor, pack_coords, unpack_coords
from ..trellis2.blocks import (
    AttentionOptions,
    LayerNorm32,
    Linear,
    TimestepEmbedder,
    _modulate,
    absolute_positions,
    on_voxels,
    rope_phases,
    set_torso_dtype,
)
from ..trellis2.conditions import AnyCondition, sparse_context
from ..trellis2.sparse_structure_flow import make_blocks
from .config import LatentFlowConfig


@dataclass(frozen=True)
class Pooling:
    """Which parent [N] every voxel has, and the voxels it came from."""

    parent: Tensor
    fine: SparseTensor


def pool_voxels(x: SparseTensor) -> tuple[SparseTensor, Pooling]:
    """Halves the grid: a parent has the mean of its voxels; parents in lexicographic order. TRELLIS, downsampling."""

    def find():
        coords = x.coords.clone()
        coords[:, 1:] //= 2
        keys, parent = torch.unique(pack_coords(coords), sorted=True, return_inverse=True)
        return unpack_coords(keys), parent, {}

    coords, parent, cache = x.once("pool_voxels", find)
    # Like the official code, whose mean counts the zeros it starts from: sum / (voxels + 1).
    total = x.feats.new_zeros(coords.shape[0], x.feats.shape[1], dtype=torch.float32)
    total.index_add_(0, parent, x.feats.float())
    count = torch.bincount(parent, minlength=coords.shape[0]) + 1
    feats = (total / count[:, None]).to(x.dtype)
    return SparseTensor(feats, coords, x.batch_size, cache), Pooling(parent, x)


def unpool_voxels(x: SparseTensor, plan: Pooling) -> SparseTensor:
    """Every voxel takes its parent's features."""
    return plan.fine.replace(x.feats.index_select(0, plan.parent))


class SparseConv3d(nn.Module):
    """Submanifold 3x3x3 convolution (1x1x1 as a linear map) with the weight layout of spconv, [Co, k, k, k, Ci].

    spconv reads the weight of a 1x1x1 convolution as [Ci, Co] whatever its shape says; the networks were trained so.
    """

    is_torso_layer = True

    def __init__(self, channels: int, out_channels: int, kernel: int = 3):
        super().__init__()
        self.conv = _Weights(out_channels, kernel, channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        weight, bias = self.conv.weight, self.conv.bias
        if weight.shape[1] == 3:
            return submanifold_conv3d(x, weight, bias)
        matrix = weight.reshape(weight.shape[4], weight.shape[0])
        if x.device.type == "cpu" and x.dtype == torch.float16:
            return x.replace((x.feats.float() @ matrix.float() + bias.float()).to(x.dtype))
        return x.replace(x.feats @ matrix + bias)


class _Weights(nn.Module):
    def __init__(self, out_channels: int, kernel: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, kernel, kernel, kernel, channels))
        self.bias = nn.Parameter(torch.empty(out_channels))


class SparseResBlock(nn.Module):
    """Residual block of two sparse convolutions, modulated by the time; resamples the grid first where asked."""

    def __init__(self, channels: int, emb_channels: int, out_channels: int, resample: str | None = None):
        super().__init__()
        self.resample = resample
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(emb_channels, 2 * out_channels))
        self.skip_connection = nn.Identity() if channels == out_channels else Linear(channels, out_channels)

    def forward(self, x: SparseTensor, emb: Tensor, plans: list[Pooling]) -> SparseTensor:
        scale, shift = self.emb_layers(emb).to(x.dtype).chunk(2, dim=-1)
        if self.resample == "down":
            x, plan = pool_voxels(x)
            plans.append(plan)
        elif self.resample == "up":
            x = unpool_voxels(x, plans.pop())
        h = self.conv1(x.replace(F.silu(self.norm1(x.feats))))
        feats = _modulate(self.norm2(h.feats), shift, 1 + scale, h.seqlens)
        h = self.conv2(h.replace(F.silu(feats)))
        return h.replace(h.feats + self.skip_connection(x.feats))


class LatentFlow(nn.Module):
    """Predicts the velocity of the latent features of occupied voxels; TRELLIS `SLatFlowModel`."""

    def __init__(self, cfg: LatentFlowConfig):
        super().__init__()
        self.config = cfg
        c, io = cfg.model_channels, list(cfg.io_block_channels)
        self.t_embedder = TimestepEmbedder(c)
        if cfg.is_shortcut_model:
            self.d_embedder = TimestepEmbedder(c)
        if cfg.share_mod:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(c, 6 * c))
        self.input_layer = nn.Linear(cfg.in_channels, io[0])
        self.input_blocks = nn.ModuleList()
        for width, wider in zip(io, [*io[1:], c]):
            self.input_blocks.extend(SparseResBlock(width, c, width) for _ in range(cfg.num_io_res_blocks - 1))
            self.input_blocks.append(SparseResBlock(width, c, wider, "down"))
        self.blocks = make_blocks(cfg.transformer)
        self.out_blocks = nn.ModuleList()
        double = 2 if cfg.use_skip_connection else 1
        for width, wider in zip(reversed(io), [c, *reversed(io[1:])]):
            self.out_blocks.append(SparseResBlock(wider * double, c, width, "up"))
            self.out_blocks.extend(SparseResBlock(width * double, c, width) for _ in range(cfg.num_io_res_blocks - 1))
        self.out_layer = nn.Linear(io[0], cfg.out_channels)
        for torso in (self.input_blocks, self.blocks, self.out_blocks):
            set_torso_dtype(torso, cfg.dtype)

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0].self_attn.to_qkv.weight.dtype

    def forward(
        self,
        x: SparseTensor,
        t: Tensor,
        cond: AnyCondition,
        concat: None = None,
        options: AttentionOptions | None = None,
        d: Tensor | None = None,
    ) -> SparseTensor:
        """Velocity at `x`.

        x features [N, C] float32 on integer coords, t [B] model time (1000 times the flow time), cond tokens
        [B, M, D] or a list of [M_i, D]. options: see `AttentionOptions`. d [B]: step size of a shortcut model.
        Returns features [N, out] on the same coords, in their order. Raises InputError where a shape does not fit.
        """
        cfg = self.config
        if x.feats.shape[-1] != cfg.in_channels:
            raise InputError(f"The latent has {x.feats.shape[-1]} channels; this model takes {cfg.in_channels}.")
        if concat is not None:
            raise InputError("This model takes no second latent; TRELLIS (v1) has one for shape and color together.")
        dtype = self.torso_dtype
        emb = self.t_embedder(t)
        if d is not None:
            emb = emb + self.d_embedder(d)
        mod = self.adaLN_modulation(emb) if cfg.share_mod else emb
        emb, mod = mod.to(dtype), mod.to(dtype)
        h = x.replace(self.input_layer(x.feats).to(dtype))
        skips, plans = [], []
        for block in self.input_blocks:
            h = block(h, emb, plans)
            skips.append(h.feats)
        context = sparse_context(cond, cfg.transformer, h.seqlens, dtype)
        context.options = on_voxels(options, h.coords)
        phases = None
        if cfg.pe_mode == "ape":
            h = h.replace(h.feats + absolute_positions(h.coords[:, 1:], cfg.model_channels).to(dtype))
        else:
            phases = rope_phases(h.coords[:, 1:], cfg.model_channels // cfg.num_heads)
        feats = h.feats
        for block in self.blocks:
            feats = block(feats, mod, context, phases, h.seqlens)
        h = h.replace(feats)
        for block, skip in zip(self.out_blocks, reversed(skips)):
            h = block(h.replace(torch.cat([h.feats, skip], -1)) if cfg.use_skip_connection else h, emb, plans)
        feats = F.layer_norm(h.feats, h.feats.shape[-1:]).to(x.dtype)
        return h.replace(self.out_layer(feats))
