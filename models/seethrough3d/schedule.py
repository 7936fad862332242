"""FLUX.1's noise levels and the Euler steps over them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...scene.errors import InputError

BASE_SHIFT, MAX_SHIFT = 0.5, 1.15
BASE_TOKENS, MAX_TOKENS = 256, 4096
GUIDANCE, STEPS = 3.5, 25


def dynamic_shift(tokens: int, base_shift: float = BASE_SHIFT, max_shift: float = MAX_SHIFT) -> float:
    """mu, linear in the number of image tokens: 0.5 at 256 and 1.15 at 4096 tokens (a 1024-pixel square)."""
    slope = (max_shift - base_shift) / (MAX_TOKENS - BASE_TOKENS)
    return tokens * slope + (base_shift - slope * BASE_TOKENS)


def image_tokens(width: int, height: int) -> int:
    """Tokens of a picture in pixels; InputError unless both sides are multiples of 16."""
    if width % 16 or height % 16 or min(width, height) < 16:
        raise InputError(f"FLUX draws {width}x{height} pixels only if both are multiples of 16; change the size.")
    return (width // 16) * (height // 16)


def flux_sigmas(
    steps: int, tokens: int, base_shift: float = BASE_SHIFT, max_shift: float = MAX_SHIFT, denoise: float = 1.0
) -> Tensor:
    """Noise levels [steps + 1], float32, from 1 (or what `denoise` leaves) to 0.

    e^mu / (e^mu + 1/s - 1) of s = 1 ... 1/steps, mu by `dynamic_shift`. denoise: below 1, the last `steps` of
    steps/denoise levels. Source: FLUX.1-dev's scheduler as the official code uses it (spec section 10).
    """
    if steps < 1:
        raise InputError(f"`steps` is {steps}; at least 1 is needed.")
    if not 0 < denoise <= 1:
        raise InputError(f"`denoise` is {denoise}; it must be above 0 and at most 1.")
    total = max(steps, int(steps / denoise))
    linear = torch.linspace(1.0, 1.0 / total, total, dtype=torch.float64).to(torch.float32)
    mu = math.exp(dynamic_shift(tokens, base_shift, max_shift))
    sigmas = mu / (mu + (1 / linear - 1))
    return torch.cat([sigmas, torch.zeros(1)])[-(steps + 1) :]


def released_rounding(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A timestep or guidance (times 1000) as the released pipeline's embedder sees it: rounded in `dtype`.

    The official inference passes timesteps / 1000 in the model's dtype and multiplies by 1000 in it again; in bfloat16
    a guidance of 3.5 becomes 3504.
    """
    return (value.to(dtype) / 1000) * 1000


def euler(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigmas: Tensor,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """x + (s' - s) v(x, s) over the levels, in float32, kept in x's dtype between the steps.

    callback(done, steps, x) after every step; what it raises stops the sampling.
    """
    steps = len(sigmas) - 1
    for index in range(steps):
        change = float(sigmas[index + 1] - sigmas[index]) * velocity(x, sigmas[index]).float()
        x = (x.float() + change).to(x.dtype)
        if callback is not None:
            callback(index + 1, steps, x)
    return x
