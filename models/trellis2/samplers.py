"""The Euler sampler of TRELLIS.2's flows: guidance in an interval, guidance rescale, shifted time.

A sampler is a plain function of (velocity function, noise, schedule). The velocity function takes (x, t, cond), with x
a float tensor and t the flow time in [0, 1], and returns a tensor like x; `dense_velocity` and `sparse_velocity` make
one from a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .conditions import AnyCondition, concatenate

Velocity = Callable[[Tensor, float, AnyCondition], Tensor]
VelocityPair = Callable[[Tensor, float, AnyCondition, AnyCondition], "tuple[Tensor, Tensor]"]


@dataclass(frozen=True)
class SamplerSettings:
    """Options of one stage; names are those of the published `pipeline.json`."""

    steps: int = 12
    guidance_strength: float = 7.5
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    rescale_t: float = 1.0
    sigma_min: float = 1e-5

    def __post_init__(self):
        object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))
        if int(self.steps) != self.steps or self.steps < 1:
            raise InputError(f"`steps` is {self.steps}; a whole number of at least 1 would work.")
        if self.rescale_t <= 0:
            raise InputError(f"`rescale_t` is {self.rescale_t}; it must be positive (1 leaves the times even).")
        if len(self.guidance_interval) != 2:
            raise InputError(f"`guidance_interval` is {self.guidance_interval}; it wants two times in [0, 1].")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides) -> SamplerSettings:
        """From a published sampler block; raises InputError naming an unknown option."""
        values = {**values, **overrides}
        foreign = sorted(set(values) - {f.name for f in fields(cls)})
        if foreign:
            raise InputError(f"The sampler has no option {', '.join(foreign)}.")
        return cls(**values)

    def replace(self, **changes) -> SamplerSettings:
        return self.from_dict(asdict(self), **changes)


def flow_times(steps: int, rescale_t: float = 1.0) -> list[float]:
    """steps + 1 times from 1 down to 0; rescale_t > 1 spends more of them near 1: t -> r t / (1 + (r - 1) t)."""
    even = [1.0 + i * (-1.0 / steps) for i in range(steps)] + [0.0]
    return [rescale_t * t / (1 + (rescale_t - 1) * t) for t in even]


def clean_estimate(x: Tensor, t: float, v: Tensor, sigma_min: float = 1e-5) -> Tensor:
    """x0 implied by velocity v at x_t = (1 - t) x0 + (sigma_min + (1 - sigma_min) t) noise."""
    return (1 - sigma_min) * x - (sigma_min + (1 - sigma_min) * t) * v


def velocity_of(x: Tensor, t: float, x0: Tensor, sigma_min: float = 1e-5) -> Tensor:
    """The inverse of `clean_estimate`."""
    return ((1 - sigma_min) * x - x0) / (sigma_min + (1 - sigma_min) * t)


def dense_std(x: Tensor) -> Tensor:
    """Unbiased standard deviation of every item of [B, ...], shaped [B, 1, ...]."""
    return x.std(dim=list(range(1, x.ndim)), keepdim=True)


def sparse_std(layout: Sequence[slice]) -> Callable[[Tensor], Tensor]:
    """The reference's standard deviation of sparse features [N, C], per item of `layout`, as rows [N, 1].

    It is biased: sqrt(mean over tokens of the channel mean of squares - (mean over tokens of the channel mean)^2).
    """

    def std(x: Tensor) -> Tensor:
        rows = []
        for item in layout:
            part = x[item]
            spread = (part.square().mean(dim=-1).mean() - part.mean(dim=-1).mean().square()).sqrt()
            rows.append(spread.expand(part.shape[0], 1))
        return torch.cat(rows)

    return std


def rescaled_guidance(
    x: Tensor, t: float, v_pos: Tensor, v_cfg: Tensor, rescale: float, std: Callable[[Tensor], Tensor], sigma_min: float
) -> Tensor:
    """Velocity whose clean estimate is moved by `rescale` toward the conditional estimate's standard deviation."""
    pos, cfg = clean_estimate(x, t, v_pos, sigma_min), clean_estimate(x, t, v_cfg, sigma_min)
    matched = cfg * (std(pos) / std(cfg))
    return velocity_of(x, t, rescale * matched + (1 - rescale) * cfg, sigma_min)


def guided_velocity(
    velocity: Velocity,
    x: Tensor,
    t: float,
    cond: AnyCondition,
    neg_cond: AnyCondition,
    settings: SamplerSettings,
    std: Callable[[Tensor], Tensor],
    pair: VelocityPair | None = None,
) -> Tensor:
    """Classifier-free guidance inside the interval, the plain conditional velocity outside it.

    strength 1 evaluates only `cond`, 0 only `neg_cond`. pair: evaluates both conditions in one batch; without it they
    are evaluated one after the other, as the reference does.
    """
    low, high = settings.guidance_interval
    strength = settings.guidance_strength if low <= t <= high else 1.0
    if strength == 1:
        return velocity(x, t, cond)
    if strength == 0:
        return velocity(x, t, neg_cond)
    v_pos, v_neg = pair(x, t, cond, neg_cond) if pair else (velocity(x, t, cond), velocity(x, t, neg_cond))
    v = strength * v_pos + (1 - strength) * v_neg
    if settings.guidance_rescale > 0:
        v = rescaled_guidance(x, t, v_pos, v, settings.guidance_rescale, std, settings.sigma_min)
    return v


@torch.no_grad()
def sample_flow(
    velocity: Velocity,
    noise: Tensor,
    cond: AnyCondition,
    neg_cond: AnyCondition,
    settings: SamplerSettings,
    *,
    std: Callable[[Tensor], Tensor] = dense_std,
    pair: VelocityPair | None = None,
    callback: Callable[[int, int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Integrates the flow from noise (t = 1) to data (t = 0) by Euler steps.

    noise: [B, C, R, R, R] dense or [N, C] sparse features, float32; std: `dense_std`, or `sparse_std(layout)`.
    callback(done, steps, x_t, x_0) after every step; what it raises ends the sampling. Returns a tensor like noise.
    Source: TRELLIS.2, `FlowEulerGuidanceIntervalSampler`.
    """
    times = flow_times(settings.steps, settings.rescale_t)
    x = noise
    for step, (t, t_next) in enumerate(zip(times[:-1], times[1:])):
        v = guided_velocity(velocity, x, t, cond, neg_cond, settings, std, pair)
        x, before = x - (t - t_next) * v, x
        if callback:
            callback(step + 1, settings.steps, x, clean_estimate(before, t, v, settings.sigma_min))
    return x


def _model_time(t: float, batch: int, device) -> Tensor:
    return torch.full((batch,), 1000 * t, dtype=torch.float32, device=device)


def dense_velocity(model: nn.Module) -> tuple[Velocity, VelocityPair]:
    """Velocity functions of a dense network, one condition at a time and both in one batch."""

    def velocity(x, t, cond):
        return model(x, _model_time(t, x.shape[0], x.device), cond)

    def pair(x, t, cond, neg_cond):
        v = velocity(torch.cat([x, x]), t, concatenate(cond, neg_cond))
        return v.chunk(2)

    return velocity, pair


def sparse_velocity(
    model: nn.Module, voxels: SparseTensor, concat: Tensor | None = None
) -> tuple[Velocity, VelocityPair]:
    """Velocity functions of a sparse network on the voxels of `voxels`; concat [N, K] as the network takes it."""
    doubled: list[SparseTensor] = []

    def velocity(x, t, cond):
        return model(voxels.replace(x), _model_time(t, voxels.batch_size, x.device), cond, concat).feats

    def pair(x, t, cond, neg_cond):
        if not doubled:
            doubled.append(SparseTensor.cat([voxels, voxels]))
        both = doubled[0].replace(torch.cat([x, x]))
        twice = None if concat is None else torch.cat([concat, concat])
        times = _model_time(t, both.batch_size, x.device)
        return model(both, times, concatenate(cond, neg_cond), twice).feats.chunk(2)

    return velocity, pair
