"""The training loop of every stage, on accelerate: one process, several, or several machines under torchrun.

A step is made of `splits` passes in every process. What a pass draws follows from the seed, the step and the number of
the pass among those of all processes; so two processes with one pass each do what one process does with two, and a run
that is killed and continued ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...scene.errors import InputError
from ..processes import STATE, accelerator_for, drawn_item, mixed_seed, save_state
from ..run_log import RunLog
from .averages import AdaptiveClip, MovingAverage
from .folders import ObjectFolders
from .networks import build_networks, load_conditioner, write_networks
from .recipe import Recipe
from .samples import write_samples
from .stages import OBJECTIVES, Flow

Callback = Callable[[int, int], None]


class Fit:
    """Networks, optimizer and moving average of one run, and its steps; `state` and `load_state` continue exactly."""

    def __init__(self, recipe: Recipe, data: ObjectFolders, *, search: list[Path] = (), accelerator: Any = None):
        self.recipe, self.data = recipe, data
        self.accelerator = accelerator or accelerator_for(recipe.precision)
        torch.manual_seed(recipe.seed)
        networks = build_networks(recipe)
        self.networks = nn.ModuleDict(networks)
        if recipe.is_flow:
            conditioner = load_conditioner(recipe, search, self.accelerator.device)
            objective: nn.Module = Flow(recipe, networks, conditioner)
        else:
            objective = OBJECTIVES[recipe.stage](recipe, networks)
        objective.train()
        options = recipe.optimizer
        optimizer = torch.optim.AdamW(
            objective.parameters(), lr=options.lr, betas=options.betas, eps=options.eps,
            weight_decay=options.weight_decay,
        )  # fmt: skip
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.parameters = [p for p in self.objective.parameters() if p.requires_grad]
        self.clip = AdaptiveClip(recipe.clip)
        self.average = MovingAverage(self.networks, recipe.ema)
        self.step = 0

    def pass_items(self, number: int) -> tuple[list[dict], torch.Generator]:
        """The objects of pass `number` of the current step (among all processes), and its generator."""
        recipe = self.recipe
        passes, count = recipe.splits * self.accelerator.num_processes, recipe.batch_size // recipe.splits
        generator = torch.Generator().manual_seed(mixed_seed(recipe.seed, self.step, number))
        first = (self.step * passes + number) * count
        chosen = [drawn_item(first + i, len(self.data), recipe.seed) for i in range(count)]
        return [self.data.draw(index, generator) for index in chosen], generator

    def advance(self) -> dict[str, float]:
        """One step; returns the loss terms (mean over all passes), their sum, the gradient's norm and the rate."""
        recipe, accelerator = self.recipe, self.accelerator
        rate = recipe.optimizer.lr * min(1.0, (self.step + 1) / max(1, recipe.optimizer.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, torch.Tensor] = {}
        for index in range(recipe.splits):
            items, generator = self.pass_items(accelerator.process_index * recipe.splits + index)
            last = index == recipe.splits - 1
            with accelerator.accumulate() if last else accelerator.no_sync(self.objective), accelerator.autocast():
                terms = self.objective(items, generator)
                accelerator.backward(sum(terms.values()) / recipe.splits)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / recipe.splits
        accelerator.unscale_gradients(self.optimizer)
        norm = self.clip(self.parameters)
        if math.isfinite(norm) or recipe.precision == "fp16":  # the scaler leaves such a step out by itself
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.networks)
        self.step += 1
        values = {name: float(accelerator.reduce(value, reduction="mean")) for name, value in sums.items()}
        return values | {"loss": sum(values.values()), "gradient": norm, "lr": rate}

    def state(self) -> dict:
        return {
            "networks": self.networks.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "clip": self.clip.state_dict(),
            "step": self.step,
            "recipe": json.dumps(self.recipe.to_dict()),
        }

    def load_state(self, state: dict) -> None:
        """Continue from `state`; raises InputError where it is of other networks."""
        try:
            self.networks.load_state_dict(state["networks"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(f"The run that lies there is of other networks than this recipe ({cause}).") from None
        self.clip.load_state_dict(state["clip"])
        self.step = int(state["step"])


def fit(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    search: list[Path] = (),
    minutes: float | None = None,
    callback: Callback | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Run a recipe in the folder `out`, or continue it, until its steps or `minutes` are over; returns `out`.

    data: see `folders.read_roots`. search: folders with the image encoders. Written: `state.pth`, `log.jsonl`, a curve,
    sample pictures, and at the end the averaged networks as .json + .safetensors pairs in `out/ckpts`. callback(done,
    total) may raise to stop; the last written state stays. Raises InputError for unusable options, data and states.
    """
    accelerator = accelerator_for(recipe.precision)
    objects = ObjectFolders(data, recipe)
    if accelerator.is_main_process:
        tell(f"{len(objects)} objects ({'; '.join(objects.report)})")
    run = Fit(recipe, objects, search=list(search), accelerator=accelerator)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if (out / STATE).is_file():
        run.load_state(torch.load(out / STATE, map_location="cpu", weights_only=True))
        if accelerator.is_main_process:
            tell(f"continued at step {run.step}")
    log = None
    if accelerator.is_main_process:
        log = RunLog(out, recipe.name, recipe.to_dict(), recipe.log_every)
    started = time.monotonic()
    while run.step < recipe.steps:
        values = run.advance()
        if callback is not None and accelerator.is_main_process:
            callback(run.step, recipe.steps)
        if log is not None:
            log.count(run.step, values)
            if recipe.sample_every and run.step % recipe.sample_every == 0:
                write_samples(run, out / f"samples_{run.step:07}.png")
        over = minutes is not None and time.monotonic() - started > minutes * 60
        if accelerator.num_processes > 1 and minutes is not None:
            told = torch.tensor([float(over)], device=accelerator.device)
            over = float(accelerator.reduce(told, reduction="sum")) > 0
        ends = over or run.step == recipe.steps
        if accelerator.is_main_process and (ends or run.step % recipe.save_every == 0):
            save_state(run.state(), out / STATE)
        if over:
            break
    if log is not None:
        log.write(run.step)
        log.close()
        write_networks(out / "ckpts", recipe, run.average.module)
    accelerator.wait_for_everyone()
    return out


def try_run(recipe: Recipe, data: str | Path, *, search: list[Path] = ()) -> dict[str, float]:
    """Two steps that write nothing: whether recipe, data and machine go together."""
    run = Fit(recipe, ObjectFolders(data, recipe), search=list(search))
    run.advance()
    return run.advance()
