"""What runs on accelerate share: the group of processes, seeds that every process agrees on, and the state's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..scene.errors import MissingDependency

STATE = "state.pth"


def accelerator_for(precision: str) -> Any:
    """The group of processes, alone when not started by torchrun; precision: "no", "bf16" or "fp16".

    Raises MissingDependency without accelerate.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise MissingDependency("Training runs on accelerate; run `pip install accelerate`.") from None
    return Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())


def mixed_seed(seed: int, step: int, number: int) -> int:
    """One seed out of three numbers, the same everywhere."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + (number + 1) * 0x94D049BB133111EB) % 2**64
    return (value ^ (value >> 31)) % 2**63


def drawn_item(drawn: int, count: int, seed: int) -> int:
    """Which of `count` items is drawn as number `drawn` of a whole run: every epoch has an order of its own."""
    epoch, place = divmod(drawn, count)
    order = torch.Generator().manual_seed(mixed_seed(seed, epoch, -1))
    return int(torch.randperm(count, generator=order)[place])


def save_state(state: dict, path: Path) -> None:
    """Write a state under a temporary name and rename it, so that a killed run keeps its last one."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)
