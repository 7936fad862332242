"""The dual-branch mix for samplers that speak of clean estimates: sigma times velocity = noisy minus clean."""

from __future__ import annotations

import torch
from torch import Tensor

from .blends import blend
from .sampling import Mix


def step_of(sigma: float, sigmas: Tensor) -> int:
    """The step [0, K-1] of a run over `sigmas` [K + 1] whose noise level is nearest to `sigma`."""
    steps = max(len(sigmas) - 1, 1)
    return int((sigmas[:steps].float().cpu() - sigma).abs().argmin())


def mix_denoised(x: Tensor, sigma: float, obs: Tensor, prior: Tensor, alpha: float, mix: Mix) -> Tensor:
    """The clean estimate of the mixed velocity.

    x, obs, prior: noisy state and clean estimates of both branches, [B, C, ...]; the blends' last axis is C. sigma: the
    noise level, x = clean + sigma velocity. mix.visible: [B or 1, ..., 1], channels last, or None. At alpha 0 `obs`
    itself is returned.
    """
    if alpha <= 0 or mix.weight <= 0:
        return obs
    v_obs, v_prior = (((x - clean) / sigma).movedim(1, -1) for clean in (obs, prior))
    v = blend(mix.blend, v_obs, v_prior, alpha, mix.weight, None, mix.args)
    if mix.visible is not None:
        mask = mix.visible.to(v).clamp(0, 1)
        v = mask * v_obs + (1 - mask) * v
    return x - sigma * v.movedim(-1, 1)


def lay_out(visible: Tensor, shape: torch.Size) -> Tensor:
    """A mask of voxels [N] or [R, R, R] or of a picture [H, W] as the state [B, C, ...] wants it, channels last."""
    spatial = list(shape[2:])
    if visible.ndim == 1 and len(spatial) == 2 and spatial[1] == 1:  # sparse latents [B, C, N, 1]
        padded = visible.new_zeros(spatial[0])
        padded[: len(visible)] = visible[: spatial[0]]
        return padded.view(1, -1, 1, 1)
    return visible.reshape(1, *spatial, 1)
