"""What a long run carries along with its weights: their moving average, and the limit of the gradient's norm."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from .recipe import ClipOptions


class MovingAverage:
    """A copy of a module whose weights follow it: average <- decay * average + (1 - decay) * weights."""

    def __init__(self, module: nn.Module, decay: float):
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Follow `module` by one step."""
        for average, weights in zip(self.module.parameters(), module.parameters()):
            average.lerp_(weights.to(average.dtype), 1 - self.decay)


class AdaptiveClip:
    """Holds the gradient's norm to `max_norm`, and to a percentile of the last norms once there are enough of them.

    Source: TRELLIS.2, `AdaptiveGradClipper`.
    """

    def __init__(self, options: ClipOptions):
        self.options, self.norms, self.limit = options, [], options.max_norm

    def __call__(self, parameters: list[Tensor]) -> float:
        """Clip the gradients of `parameters`; returns their norm before."""
        norm = float(nn.utils.clip_grad_norm_(parameters, self.limit))
        if math.isfinite(norm):
            self.norms = [*self.norms[-(self.options.window - 1) :], norm] if self.options.window > 1 else [norm]
            if len(self.norms) >= self.options.window:
                quantile = torch.tensor(self.norms, dtype=torch.float64).quantile(self.options.percentile / 100)
                self.limit = min(float(quantile), self.options.max_norm)
        return norm

    def state_dict(self) -> dict:
        return {"norms": list(self.norms), "limit": self.limit}

    def load_state_dict(self, state: dict) -> None:
        self.norms, self.limit = list(state["norms"]), float(state["limit"])
