"""The noise levels of the rectified flow (flow matching with linear interpolation, no shift)."""

import numpy as np
import torch

from ...scene.errors import InputError


def training_schedule(train_steps: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels and times drawn from in training: sigma = 1, ..., 1/train_steps and train_steps * sigma.

    Both [train_steps] float32, descending. The times are products in float32, so some are off an integer by one
    rounding.
    """
    sigmas = torch.arange(train_steps, 0, -1, dtype=torch.float32) / train_steps
    return sigmas, sigmas * train_steps


def sampling_schedule(steps: int, train_steps: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels [steps+1] (1 down to 1/train_steps evenly, then 0) and their times [steps], both float32.

    The network is given the times truncated to integers (see `network_time`), while the levels keep full precision.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= train_steps:
        raise InputError(f"`steps` is {steps!r}; it must be a whole number from 1 to {train_steps}.")
    last = float(training_schedule(train_steps)[0][-1])
    levels = np.linspace(float(train_steps), last * train_steps, steps) / train_steps
    sigmas = torch.from_numpy(levels).to(torch.float32)
    return torch.cat([sigmas, sigmas.new_zeros(1)]), sigmas * train_steps


def network_time(time: torch.Tensor) -> torch.Tensor:
    """What the network is told in sampling: the time without its fraction (995.99 -> 995),
    as in the published sampler.
    """
    return time.trunc()
