"""Sampling all chunks of a scene as one: every step moves each chunk by itself, then overlaps take their mean.

A velocity function takes (chunks, x, t, conditional): which chunks, their latents as one batch, the flow time, and
whether the condition acts. Source: GenRecon, specification 10.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...kernels.multi_diffusion import DenseOverlap, Reduce, SparseOverlap
from ..trellis2.samplers import SamplerSettings, dense_std, flow_times, guided_velocity, sparse_std

BatchVelocity = Callable[[Sequence[int], Tensor, float, bool], Tensor]
StepDone = Callable[[int, int, "list[Tensor]"], None]


def batches(chunks: Sequence[int], size: int) -> list[list[int]]:
    """Chunks in groups of `size`, in their order."""
    return [list(chunks[i : i + size]) for i in range(0, len(chunks), max(1, size))]


@torch.no_grad()
def sample_chunks(
    velocity: BatchVelocity,
    xs: Sequence[Tensor],
    overlap: DenseOverlap | SparseOverlap,
    settings: SamplerSettings,
    *,
    chunks: Sequence[int] | None = None,
    batch: int = 1,
    start: int = 0,
    reduce: Reduce | None = None,
    step_done: StepDone | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """Integrates the flow of all chunks from noise to data.

    xs: latents of `chunks` (default all) at step `start`: [C, R, R, R] each with a `DenseOverlap`, [N_i, C] with a
    `SparseOverlap`. batch: chunks evaluated in one call. reduce: adds sums up over processes. step_done(steps done,
    steps, latents) after every step, for checkpoints; progress(done, total) after every evaluation of a batch; what
    either raises ends the sampling.
    """
    chunks = list(range(len(xs))) if chunks is None else list(chunks)
    dense = isinstance(overlap, DenseOverlap)
    times = flow_times(settings.steps, settings.rescale_t)
    groups, at = batches(range(len(chunks)), batch), 0
    xs = list(xs)
    for step in range(start, settings.steps):
        t, t_next = times[step], times[step + 1]
        for group in groups:
            names = [chunks[i] for i in group]
            parts = [xs[i] for i in group]
            x = torch.stack(parts) if dense else torch.cat(parts)
            std = dense_std if dense else sparse_std(_layout([len(p) for p in parts]))
            v = guided_velocity(
                lambda x, t, cond, names=names: velocity(names, x, t, cond), x, t, True, False, settings, std
            )
            moved = x - (t - t_next) * v
            moved = moved.unbind(0) if dense else moved.split([len(p) for p in parts])
            for i, value in zip(group, moved):
                xs[i] = value.float()
            at += 1
            if progress:
                progress(at, (settings.steps - start) * len(groups))
        xs = overlap.average(chunks, xs, reduce)
        if step_done:
            step_done(step + 1, settings.steps, xs)
    return xs


def _layout(lengths: Sequence[int]) -> list[slice]:
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return [slice(a, b) for a, b in zip(ends, ends[1:])]
