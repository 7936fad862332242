"""Where training batches come from."""

from __future__ import annotations

from typing import Protocol

from ...scene.errors import InputError
from .draws import choose, rng
from .procedural_data import ViewShard, read_shards, sample_batch
from .recipe import Recipe
from .srn import SrnSource
from .step import TrainingViews


class Source(Protocol):
    """Training samples by step; ``batch`` gives the same samples for the same numbers, whenever it is asked."""

    def batch(self, step: int, rank: int) -> TrainingViews: ...


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
        return SrnSource(recipe)
    raise InputError(f"`data.source` is {recipe.data.source!r}; use 'procedural' or 'srn'.")
