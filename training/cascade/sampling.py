"""Sampling the flows for many held-out objects at once, and how well what they give fits the truth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...models.trellis2.conditions import Condition, negative
from ...models.trellis2.samplers import (
    SamplerSettings,
    dense_std,
    dense_velocity,
    sample_flow,
    sparse_std,
    sparse_velocity,
)
from ...scene.sparse import SparseTensor

STRUCTURE_SAMPLER = SamplerSettings(6, 1.0, 0.0, (0.0, 1.0), 3.0)
LATENT_SAMPLER = SamplerSettings(6, 1.0, 0.0, (0.0, 1.0), 3.0)


@torch.no_grad()
def sample_structures(
    flow: nn.Module, cond: Condition, settings: SamplerSettings = STRUCTURE_SAMPLER, seed: int = 0
) -> Tensor:
    """Structure latents [B, C, r, r, r] for a dense condition of B items."""
    cfg = flow.config
    shape = (len(cond.tokens), cfg.in_channels, *[cfg.resolution] * 3)
    start = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    velocity, _ = dense_velocity(flow)
    with torch.autocast("cpu", torch.bfloat16):
        return sample_flow(velocity, start, cond, negative(cond), settings, std=dense_std).float()


@torch.no_grad()
def sample_latents(
    flow: nn.Module,
    coords: Tensor,
    cond: Condition,
    settings: SamplerSettings = LATENT_SAMPLER,
    seed: int = 0,
    concat: Tensor | None = None,
) -> Tensor:
    """Normalized latents [N, C] on the voxels coords [N, 4]."""
    start = torch.randn(len(coords), flow.config.out_channels, generator=torch.Generator().manual_seed(seed))
    voxels = SparseTensor(start, coords, len(cond.tokens))
    velocity, _ = sparse_velocity(flow, voxels, concat)
    with torch.autocast("cpu", torch.bfloat16):
        return sample_flow(velocity, start, cond, negative(cond), settings, std=sparse_std(voxels.layout)).float()


def intersection_over_union(found: Tensor, true: Tensor) -> Tensor:
    """[B] of bool grids [B, ...]."""
    found, true = found.flatten(1), true.flatten(1)
    return (found & true).sum(1) / (found | true).sum(1).clamp_min(1)
