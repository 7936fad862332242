"""From a run's checkpoint to the weights file that is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ...models.sparsegen import SparseGen, SparseGenConfig
from ...models.sparsegen.checkpoint import save_sparsegen
from .recipe import Recipe
from .state import read_state


def averaged_model(recipe: Recipe, checkpoint: Path | str) -> tuple[SparseGen, int]:
    """The averaged weights of a checkpoint as a network in eval mode, and its training step."""
    state = read_state(Path(checkpoint))
    model = SparseGen(recipe.model)
    model.load_state_dict(state["diffuser"])
    return model.eval(), int(state["iteration"])


def keep_last_heads(model: SparseGen) -> SparseGen:
    """The same network with the head set of the last decoder layer only: all that prediction uses."""
    if len(model.gs_decoder) == 1:
        return model
    last = len(model.gs_decoder) - 1
    state = {}
    for key, value in model.state_dict().items():
        match = re.match(r"gs_decoder\.(\d+)\.(.*)", key)
        if match is None:
            state[key] = value
        elif int(match[1]) == last:
            state[f"gs_decoder.0.{match[2]}"] = value
    slim = SparseGen(SparseGenConfig.from_dict(model.config.to_dict() | {"head_sets": 1}))
    slim.load_state_dict(state)
    return slim.eval()


def export_weights(recipe: Recipe, checkpoint: Path | str, target: Path | str, *, overwrite: bool = False) -> Path:
    """Write the averaged weights of ``checkpoint`` as float16 safetensors with their configuration in the metadata."""
    model, step = averaged_model(recipe, checkpoint)
    metadata = {"recipe": recipe.name, "seed": str(recipe.seed), "iteration": str(step)}
    return save_sparsegen(keep_last_heads(model), target, dtype=torch.float16, metadata=metadata, overwrite=overwrite)
