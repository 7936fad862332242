"""The per-voxel condition of a whole scene: computed once for every cell that any chunk has, then cut per chunk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.multi_diffusion import DenseOverlap, SparseOverlap
from ...scene.sparse import unpack_coords
from .aggregator import ViewAggregator

IN_MEMORY = 1 << 30  # larger conditions of a scene are kept in a temporary file
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class SceneViews:
    """What the views of a scene say: tokens [N, prefix + P, D] float32, extrinsics [N, 4, 4] (joint frame -> camera,
    OpenCV axes), intrinsics [N, 3, 3] (width and height as units); prefix: global tokens before the patches; source: a
    hash of the pictures, where they are known, which unlike the tokens is the same on every machine."""

    tokens: Tensor
    extrinsics: Tensor
    intrinsics: Tensor
    prefix: int = 5
    source: str = ""


class ConditionStore:
    """Rows [M, D] of the cells of a lattice, in memory or in a temporary file that vanishes with this object."""

    def __init__(self, rows: int, width: int, dtype: torch.dtype = torch.float32, limit: int = IN_MEMORY):
        self.shape, self.dtype = (rows, width), dtype
        self.rows = self.file = None
        if rows * width * dtype.itemsize <= limit:
            self.rows = torch.empty(rows, width, dtype=dtype)
        else:
            self.file = tempfile.TemporaryFile(prefix="sightline-", buffering=0)
            self.file.truncate(rows * width * dtype.itemsize)

    def write(self, start: int, rows: Tensor) -> None:
        """Rows from `start` on."""
        rows = rows.to("cpu", self.dtype)
        if self.rows is not None:
            self.rows[start : start + len(rows)] = rows
            return
        self.file.seek(start * self.shape[1] * self.dtype.itemsize)
        self.file.write(rows.contiguous().view(torch.uint8).numpy().tobytes())

    def read(self, index: Tensor) -> Tensor:
        """The rows [n, D] at index [n]; a file is read in the runs that follow one another."""
        if self.rows is not None:
            return self.rows[index]
        size = self.shape[1] * self.dtype.itemsize
        order = torch.argsort(index)
        wanted = index[order].numpy()
        out = torch.empty(len(index), self.shape[1], dtype=self.dtype)
        target = out.view(torch.uint8).numpy().reshape(len(index), size)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(wanted)]):
            data = os.pread(self.file.fileno(), (last - first) * size, int(wanted[first]) * size)
            target[first:last] = np.frombuffer(data, np.uint8).reshape(-1, size)
        back = torch.empty_like(out)
        back[order] = out
        return back

    def close(self) -> None:
        """Give the memory or the file back."""
        if self.file is not None:
            self.file.close()
        self.rows = self.file = None


def lattice_points(cells: Tensor, resolution: int, relative: Tensor) -> Tensor:
    """Centers [V, 3] float32, in the joint frame, of lattice cells [V, 3]; relative: [K, 3] of all chunks."""
    return (cells.float() + 0.5) / resolution + (relative.float().amin(0).to(cells.device) - 0.5)


@torch.no_grad()
def lattice_condition(
    aggregator: ViewAggregator, views: SceneViews, cells: Tensor, resolution: int, relative: Tensor,
    *, batch: int = 8192, dtype: torch.dtype = torch.float32, store: ConditionStore | None = None,
    progress: Progress | None = None,
) -> ConditionStore:  # fmt: skip
    """The condition of lattice cells [V, 3], as rows in a store.

    batch: cells at a time; dtype: of the projection (bfloat16: as released). Source: GenRecon, specification 10.2.
    """
    store = store or ConditionStore(len(cells), views.tokens.shape[-1])
    for start in range(0, len(cells), max(1, batch)):
        points = lattice_points(cells[start : start + batch], resolution, relative).to(views.tokens.device)
        rows = aggregator.from_tokens(
            views.tokens, points, views.extrinsics, views.intrinsics, prefix=views.prefix, dtype=dtype, batch=batch
        )
        store.write(start, rows)
        if progress:
            progress(min(start + batch, len(cells)), len(cells))
    return store


class DenseCondition:
    """The condition of dense chunks: [R^3, D] per chunk, in x-major order."""

    def __init__(
        self, aggregator: ViewAggregator, views: SceneViews, overlap: DenseOverlap, relative: Tensor, **options
    ):
        self.overlap = overlap
        gx, gy, gz = overlap.size
        axes = [torch.arange(n) for n in (gx, gy, gz)]
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        self.index = torch.arange(len(cells)).reshape(gx, gy, gz)
        used = torch.zeros(gx, gy, gz, dtype=torch.bool)
        for i in range(len(overlap.offsets)):
            used[overlap.block(i)] = True
        place = used.reshape(-1).cumsum(0) - 1
        self.place = place.reshape(gx, gy, gz)
        self.store = lattice_condition(
            aggregator, views, cells[used.reshape(-1)], overlap.resolution, relative, **options
        )

    def of(self, chunks: Sequence[int]) -> Tensor:
        """[B, R^3, D] of some chunks."""
        return torch.stack([self.store.read(self.place[self.overlap.block(i)].reshape(-1)) for i in chunks])


class SparseCondition:
    """The condition of sparse chunks: [N_i, D] per chunk, in the order of its voxels."""

    def __init__(
        self, aggregator: ViewAggregator, views: SceneViews, overlap: SparseOverlap, relative: Tensor, **options
    ):
        self.overlap = overlap
        cells = unpack_coords(overlap.keys.cpu())[:, 1:]
        self.store = lattice_condition(aggregator, views, cells, overlap.resolution, relative, **options)

    def of(self, chunks: Sequence[int]) -> Tensor:
        """[sum N_i, D] of some chunks."""
        return torch.cat([self.store.read(self.overlap.places[i].cpu()) for i in chunks])
