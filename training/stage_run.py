"""One stage of a training: a module, its loss, optimizers, moving average, log and exact resumption.

What a step draws must follow from the step's number alone; then a run that is killed and continued gives the same
weights as one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..scene.errors import InputError
from .optimizers import OptimizerOptions, cosine, make_optimizers

Loss = Callable[[nn.Module, int], dict[str, Tensor]]


class MovingAverage:
    """A copy of a module that follows it, with decay min(`decay`, (1 + n) / (10 + n)) at the n-th update."""

    def __init__(self, module: nn.Module, decay: float = 0.999):
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for shadow, live in zip(self.module.parameters(), module.parameters()):
            shadow.lerp_(live, weight) if live.requires_grad else shadow.copy_(live)
        for shadow, live in zip(self.module.buffers(), module.buffers()):
            shadow.copy_(live)


@dataclass
class StageFolders:
    """The folder of the data and the folder of the runs, which stages work with; what was read once is kept."""

    folder: Path
    runs: Path

    def __post_init__(self):
        self.kept: dict = {}

    def once(self, name: str, make: Callable):
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def averaged(self, stage: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The averaged module of a stage that has run; raises InputError where it has not."""
        path = self.runs / stage / "state.pth"
        if not path.is_file():
            raise InputError(f"{self.runs} holds no run of the stage {stage!r}; train it first.")
        module = build()
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
        return module.eval().requires_grad_(False)


class StageRun:
    """A module in training.

    loss(module, step) -> named terms, whose sum is minimized; total: steps of the schedule. folder: `state.pth` and
    `log.jsonl` lie there; a state that is found is continued. Raises InputError for a state of another module.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        total: int,
        options: OptimizerOptions,
        is_hidden: Callable[[str, nn.Parameter], bool],
        folder: Path | str | None = None,
        decay: float = 0.999,
    ):
        self.module, self.loss, self.total, self.options = module, loss, total, options
        self.optimizers = make_optimizers(module, options, is_hidden)
        self.average = MovingAverage(module, decay)
        self.step = 0
        self.folder = Path(folder) if folder else None
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "state.pth").exists():
                self.load_state(torch.load(self.folder / "state.pth", map_location="cpu", weights_only=True))

    def advance(self) -> dict[str, float]:
        """One step; returns the loss terms, their sum, the gradient's norm and the learning rate."""
        self.module.train()
        terms = self.loss(self.module, self.step)
        total = sum(terms.values())
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        rate = cosine(self.options, self.step, self.total)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip or math.inf))
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.average.update(self.module)
        self.step += 1
        values = {name: float(value.detach()) for name, value in terms.items()}
        return values | {"loss": float(total.detach()), "gradient": norm, "lr": rate}

    def state(self) -> dict:
        return {
            "module": self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "updates": self.average.updates,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
        }

    def load_state(self, state: dict) -> None:
        """Continue exactly from a `state`; raises InputError where it is of another module."""
        try:
            self.module.load_state_dict(state["module"])
            self.average.module.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"The saved run is of another network ({str(error).splitlines()[0]}).") from None
        self.average.updates, self.step = int(state["updates"]), int(state["step"])

    def save(self) -> None:
        """Write the state under a temporary name and rename it, so that a killed run keeps its last one."""
        partial = self.folder / "state.part"
        torch.save(self.state(), partial)
        os.replace(partial, self.folder / "state.pth")

    def run(
        self,
        minutes: float | None = None,
        log_every: int = 50,
        save_every: int = 500,
        evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
        evaluate_every: int = 0,
        callback: Callable[[int, int], None] | None = None,
    ) -> nn.Module:
        """Steps until `total`, or for so many minutes; returns the moving average. `callback` may raise to stop."""
        started = since = time.monotonic()
        sums: dict[str, float] = {}
        counted = 0
        while self.step < self.total:
            values = self.advance()
            counted += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
            if callback:
                callback(self.step, self.total)
            if self.step % log_every == 0:
                seconds = (time.monotonic() - since) / counted
                self._log({k: round(v / counted, 5) for k, v in sums.items()} | {"seconds": round(seconds, 3)})
                sums, counted, since = {}, 0, time.monotonic()
            if evaluate and evaluate_every and self.step % evaluate_every == 0:
                self._log({k: round(v, 4) for k, v in evaluate(self.average.module).items()})
                since = time.monotonic()
            over = minutes is not None and time.monotonic() - started > minutes * 60
            if self.folder and (over or self.step % save_every == 0 or self.step == self.total):
                self.save()
            if over:
                break
        return self.average.module

    def _log(self, values: dict[str, float]) -> None:
        if self.folder:
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.step} | values) + "\n")
