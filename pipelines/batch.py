"""Several objects one after the other: every one is what it would be alone.

Running them as one ragged batch would save no work in the attention of the large stages, where the time goes, and would
make an object depend, in its last digits, on its neighbors; one after the other they also need the memory of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..models.trellis2.cascade import Cascade
from ..models.trellis2.latents import Latents
from ..models.trellis2.runner import Progress
from ..scene.errors import InputError


def sampling_steps(
    cascade: Cascade, pipeline_type: str | None = None, samplers: Mapping[str, Mapping[str, Any]] | None = None
) -> int:
    """How many sampler steps one object takes: structure, low shape in a cascade, shape and texture."""
    settings, (_, two_steps) = cascade.settings(samplers), cascade.config.plan(pipeline_type)
    structure, shape, texture = (
        settings[name].steps for name in ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")
    )
    return structure + shape * (2 if two_steps else 1) + texture


def sample_batch(
    sample: Callable[..., Latents],
    cascade: Cascade,
    items: Sequence[tuple],
    *,
    seed: int | Sequence[int] = 42,
    callback: Callable[[int, int], None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Latents]:
    """Latents of several objects; item i equals `sample(cascade, *items[i], seed=seed_i, **options)`.

    sample: `trellis2.sample_latents` or `pixal3d.sample_latents`. items: what it takes after the cascade, one tuple per
    object: (picture,) or (pictures, camera). seed: one per item, or a number n for n, n + 1, n + 2 ...
    callback(done, total) after every sampler step, over all items; progress: see `Runner`; what either raises ends the
    run. Raises InputError, naming the item where it is one item's.
    """
    items = list(items)
    if not items:
        raise InputError("There is no object in the batch; at least one is needed.")
    seeds = [seed + i for i in range(len(items))] if isinstance(seed, int) else list(seed)
    if len(seeds) != len(items):
        raise InputError(f"There are {len(items)} objects and {len(seeds)} seeds; each object needs one.")
    per_item = sampling_steps(cascade, options.get("pipeline_type"), options.get("samplers"))
    found: list[Latents] = []
    done = 0

    def step(*values: Any) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(*values)
        if callback:
            callback(done, per_item * len(items))

    for index, (item, item_seed) in enumerate(zip(items, seeds)):
        try:
            found.append(sample(cascade, *item, seed=item_seed, progress=step, **options))
        except InputError as error:
            if len(items) == 1:
                raise
            raise InputError(f"Object {index + 1} of {len(items)}: {error}") from error
    return found
