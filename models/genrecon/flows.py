"""TRELLIS.2's flow transformers with a second condition: a feature for every voxel, added before every block.

h <- h + proj_linears[i](c), then block i as it is, whose cross-attention looks at the tokens of one view. Without a
condition both are zeros: keys and values of the cross-attention are then one constant vector, so its output is too.
Source: GenRecon, specification 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.attention import attention, varlen_attention
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ..trellis2.blocks import Context, CrossAttention, Linear, absolute_positions, rope_phases
from ..trellis2.config import FlowConfig
from ..trellis2.slat_flow import StructuredLatentFlow
from ..trellis2.sparse_structure_flow import SparseStructureFlow
from .aggregator import ViewAggregator
from .lora import LoraConfig, with_lora

KeysValues = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class ViewTokens:
    """The tokens [M, D] of the view each item looks at, with room for what the blocks make of them.

    cache: per model, the keys and values of every block; filled by `KeyValueCache`.
    """

    tokens: Tensor
    cache: dict = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class SceneCondition:
    """What one batch of chunks is conditioned on.

    views: one per item, or None for the unconditional pass. voxels: [B, R^3, D] for the dense model, [N, D] for the
    sparse ones, in the order of their rows; None stands for zeros.
    """

    views: Sequence[ViewTokens] | None
    voxels: Tensor | None


class CrossContext(Context):
    """What a block's cross-attention gets: keys and values of every block, or None in the unconditional pass."""

    def __init__(self, keys_values: list[KeysValues] | None):
        super().__init__(None)
        self.keys_values, self.block = keys_values, 0


class ViewCrossAttention(CrossAttention):
    """Cross-attention whose keys and values may be there already; parameter names as published."""

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """k and v, [M, heads, head] each, of tokens [M, D]."""
        k, v = self.to_kv(tokens).unflatten(-1, (2, self.heads, -1)).unbind(dim=-3)
        return (k if self.k_rms_norm is None else self.k_rms_norm(k)), v

    def constant(self) -> Tensor:
        """The output [C] for tokens that are all zero: every value is the same, so attention returns it."""
        return self.to_out(self.to_kv.bias.chunk(2)[1].to(self.to_out.weight.dtype))

    def forward(self, x: Tensor, context: CrossContext, seqlens: Sequence[int] | None) -> Tensor:
        if context.keys_values is None:
            return self.constant().expand_as(x)
        found = [items[context.block] for items in context.keys_values]
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        if self.q_rms_norm is not None:
            q = self.q_rms_norm(q)
        if seqlens is None:
            k, v = (torch.stack([item[i] for item in found]) for i in (0, 1))
            h = attention(q, k, v)
        else:
            k, v = (torch.cat([item[i] for item in found]) for i in (0, 1))
            h = varlen_attention(q, k, v, seqlens, [len(item[0]) for item in found])
        return self.to_out(h.flatten(-2))


def _extend(model: nn.Module, cfg: FlowConfig, two_pass: bool, lora: LoraConfig | None, aggregator: dict) -> None:
    for block in model.blocks:
        block.cross_attn = ViewCrossAttention(
            cfg.model_channels, cfg.cond_channels, cfg.num_heads, cfg.qk_rms_norm_cross
        )
        block.cross_attn.to(model.torso_dtype)
        for norm in (block.cross_attn.q_rms_norm, block.cross_attn.k_rms_norm):
            if norm is not None:
                norm.float()
    if lora is not None:
        with_lora(model.blocks, lora)
    model.proj_linears = nn.ModuleList(Linear(cfg.cond_channels, cfg.model_channels) for _ in model.blocks)
    model.aggregator = ViewAggregator(cfg.cond_channels, two_pass=two_pass, **aggregator)
    for layer in model.proj_linears:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for part in (model.aggregator.feature_mlp[-1].weight, model.aggregator.feature_mlp[-1].bias):
        nn.init.zeros_(part)


def _keys_values(model: nn.Module, views: Sequence[ViewTokens] | None) -> list[KeysValues] | None:
    if views is None:
        return None
    for view in views:
        if view.tokens.ndim != 2 or view.tokens.shape[1] != model.config.cond_channels:
            raise InputError(
                f"The tokens of a view are {list(view.tokens.shape)}; this model takes [M, "
                f"{model.config.cond_channels}]."
            )
    return [view.cache.get(id(model)) or compute_keys_values(model, view.tokens) for view in views]


def compute_keys_values(model: nn.Module, tokens: Tensor) -> KeysValues:
    """Keys and values of every block of a flow for the tokens [M, D] of one view."""
    tokens = tokens.to(model.torso_dtype)
    return [block.cross_attn.keys_values(tokens) for block in model.blocks]


class KeyValueCache:
    """Keys and values of views for one flow over all its steps, as far as `limit` bytes reach; views beyond it are
    computed anew in every step."""

    def __init__(self, model: nn.Module, views: Sequence[ViewTokens], limit: int):
        self.model, self.views = model, []
        cfg = model.config
        each = 2 * cfg.model_channels * len(model.blocks) * torch.finfo(model.torso_dtype).bits // 8
        for view in {id(v): v for v in views}.values():
            limit -= each * len(view.tokens)
            if limit < 0:
                break
            self.views.append(view)

    def __enter__(self) -> KeyValueCache:
        for view in self.views:
            view.cache[id(self.model)] = compute_keys_values(self.model, view.tokens)
        return self

    def __exit__(self, *_) -> None:
        for view in self.views:
            view.cache.pop(id(self.model), None)


def _run_blocks(model, h: Tensor, mod: Tensor, cond: SceneCondition, phases, seqlens) -> Tensor:
    dtype = h.dtype
    context = CrossContext(_keys_values(model, cond.views))
    voxels = None if cond.voxels is None else cond.voxels.to(dtype)
    for i, (block, linear) in enumerate(zip(model.blocks, model.proj_linears)):
        context.block = i
        h = h + (linear.bias.to(dtype) if voxels is None else F.linear(
            voxels, linear.weight.to(dtype), linear.bias.to(dtype)))  # fmt: skip
        h = block(h, mod, context, phases, seqlens)
    return h


class ConditionedStructureFlow(SparseStructureFlow):
    """GenRecon's first stage; keys are TRELLIS.2's plus `proj_linears.*` and `aggregator.*` (and LoRA to train)."""

    def __init__(self, cfg: FlowConfig, lora: LoraConfig | None = None, aggregator: dict | None = None):
        super().__init__(cfg)
        _extend(self, cfg, False, lora, aggregator or {})

    def forward(self, x: Tensor, t: Tensor, cond: SceneCondition) -> Tensor:
        """Velocity at x [B, C, R, R, R]; t [B] model time; cond.voxels [B, R^3, D] in x-major order."""
        cfg = self.config
        if x.shape[1:] != (cfg.in_channels, *[cfg.resolution] * 3):
            raise InputError(f"`x` is {list(x.shape)}; this model takes [B, {cfg.in_channels}] and {cfg.resolution}^3.")
        if cond.voxels is not None and cond.voxels.shape[:2] != (len(x), cfg.resolution**3):
            raise InputError(
                f"The voxel features are {list(cond.voxels.shape)}; {[len(x), cfg.resolution**3, 'D']} would fit."
            )
        h = self.input_layer(x.flatten(2).transpose(1, 2))
        phases = None if cfg.pe_mode == "ape" else self.rope_phases
        if phases is None:
            h = h + self.pos_emb
        mod = self.t_embedder(t)
        if cfg.share_mod:
            mod = self.adaLN_modulation(mod)
        h, mod = h.to(self.torso_dtype), mod.to(self.torso_dtype)
        h = _run_blocks(self, h, mod, cond, phases, None)
        h = F.layer_norm(h.to(x.dtype), h.shape[-1:])
        return self.out_layer(h).transpose(1, 2).reshape(len(x), cfg.out_channels, *x.shape[2:])


class ConditionedLatentFlow(StructuredLatentFlow):
    """GenRecon's shape and texture stages."""

    def __init__(self, cfg: FlowConfig, lora: LoraConfig | None = None, aggregator: dict | None = None):
        super().__init__(cfg)
        _extend(self, cfg, True, lora, aggregator or {})

    def forward(self, x: SparseTensor, t: Tensor, cond: SceneCondition, concat: Tensor | None = None) -> SparseTensor:
        """Velocity at x [N, C]; t [B] model time; cond.voxels [N, D]; concat [N, K] appended on channels."""
        cfg = self.config
        feats = x.feats if concat is None else torch.cat([x.feats, concat], dim=-1)
        if feats.shape[-1] != cfg.in_channels:
            raise InputError(f"The latent has {feats.shape[-1]} channels in all; this model takes {cfg.in_channels}.")
        if cond.voxels is not None and len(cond.voxels) != len(feats):
            raise InputError(f"There are {len(cond.voxels)} voxel features for {len(feats)} voxels.")
        h = self.input_layer(feats)
        phases = None
        if cfg.pe_mode == "ape":
            h = h + absolute_positions(x.coords[:, 1:], cfg.model_channels)
        else:
            phases = rope_phases(x.coords[:, 1:], cfg.model_channels // cfg.num_heads)
        mod = self.t_embedder(t)
        if cfg.share_mod:
            mod = self.adaLN_modulation(mod)
        h, mod = h.to(self.torso_dtype), mod.to(self.torso_dtype)
        h = _run_blocks(self, h, mod, cond, phases, x.seqlens)
        h = F.layer_norm(h.to(feats.dtype), h.shape[-1:])
        return x.replace(self.out_layer(h))
