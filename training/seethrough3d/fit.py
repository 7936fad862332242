"""The training loop of the LoRA, on accelerate: one process, several, or several machines under torchrun.

As for the other recipes, what a pass draws follows from the seed, the step and the pass alone.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models.seethrough3d.diffusers_flux import transformer_shape
from ...models.seethrough3d.lora import ConditionLora, LoraShape, load_lora, save_lora
from ...scene.errors import InputError
from ..processes import STATE, accelerator_for, drawn_item, mixed_seed, save_state
from ..run_log import RunLog
from .objective import Objective
from .recipe import Recipe
from .rows import read_rows
from .words import PromptCache


class Fit:
    """LoRA, optimizer and rows of one run; `state` and `load_state` continue exactly."""

    def __init__(self, recipe: Recipe, data: str | Path, cache: PromptCache, transformer, vae, accelerator: Any = None):
        self.recipe, self.rows = recipe, read_rows(data, recipe.drop_raw)
        self.accelerator = accelerator or accelerator_for(recipe.precision)
        shape = transformer_shape(transformer)
        torch.manual_seed(recipe.seed)
        if recipe.start_from is None:
            ranks = LoraShape(shape.doubles, shape.singles, shape.width, (recipe.rank,))
            self.lora = ConditionLora(ranks).reset()
        elif recipe.start_from:
            self.lora = load_lora(recipe.start_from, shape, dtype=torch.float32).requires_grad_(True)
        else:
            raise InputError("`start_from` names no file; --set start_from=FILE.safetensors, the LoRA of stage 1.")
        for layer in self.lora.unread():  # several processes wait for the gradient of whatever asks for one
            layer.requires_grad_(False)
        device = self.accelerator.device
        objective = Objective(recipe, self.lora, transformer.to(device), vae.to(device), cache)
        trained = [weight for weight in self.lora.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay
        )
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.step = 0

    def advance(self) -> dict[str, float]:
        """One step; returns the loss (mean over all passes), the gradient's norm and the rate."""
        recipe, accelerator = self.recipe, self.accelerator
        passes, count = recipe.splits * accelerator.num_processes, recipe.batch_size // recipe.splits
        total = torch.zeros((), device=accelerator.device)
        for index in range(recipe.splits):
            number = accelerator.process_index * recipe.splits + index
            generator = torch.Generator().manual_seed(mixed_seed(recipe.seed, self.step, number))
            first = (self.step * passes + number) * count
            rows = [self.rows[drawn_item(first + i, len(self.rows), recipe.seed)] for i in range(count)]
            last = index == recipe.splits - 1
            with accelerator.accumulate() if last else accelerator.no_sync(self.objective), accelerator.autocast():
                loss = self.objective(rows, generator)["mse"]
                accelerator.backward(loss / recipe.splits)
            total += loss.detach().float() / recipe.splits
        norm = float(nn.utils.clip_grad_norm_(self.lora.parameters(), recipe.max_norm))
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {"loss": float(accelerator.reduce(total, reduction="mean")), "gradient": norm, "lr": recipe.lr}

    def state(self) -> dict:
        return {"lora": self.lora.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    def load_state(self, state: dict) -> None:
        """Continue from `state`; raises InputError where it is of another LoRA."""
        try:
            self.lora.load_state_dict(state["lora"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(f"The run that lies there is of another LoRA than this recipe ({cause}).") from None
        self.step = int(state["step"])


def fit(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    transformer: nn.Module,
    vae: nn.Module,
    cache: PromptCache | None = None,
    *,
    minutes: float | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Path:
    """Run a recipe in `out`, or continue it, until its steps or `minutes` are over; returns the LoRA's file.

    data: see `rows`. transformer, vae: FLUX.1 of diffusers, frozen. cache: encoded prompts (default `out/prompts`).
    Written: state.pth, log.jsonl, curve.png and lora.safetensors under the published names. callback(done, total) may
    raise to stop. Raises InputError for unusable options, data and states.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_for(recipe.precision)
    run = Fit(recipe, data, cache or PromptCache(out / "prompts"), transformer, vae, accelerator)
    if (out / STATE).is_file():
        run.load_state(torch.load(out / STATE, map_location="cpu", weights_only=True))
    log = None
    if accelerator.is_main_process:
        log = RunLog(out, recipe.name, recipe.to_dict(), recipe.log_every)
    started = time.monotonic()
    while run.step < recipe.steps:
        values = run.advance()
        if log is not None:
            log.count(run.step, values)
            if callback is not None:
                callback(run.step, recipe.steps)
        over = minutes is not None and time.monotonic() - started > minutes * 60
        if accelerator.num_processes > 1 and minutes is not None:
            told = torch.tensor([float(over)], device=accelerator.device)
            over = float(accelerator.reduce(told, reduction="sum")) > 0
        if log is not None and (over or run.step % recipe.save_every == 0 or run.step == recipe.steps):
            save_state(run.state(), out / STATE)
        if over:
            break
    path = out / "lora.safetensors"
    if log is not None:
        log.write(run.step)
        log.close()
        partial = path.with_suffix(".part")
        save_lora(run.lora, partial)
        os.replace(partial, path)
    accelerator.wait_for_everyone()
    return path
