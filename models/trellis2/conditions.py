"""What a flow network is conditioned on, checked against the network before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...scene.errors import InputError
from .blocks import Context
from .config import FlowConfig


@dataclass(frozen=True)
class Condition:
    """Image condition of a projecting model (Pixal3D).

    tokens: [B, M, D] global image tokens (CLS and registers), or a list of [M_i, D] for sparse models.
    projected: the image feature every 3D token projects to, [B, R^3, P] for the dense model (x-major), [N, P] for the
    sparse ones in the order of their rows. color: the second part of the `gated_proj` mode, same leading shape.
    """

    tokens: Tensor | Sequence[Tensor]
    projected: Tensor | None = None
    color: Tensor | None = None

    def to(self, device) -> Condition:
        def move(v):
            return v if v is None else [t.to(device) for t in v] if isinstance(v, (list, tuple)) else v.to(device)

        return replace(self, tokens=move(self.tokens), projected=move(self.projected), color=move(self.color))


AnyCondition = Tensor | Sequence[Tensor] | Condition


def negative(cond: AnyCondition) -> AnyCondition:
    """The unconditional twin: zeros of the same shapes, projected features included (their linear bias remains)."""
    if isinstance(cond, Condition):

        def zeros(v):
            return None if v is None else negative(v)

        return Condition(negative(cond.tokens), zeros(cond.projected), zeros(cond.color))
    if isinstance(cond, (list, tuple)):
        return [torch.zeros_like(c) for c in cond]
    return torch.zeros_like(cond)


def concatenate(first: AnyCondition, second: AnyCondition) -> AnyCondition:
    """Two conditions as one batch: the items of `first`, then those of `second`."""
    if isinstance(first, Condition):

        def both(a, b):
            return None if a is None else concatenate(a, b)

        return Condition(
            both(first.tokens, second.tokens), both(first.projected, second.projected), both(first.color, second.color)
        )
    if isinstance(first, (list, tuple)):
        return [*first, *second]
    return torch.cat([first, second])


def _projected(cond: Condition, cfg: FlowConfig) -> Tensor | None:
    if cfg.image_attn_mode == "global":
        return None
    if cond.projected is None:
        raise InputError(
            "The condition has no projected features, and this model needs them (a Pixal3D model): "
            "make the condition with a camera."
        )
    parts = [cond.projected]
    if cfg.image_attn_mode == "gated_proj":
        if cond.color is None:
            raise InputError("The condition has no `color` features, and this `gated_proj` model needs them.")
        parts.append(cond.color)
    width = sum(p.shape[-1] for p in parts)
    if width != cfg.projected_channels:
        raise InputError(f"The projected features are {width} wide; this model takes {cfg.projected_channels}.")
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _as_condition(cond: AnyCondition, cfg: FlowConfig) -> tuple[Condition, Tensor | None]:
    if not isinstance(cond, Condition):
        cond = Condition(cond)
    for tokens in cond.tokens if isinstance(cond.tokens, (list, tuple)) else [cond.tokens]:
        if tokens.shape[-1] != cfg.cond_channels:
            raise InputError(f"The image tokens are {tokens.shape[-1]} wide; this model takes {cfg.cond_channels}.")
    return cond, _projected(cond, cfg)


def dense_context(cond: AnyCondition, cfg: FlowConfig, batch: int, dtype: torch.dtype) -> Context:
    """The condition as the dense network wants it: tokens [B, M, D], projected [B, R^3, P], in the torso dtype."""
    cond, projected = _as_condition(cond, cfg)
    if isinstance(cond.tokens, (list, tuple)):
        raise InputError("The image tokens are a list; the sparse-structure model takes one tensor [B, M, D].")
    if cond.tokens.ndim != 3 or cond.tokens.shape[0] != batch:
        raise InputError(f"The image tokens are {list(cond.tokens.shape)}; {batch} items want [{batch}, M, D].")
    if projected is not None:
        expected = (batch, cfg.resolution**3)
        if projected.shape[:2] != expected:
            raise InputError(f"The projected features are {list(projected.shape)}; {[*expected, 'P']} would fit.")
        projected = projected.to(dtype)
    return Context(cond.tokens.to(dtype), None, projected)


def sparse_context(cond: AnyCondition, cfg: FlowConfig, seqlens: Sequence[int], dtype: torch.dtype) -> Context:
    """The condition as the sparse network wants it: tokens of all items one after the other, with their numbers."""
    cond, projected = _as_condition(cond, cfg)
    items = list(cond.tokens)
    if len(items) != len(seqlens):
        raise InputError(f"The image tokens are for {len(items)} items; the latent has {len(seqlens)}.")
    if projected is not None:
        if projected.ndim != 2 or projected.shape[0] != sum(seqlens):
            raise InputError(
                f"The projected features are {list(projected.shape)}; {[sum(seqlens), 'P']} would fit the latent."
            )
        projected = projected.to(dtype)
    return Context(torch.cat(items).to(dtype), [int(i.shape[0]) for i in items], projected)
