"""Optimizers and learning rates of short training runs: Muon on the hidden matrices, AdamW on everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..scene.errors import MissingDependency


@dataclass(frozen=True)
class OptimizerOptions:
    """lr, final_lr: of AdamW, and of Muon, whose updates are matched to AdamW's size; warmup in steps; clip: of the
    gradient's norm, 0 for none."""

    lr: float = 2e-3
    final_lr: float = 2e-5
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    muon: bool = True


def cosine(options: OptimizerOptions, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then half a cosine."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = min((step - options.warmup) / max(1, steps - options.warmup), 1.0)
    return options.final_lr + (options.lr - options.final_lr) * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizers(
    model: nn.Module, options: OptimizerOptions, is_hidden: Callable[[str, nn.Parameter], bool]
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the two-dimensional parameters `is_hidden(name, parameter)` chooses.

    Raises MissingDependency where torch has no Muon (before 2.9).
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if options.muon and p.ndim == 2 and is_hidden(n, p)]
    taken = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in taken]
    found: list[torch.optim.Optimizer] = []
    if rest:
        found.append(torch.optim.AdamW(rest, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay))
    if hidden:
        if not hasattr(torch.optim, "Muon"):
            raise MissingDependency("Muon needs torch 2.9 or newer; update torch or set `muon` to false.")
        found.append(
            torch.optim.Muon(hidden, lr=options.lr, weight_decay=options.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return found
