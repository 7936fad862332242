"""How much the prior counts at every step: the gating schedules alpha_k, k = 0..K-1."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from ...scene.errors import InputError


def linear_cutoff(k: int, steps: int, alpha0: float = 1.0, mid_ratio: float = 0.4) -> float:
    """Falls linearly toward the last step, 0 after `mid_ratio` of the steps (that step still counts)."""
    return alpha0 * (1 - k / steps) if k <= int(mid_ratio * steps) else 0.0


def cosine(k: int, steps: int, alpha0: float = 1.0, mid_ratio: float = 0.6) -> float:
    """Half a cosine wave that reaches 0 at `mid_ratio` of the steps."""
    cutoff = max(int(steps * mid_ratio), 1)
    return 0.0 if k >= cutoff else alpha0 * 0.5 * (1.0 + math.cos(math.pi * k / cutoff))


def exponential(k: int, steps: int, alpha0: float = 1.0, decay: float = 4.0, floor: float = 0.0) -> float:
    """Falls as exp(-decay k / K), never below `floor`."""
    return max(alpha0 * math.exp(-decay * k / steps), floor)


def sigmoid(k: int, steps: int, alpha0: float = 1.0, center: float = 0.5, sharpness: float = 10.0) -> float:
    """Stays, then drops around `center`."""
    return alpha0 / (1.0 + math.exp(sharpness * (k / steps - center)))


def two_stage(k: int, steps: int, alpha0: float = 1.0, warmup: float = 0.1, hold: float = 0.2) -> float:
    """Rises for `warmup` of the steps, holds for `hold`, then falls linearly to 0."""
    rising, holding = int(steps * warmup), int(steps * hold)
    if k < rising:
        return alpha0 * (k + 1) / max(rising, 1)
    if k < rising + holding:
        return alpha0
    falling = steps - rising - holding
    return alpha0 * max(1.0 - (k - rising - holding) / falling, 0.0) if falling > 0 else 0.0


def inverse_sqrt(k: int, steps: int, alpha0: float = 1.0, gamma: float = 5.0) -> float:
    """Falls as 1 / sqrt(1 + gamma k / K): a long tail."""
    return alpha0 / math.sqrt(1.0 + gamma * k / steps)


SCHEDULES: dict[str, Callable[..., float]] = {
    function.__name__: function for function in (linear_cutoff, cosine, exponential, sigmoid, two_stage, inverse_sqrt)
}


def options_of(name: str) -> dict[str, float]:
    """The options of a schedule with their defaults."""
    parameters = inspect.signature(_schedule(name)).parameters
    return {key: parameter.default for key, parameter in parameters.items() if key not in ("k", "steps")}


def alphas(name: str, steps: int, args: Mapping[str, Any] | None = None) -> list[float]:
    """alpha_k of every step, clamped to [0, 1].

    args: options of any schedule; those this one does not know are passed over. Raises InputError for an unknown name,
    a number of steps below 1 and options out of range. Source: RelaxFlow, gating schedules.
    """
    if steps < 1:
        raise InputError(f"`steps` is {steps}; at least 1 is needed.")
    schedule, args = _schedule(name), dict(args or {})
    for key, value in args.items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"`{key}` is {value}; it must be a finite number.")
    if not 0 <= args.get("alpha0", 1.0) <= 2:
        raise InputError(f"`alpha0` is {args['alpha0']}; 0 to 2 would work.")
    if not 0 <= args.get("mid_ratio", 0.5) <= 1:
        raise InputError(f"`mid_ratio` is {args['mid_ratio']}; 0 to 1 would work.")
    known = options_of(name)
    chosen = {key: value for key, value in args.items() if key in known}
    return [max(0.0, min(1.0, float(schedule(k, steps, **chosen)))) for k in range(steps)]


def _schedule(name: str) -> Callable[..., float]:
    if name not in SCHEDULES:
        raise InputError(f"The schedule {name!r} is unknown; known are {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]
