"""A run of the published recipe: adapters of one stage on a frozen flow, from a data folder; it can be continued."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...models.genrecon.checkpoint import save_adapter
from ...models.trellis2.cascade import CascadeConfig, load_cascade, read_pipeline
from ...models.trellis2.checkpoint import read_config
from ...models.trellis2.family import find_dinov3
from ...models.trellis2.safetensors_file import SafetensorsFile
from ...scene.errors import InputError
from ..command_options import progress_bar
from .adapter_config import AdapterRecipe, read_adapter_recipe
from .chunk_data import ChunkFolders
from .recipe import AdapterTrainer, adapter_model


class AdapterRun:
    """An adapter in training.

    folder: `state.pth` and `log.jsonl` lie there; a state that is found is continued, and gives what an uninterrupted
    run would have given, as what a step draws follows from its number.
    """

    def __init__(
        self, trainer: AdapterTrainer, data: ChunkFolders, encoder: nn.Module, recipe: AdapterRecipe, folder: Path
    ):
        self.trainer, self.data, self.encoder, self.recipe, self.folder = trainer, data, encoder, recipe, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self.folder / "state.pth"
        if state.is_file():
            self.trainer.load_state(torch.load(state, map_location="cpu", weights_only=True))

    def advance(self) -> float:
        """One step; returns the loss."""
        rng = np.random.default_rng([0xADA, self.trainer.step])
        self.trainer.generator.manual_seed(self.trainer.step)
        picked = rng.integers(len(self.data), size=self.recipe.batch_size).tolist()
        return self.trainer.advance([self.data.draw(i, self.encoder, rng) for i in picked])

    def run(self, minutes: float | None = None, callback=None) -> None:
        """Steps until the recipe's, or for so many minutes."""
        started, losses, recipe = time.monotonic(), [], self.recipe
        while self.trainer.step < recipe.steps:
            losses.append(self.advance())
            step = self.trainer.step
            if callback:
                callback(step, recipe.steps)
            if step % recipe.log_every == 0 or step == recipe.steps:
                self._log({"step": step, "loss": sum(losses) / len(losses)})
                losses = []
            over = minutes is not None and time.monotonic() - started > minutes * 60
            if over or step % recipe.save_every == 0 or step == recipe.steps:
                self.save()
            if over:
                break

    def save(self) -> None:
        """Write the state under a temporary name and rename it, so that a killed run keeps its last one."""
        partial = self.folder / "state.part"
        torch.save(self.trainer.state(), partial)
        os.replace(partial, self.folder / "state.pth")

    def _log(self, values: dict[str, float]) -> None:
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def open_run(recipe: AdapterRecipe, data, weights: str | None, out: Path, search=(), dinov3=None) -> AdapterRun:
    """A run ready to start or to continue; weights: folder of TRELLIS.2. Raises InputError naming what is missing."""
    if not weights:
        raise InputError("--weights is missing; name the folder of TRELLIS.2-4B, on whose flows adapters are trained.")
    root, args = read_pipeline(weights)
    stem = root / recipe.base
    _, given = read_config(stem.with_name(stem.name + ".json"))
    given = {**given, "dense": recipe.stage == "structure"}
    torch.manual_seed(0)
    model = adapter_model(SafetensorsFile(stem.with_name(stem.name + ".safetensors")), given, recipe.lora)
    config = CascadeConfig.from_args(args)
    chunks = ChunkFolders(data, recipe.stage, config, recipe.min_tokens)
    cascade = load_cascade(root, search=[Path(s) for s in search])
    if "shape_slat_decoder" in cascade:
        chunks.factor = cascade.get("shape_slat_decoder").config.factor
    encoder = find_dinov3([root, *(Path(s) for s in search)], dinov3)
    return AdapterRun(AdapterTrainer(model, recipe.stage, recipe.options), chunks, encoder, recipe, out)


def run_adapter(args: argparse.Namespace) -> int:
    """`train genrecon --config genrecon-STAGE`: train, or with --export write the adapter."""
    recipe = read_adapter_recipe(args.config, args.set)
    if not args.out:
        raise InputError("--out is not given; name the folder of the run.")
    run = open_run(recipe, args.data, args.weights, Path(args.out), args.search)
    if args.export:
        stem = Path(args.weights) / recipe.base
        _, given = read_config(stem.with_name(stem.name + ".json"))
        given = {**given, "dense": recipe.stage == "structure"}
        count = save_adapter(run.trainer.adapter(), args.export, given, recipe.lora, overwrite=args.overwrite)
        print(f"{args.export}: {count / 1e6:.1f} M numbers")
        return 0
    with progress_bar(args, "steps") as bar:
        run.run(args.minutes, bar)
    print(f"{args.out}: state.pth, log.jsonl")
    return 0
