"""The file a training run is continued from."""

from __future__ import annotations

from pathlib import Path

import torch


def read_state(path: Path) -> dict:
    """Read a checkpoint of `training.processes.save_state`; nothing in it is executed."""
    return torch.load(path, map_location="cpu", weights_only=True)
