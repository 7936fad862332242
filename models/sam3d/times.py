"""The flow times of SAM 3D, from noise at 0 to data at 1, and its step size for distilled sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.errors import InputError


@dataclass(frozen=True)
class SamplerSettings:
    """One stage: guidance (1 + strength) cond - strength uncond while interval[0] <= 1000 t <= interval[1]."""

    steps: int = 25
    rescale_t: float = 3.0
    strength: float = 7.0
    interval: tuple[float, float] = (0.0, 500.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", tuple(self.interval))
        if int(self.steps) != self.steps or self.steps < 1:
            raise InputError(f"`steps` is {self.steps}; a whole number of at least 1 would work.")
        if self.rescale_t < 0:
            raise InputError(f"`rescale_t` is {self.rescale_t}; 1 leaves the times even, more begins in smaller steps.")


STRUCTURE, LATENT = SamplerSettings(), SamplerSettings(rescale_t=1.0, strength=1.0)


def shortcut_times(steps: int, rescale_t: float, distilled: bool = False) -> tuple[np.ndarray, float]:
    """steps + 1 times float64 and the step size the network is told: 0, or 1 / steps where it is distilled."""
    times = np.linspace(0, 1, steps + 1)
    if rescale_t:
        times = times / (1 + (rescale_t - 1) * (1 - times))
    return times, 1 / steps if distilled else 0.0


def flow_times(steps: int, rescale_t: float) -> Sequence[float]:
    """steps + 1 times of the latent stage, rounded to float32 as the official code does."""
    times = torch.linspace(0, 1, steps + 1)
    if rescale_t:
        times = times / (1 + (rescale_t - 1) * (1 - times))
    return times.tolist()
