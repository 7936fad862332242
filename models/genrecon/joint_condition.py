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
from ...kernels.view_projection import camera_features, project_to_patches
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


class LatticeProjection:
    """Which patch of every view each cell of a lattice reads; found by the first stage that asks, kept for the next.

    cells: [V, 3]; relative: [K, 3] of all chunks; dtype: of the projection; limit: bytes, above it a temporary file
    holds it. Patches are kept as int16, -1 where a view does not see the cell.
    """

    def __init__(
        self, views: SceneViews, cells: Tensor, resolution: int, relative: Tensor,
        dtype: torch.dtype = torch.float32, limit: int = IN_MEMORY,
    ):  # fmt: skip
        self.views, self.cells, self.resolution, self.relative = views, cells, resolution, relative
        self.dtype, self.patches = dtype, round((views.tokens.shape[1] - views.prefix) ** 0.5)
        small = torch.int16 if self.patches**2 < 1 << 15 else torch.int32
        self.store = ConditionStore(len(cells), len(views.tokens), small, limit)
        self.known = torch.zeros(len(cells), dtype=torch.bool)

    def fits(self, cells: Tensor, resolution: int, dtype: torch.dtype) -> bool:
        """Whether it is of these cells."""
        return self.resolution == resolution and self.dtype == dtype and torch.equal(self.cells, cells)

    def points(self, start: int, stop: int) -> Tensor:
        """Centers [n, 3] of a run of cells in the joint frame."""
        points = lattice_points(self.cells[start:stop], self.resolution, self.relative)
        return points.to(self.views.tokens.device)

    def of(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Patches [N, n] int64 and whether they are seen [N, n] bool, of a run of cells."""
        stop = min(stop, len(self.cells))
        device = self.views.tokens.device
        if bool(self.known[start:stop].all()):
            rows = self.store.read(torch.arange(start, stop)).to(device).T.long()
            return rows.clamp(min=0), rows >= 0
        views = self.views
        patch, valid = project_to_patches(
            self.points(start, stop), views.extrinsics, views.intrinsics, self.patches, self.dtype
        )
        self.store.write(start, patch.where(valid, torch.full_like(patch, -1)).T)
        self.known[start:stop] = True
        return patch, valid

    def close(self) -> None:
        """Give the memory or the file back."""
        self.store.close()


@torch.no_grad()
def lattice_condition(
    aggregator: ViewAggregator, projection: LatticeProjection, *, batch: int = 8192,
    store: ConditionStore | None = None, progress: Progress | None = None,
) -> ConditionStore:  # fmt: skip
    """The condition of the cells of a projection, as rows in a store; `batch` cells at a time.

    Source: GenRecon, specification 10.2.
    """
    views, count, batch = projection.views, len(projection.cells), max(1, batch)
    store = store or ConditionStore(count, views.tokens.shape[-1])
    for start in range(0, count, batch):
        patch, valid = projection.of(start, start + batch)
        camera = None
        if aggregator.use_camera:
            camera = camera_features(projection.points(start, start + batch), views.extrinsics)
        store.write(start, aggregator.from_patches(views.tokens, patch, valid, camera, prefix=views.prefix))
        if progress:
            progress(min(start + batch, count), count)
    return store


class DenseCondition:
    """The condition of dense chunks: [R^3, D] per chunk, in x-major order. dtype: of the projection."""

    def __init__(
        self, aggregator: ViewAggregator, views: SceneViews, overlap: DenseOverlap, relative: Tensor,
        dtype: torch.dtype = torch.float32, **options,
    ):  # fmt: skip
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
        projection = LatticeProjection(views, cells[used.reshape(-1)], overlap.resolution, relative, dtype)
        self.store = lattice_condition(aggregator, projection, **options)
        projection.close()

    def of(self, chunks: Sequence[int]) -> Tensor:
        """[B, R^3, D] of some chunks."""
        return torch.stack([self.store.read(self.place[self.overlap.block(i)].reshape(-1)) for i in chunks])


class SparseCondition:
    """The condition of sparse chunks: [N_i, D] per chunk, in the order of its voxels.

    projection: of the voxels of the lattice, where another stage on the same voxels has made it.
    """

    def __init__(
        self, aggregator: ViewAggregator, views: SceneViews, overlap: SparseOverlap, relative: Tensor,
        projection: LatticeProjection | None = None, **options,
    ):  # fmt: skip
        self.overlap = overlap
        cells = self.cells(overlap)
        own = LatticeProjection(views, cells, overlap.resolution, relative) if projection is None else projection
        self.store = lattice_condition(aggregator, own, **options)
        if projection is None:
            own.close()

    @staticmethod
    def cells(overlap: SparseOverlap) -> Tensor:
        """Voxels [M, 3] of the lattice."""
        return unpack_coords(overlap.keys.cpu())[:, 1:]

    def of(self, chunks: Sequence[int]) -> Tensor:
        """[sum N_i, D] of some chunks."""
        return torch.cat([self.store.read(self.overlap.places[i].cpu()) for i in chunks])
