"""The dual-branch sampler: both conditions evaluated at one state, their velocities mixed, one Euler step taken.

`sample` is a plain function of (evaluate, noise, times, mix); networks are adapted at the edge. A state is a tensor or
a dictionary of tensors (SAM 3D's shape and pose). Nothing is evaluated that the result does not need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ..trellis2.blocks import AttentionOptions
from ..trellis2.conditions import AnyCondition, negative
from ..trellis2.samplers import dense_std, rescaled_guidance
from .blends import blend

State = Tensor | dict[str, Tensor]
Evaluate = Callable[[State, float, str], State]
BRANCHES = ("blend", "obs", "prior")


def over(function: Callable[..., Tensor], *states: State) -> State:
    """`function` of tensors, over states of one structure."""
    if isinstance(states[0], dict):
        return {name: function(*(state[name] for state in states)) for name in states[0]}
    return function(*states)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (1 + strength) cond - strength uncond while low <= t <= high, else cond alone.

    rescale: TRELLIS.2's, of each branch's clean estimate; std and sigma_min as its samplers take them.
    """

    strength: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    std: Callable[[Tensor], Tensor] = dense_std
    sigma_min: float = 1e-5

    def at(self, t: float) -> bool:
        return self.strength != 0 and self.interval[0] <= t <= self.interval[1]

    def mix(self, cond: State, uncond: State, x: State, t: float) -> State:
        def guided(c: Tensor, u: Tensor, state: Tensor) -> Tensor:
            v = (1 + self.strength) * c - self.strength * u
            if self.rescale > 0:
                v = rescaled_guidance(state, t, c, v, self.rescale, self.std, self.sigma_min)
            return v

        return over(guided, cond, uncond, x)


@dataclass(frozen=True)
class Mix:
    """How the prior joins in.

    alphas: one value a step (the last repeats); blend, args: see `blends`; weight: of the prior; visible: mask of what
    the observation alone decides, None for none, or one per tensor of the state. Source: RelaxFlow, eq. of the fused
    velocity.
    """

    alphas: Sequence[float]
    weight: float = 1.0
    blend: str = "linear"
    args: Mapping[str, Any] = field(default_factory=dict)
    visible: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise InputError(f"`prior_weight` is {self.weight}; 0 or more would work.")

    def at(self, step: int) -> float:
        """How much the prior counts at this step; 0 where it is not needed."""
        return self.alphas[min(step, len(self.alphas) - 1)] if self.alphas and self.weight > 0 else 0.0

    def needs_observation(self, alpha: float) -> bool:
        return not (alpha == 1 and self.visible is None and self.blend in ("linear", "tanh_clipped"))

    def __call__(self, obs: State, prior: State, alpha: float) -> State:
        return over(lambda o, p: blend(self.blend, o, p, alpha, self.weight, self.visible, self.args), obs, prior)


def relaxed_velocity(
    evaluate: Evaluate,
    x: State,
    t: float,
    alpha: float,
    guidance: Guidance,
    mix: Mix,
    *,
    branch: str = "blend",
    shared_uncond: bool = False,
    counts: Counter | None = None,
) -> State:
    """The velocity of one branch at one state, from as few evaluations as it takes; arguments as `sample`.

    At alpha 0 only the observation is evaluated, at alpha 1 without a mask (linear, tanh_clipped) only the prior.
    """
    known: dict[str, State] = {}

    def velocity(name: str) -> State:
        if name not in known:
            if counts is not None:
                counts[name] += 1
            known[name] = evaluate(x, t, name)
        return known[name]

    def guided(name: str, uncond: str) -> State:
        v = velocity(name)
        if not guidance.at(t):
            return v
        return guidance.mix(v, velocity("uncond" if shared_uncond else uncond), x, t)

    if branch == "obs" or (branch == "blend" and alpha <= 0):
        return guided("obs", "uncond")
    prior = guided("prior", "prior_uncond")
    if branch == "prior":
        return prior
    obs = guided("obs", "uncond") if mix.needs_observation(alpha) else over(torch.zeros_like, prior)
    return mix(obs, prior, alpha)


@torch.no_grad()
def sample(
    evaluate: Evaluate,
    noise: State,
    times: Sequence[float],
    guidance: Guidance,
    mix: Mix,
    *,
    branch: str = "blend",
    shared_uncond: bool = False,
    callback: Callable[[int, int, State, float], None] | None = None,
    counts: Counter | None = None,
    anchor: Sequence[Tensor] | None = None,
) -> State:
    """Integrates one branch by Euler steps; returns a state like `noise`.

    evaluate(state, t, name): velocity under "obs", "prior", "uncond" or "prior_uncond". times: steps + 1 flow times in
    the order of integration; a step moves by (t_next - t) velocity. branch: "blend", or one condition alone.
    shared_uncond: both branches have the same unconditional velocity (true unless self-attention is blurred), evaluated
    once. callback(done, steps, state, alpha); what it raises ends the run. counts: filled with evaluations by name.
    anchor: states of the observation alone after every step, to which what `mix.visible` shows is set back (beyond the
    paper: seen parts then stay what they are, whatever the hidden ones become).
    """
    if branch not in BRANCHES:
        raise InputError(f"`branch` is {branch!r}; one of {', '.join(BRANCHES)} would work.")
    x, steps = noise, len(times) - 1
    options = {"branch": branch, "shared_uncond": shared_uncond, "counts": counts}
    for step, (t, t_next) in enumerate(zip(times[:-1], times[1:])):
        v = relaxed_velocity(evaluate, x, t, mix.at(step), guidance, mix, **options)
        x = over(_euler(float(t_next) - float(t)), x, v)
        if anchor is not None and mix.visible is not None:
            seen = mix.visible.to(x).clamp(0, 1)
            x = seen * anchor[step] + (1 - seen) * x
        if callback:
            callback(step + 1, steps, x, mix.at(step))
    return x


def _euler(dt: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda value, speed: value + speed * dt


def attention_options(
    blur, *, shared_uncond: bool, cache: bool = True, blurred_uncond: bool = True
) -> dict[str, AttentionOptions]:
    """The attention options of every evaluation: only the prior is blurred, its unconditional pass included.

    blur: `LogitBlur` or None. Keys and values of the conditions are kept from step to step (`cache`), and against the
    all-zero unconditional condition cross-attention is one constant vector.
    """
    options = {
        "obs": AttentionOptions(keys_values={} if cache else None),
        "prior": AttentionOptions(blur, keys_values={} if cache else None),
        "uncond": AttentionOptions(zero_context=True),
    }
    if not shared_uncond:
        options["prior_uncond"] = AttentionOptions(blur if blurred_uncond else None, zero_context=True)
    return options


def can_share_uncond(blur) -> bool:
    """Whether the unconditional velocities of both branches are the same: unless self-attention is blurred."""
    return blur is None or not blur.touches("self")


def dense_evaluator(
    model: nn.Module, obs: AnyCondition, prior: AnyCondition, options: Mapping[str, AttentionOptions]
) -> Evaluate:
    """`evaluate` of a dense flow network (structure stage)."""
    conditions = _conditions(obs, prior)

    def evaluate(x, t, name):
        time = torch.full((x.shape[0],), 1000 * float(t), dtype=torch.float32, device=x.device)
        return model(x, time, conditions[name], options[name])

    return evaluate


def sparse_evaluator(
    model: nn.Module,
    voxels: SparseTensor,
    obs: AnyCondition,
    prior: AnyCondition,
    options: Mapping[str, AttentionOptions],
    concat: Tensor | None = None,
) -> Evaluate:
    """`evaluate` of a sparse flow network on the voxels of `voxels`."""
    conditions = _conditions(obs, prior)

    def evaluate(x, t, name):
        time = torch.full((voxels.batch_size,), 1000 * float(t), dtype=torch.float32, device=x.device)
        return model(voxels.replace(x), time, conditions[name], concat, options[name]).feats

    return evaluate


def _conditions(obs: AnyCondition, prior: AnyCondition) -> dict[str, AnyCondition]:
    return {"obs": obs, "prior": prior, "uncond": negative(obs), "prior_uncond": negative(prior)}
