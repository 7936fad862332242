"""Where training batches come from. Every draw depends on (seed, step, rank) only, so a resumed run is exact."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from ...scene.errors import InputError
from .procedural_data import ViewShard, read_shards, sample_batch
from .recipe import Recipe
from .step import TRAIN_STEPS, TrainingViews


class Source(Protocol):
    """Training samples by step; ``batch`` gives the same samples for the same numbers, whenever it is asked."""

    def batch(self, step: int, rank: int) -> TrainingViews: ...


def rng(recipe: Recipe, purpose: int, step: int, rank: int = 0) -> np.random.Generator:
    """A generator of its own for every purpose, step and process."""
    return np.random.default_rng([recipe.seed, purpose, step, rank])


def torch_generator(recipe: Recipe, step: int, rank: int) -> torch.Generator:
    """The torch generator of one step of one process (noise, dropout, self-conditioning)."""
    return torch.Generator().manual_seed(int(rng(recipe, 3, step, rank).integers(2**62)))


def choose(probabilities: dict[int, float], generator: np.random.Generator) -> int:
    """Draw one number of {number: probability}."""
    numbers = list(probabilities)
    weights = np.array([probabilities[n] for n in numbers], float)
    return int(numbers[int(generator.choice(len(numbers), p=weights / weights.sum()))])


def draw_times(recipe: Recipe, step: int, rank: int, count: int) -> torch.Tensor:
    """Times [count] of the noisy views, whole numbers 1..1000; 1000 with the recipe's extra probability ``pure``."""
    generator = rng(recipe, 4, step, rank)
    times = generator.integers(1, TRAIN_STEPS + 1, count)
    times[generator.random(count) < recipe.noise.pure] = TRAIN_STEPS
    return torch.from_numpy(times)


class ProceduralSource:
    """Batches of procedural views; how many are clean and noisy is drawn per step, the same for all processes."""

    def __init__(self, recipe: Recipe, shard: ViewShard | None = None):
        self.recipe = recipe
        self.shard = shard or read_shards(recipe.data.folder, f"train-{recipe.data.size}")

    def batch(self, step: int, rank: int) -> TrainingViews:
        data = self.recipe.data
        counts = rng(self.recipe, 1, step)
        clean, noisy = choose(data.clean, counts), choose(data.noisy, counts)
        total = max(data.rendered, clean + noisy + 1)
        drawn = sample_batch(self.shard, rng(self.recipe, 2, step, rank), self.recipe.batch_size, total)
        return TrainingViews(drawn.images * 2 - 1, drawn.alpha, drawn.world_to_camera(), clean, noisy)


def open_source(recipe: Recipe) -> Source:
    """The source the recipe names. Raises InputError for another name or when its data is not there."""
    if not recipe.data.folder:
        raise InputError(
            "`data.folder` is not given; name the folder of the drawn shards or of the SRN dataset (--data)."
        )
    if recipe.data.source == "procedural":
        return ProceduralSource(recipe)
    if recipe.data.source == "srn":
        from .srn import SrnSource

        return SrnSource(recipe)
    raise InputError(f"`data.source` is {recipe.data.source!r}; use 'procedural' or 'srn'.")
