"""Ways to mix the velocity of the observation with that of the prior."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError


def linear(obs: Tensor, prior: Tensor, alpha: float, weight: float) -> Tensor:
    """(1 - alpha) obs + alpha weight prior; below weight 1 the whole velocity shrinks."""
    return (1.0 - alpha) * obs + alpha * weight * prior


def residual_pull(obs: Tensor, prior: Tensor, alpha: float, weight: float) -> Tensor:
    """obs + alpha weight (prior - obs): the weight scales the pull, not the velocity."""
    return obs + alpha * weight * (prior - obs)


def norm_weighted(obs: Tensor, prior: Tensor, alpha: float, weight: float, norm_eps: float = 1e-4) -> Tensor:
    """Both by the inverse of their lengths along the last axis."""
    w_obs = 1.0 / obs.norm(dim=-1, keepdim=True).clamp_min(norm_eps)
    w_prior = weight / prior.norm(dim=-1, keepdim=True).clamp_min(norm_eps)
    total = w_obs + w_prior
    return (1.0 - alpha) * (w_obs / total) * obs + alpha * (w_prior / total) * prior


def cosine_guided(obs: Tensor, prior: Tensor, alpha: float, weight: float, sim_eps: float = 1e-4) -> Tensor:
    """The prior counts as far as it points the same way along the last axis."""
    gain = ((F.cosine_similarity(obs, prior, dim=-1, eps=sim_eps) + 1.0) * 0.5).clamp(0.0, 1.0)[..., None]
    return (1.0 - alpha) * obs + alpha * weight * gain * prior


def softmax_moe(
    obs: Tensor, prior: Tensor, alpha: float, weight: float, temperature: float = 1.0, norm_eps: float = 1e-4
) -> Tensor:
    """The longer velocity along the last axis counts more: softmax over the two lengths.

    What the released function means; as released its weights have one axis too many and do not broadcast.
    """
    lengths = torch.stack([v.norm(dim=-1, keepdim=True).clamp_min(norm_eps) for v in (obs, prior)])
    w_obs, w_prior = torch.softmax(lengths / max(temperature, 1e-6), 0)
    w_prior = w_prior * weight
    total = (w_obs + w_prior).clamp_min(1e-6)
    return (1.0 - alpha) * (w_obs / total) * obs + alpha * (w_prior / total) * prior


def tanh_clipped(obs: Tensor, prior: Tensor, alpha: float, weight: float, clip_value: float = 2.0) -> Tensor:
    """The prior's velocity is kept within +-clip_value, softly."""
    return (1.0 - alpha) * obs + alpha * weight * torch.tanh(prior / clip_value) * clip_value


BLENDS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (linear, residual_pull, norm_weighted, cosine_guided, softmax_moe, tanh_clipped)
}


def blend(
    name: str,
    obs: Tensor,
    prior: Tensor,
    alpha: float,
    weight: float = 1.0,
    visible: Tensor | None = None,
    args: Mapping[str, Any] | None = None,
) -> Tensor:
    """The velocity to follow.

    obs, prior: velocities of the same shape, "last axis" is theirs. alpha: the schedule's value; weight: prior weight.
    visible: 1 where the observation alone counts (clamped to [0, 1]), of the velocity's shape, broadcastable, or
    without the last axis; the released code takes it for "linear" only. args: options of any blend; those this one
    does not know are passed over. Raises InputError for an unknown name and shapes that differ.
    Source: RelaxFlow, flow blends.
    """
    if name not in BLENDS:
        raise InputError(f"The blend {name!r} is unknown; known are {', '.join(BLENDS)}.")
    if obs.shape != prior.shape:
        raise InputError(f"The velocities are {list(obs.shape)} and {list(prior.shape)}; they must agree.")
    known = inspect.signature(BLENDS[name]).parameters
    chosen = {key: value for key, value in (args or {}).items() if key in known}
    out = BLENDS[name](obs, prior, alpha, weight, **chosen)
    if visible is None:
        return out
    mask = visible.to(obs).clamp(0.0, 1.0)
    if mask.ndim == obs.ndim - 1:
        mask = mask[..., None]
    return mask * obs + (1.0 - mask) * out
