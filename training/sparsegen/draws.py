"""The random draws of training. Each depends on (seed, step, rank) only, so a resumed run is exact."""

from __future__ import annotations

import numpy as np
import torch

from .recipe import Recipe
from .step import TRAIN_STEPS


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
