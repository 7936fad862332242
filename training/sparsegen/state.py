"""The file a training run is continued from."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def save_state(state: dict, path: Path) -> None:
    """Write a run's state under a temporary name and rename it, so that a killed run keeps its last checkpoint."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def read_state(path: Path) -> dict:
    """Read a checkpoint of ``save_state``; nothing in it is executed."""
    return torch.load(path, map_location="cpu", weights_only=True)
