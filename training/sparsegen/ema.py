"""Exponential moving average of a model's weights, with the warm-up schedule of the published training."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A shadow copy of ``model`` that follows it.

    ``update`` is called after every optimizer step and acts on every ``update_every``-th call. Until ``start`` calls
    the copy equals the model; then its decay is min(``decay``, 1 - (1 + e / inv_gamma)^-power) after e further calls.
    ``short_run`` replaces that by min(decay, (1 + n) / (10 + n)) from the first update on: runs of a few thousand
    steps would otherwise average over their untrained beginning.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.995,
        update_every: int = 10,
        start: int = 100,
        inv_gamma: float = 1.0,
        power: float = 2 / 3,
        short_run: bool = False,
    ):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.update_every, self.start = decay, update_every, start
        self.inv_gamma, self.power, self.short_run = inv_gamma, power, short_run
        self.calls = 0

    def current_decay(self) -> float:
        """Decay that the next averaging step uses."""
        if self.short_run:
            updates = self.calls // self.update_every
            return min(self.decay, (1 + updates) / (10 + updates))
        since = self.calls - self.start - 1
        if since <= 0:
            return 0.0
        return min(max(1 - (1 + since / self.inv_gamma) ** -self.power, 0.0), self.decay)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow ``model`` by one call."""
        call, self.calls = self.calls, self.calls + 1
        if call % self.update_every:
            return
        copy_only = call <= self.start and not self.short_run
        weight = 1.0 if copy_only or call == 0 else 1 - self.current_decay()
        for shadow, live in zip(self.model.parameters(), model.parameters()):
            if weight == 1.0:
                shadow.copy_(live)
            elif live.requires_grad:
                shadow.lerp_(live, weight)
        for shadow, live in zip(self.model.buffers(), model.buffers()):
            shadow.copy_(live)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "calls": self.calls}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.calls = int(state["calls"])
