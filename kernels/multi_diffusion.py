"""Overlapping chunks that are sampled as one: a common lattice, common noise, and the mean where chunks overlap.

Chunk i of resolution R covers the lattice cells offset_i + [0, R)^3. Its latent is dense, [C, R, R, R], or rows
[N_i, C] at the voxels [N_i, 3] of the chunk. `reduce` adds a tensor up over several processes, each of which holds some
of the chunks; sums are kept in float64, so that any division of the work gives the same result to the last float32
digit but for ties. Source: GenRecon, specification 10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import pack_coords

Reduce = Callable[[Tensor], Tensor]


def chunk_offsets(relative: Tensor, resolution: int) -> Tensor:
    """[K, 3] int64 cells by which chunks are shifted against the lowest corner of all.

    relative: [K, 3] positions in chunk sizes. Raises InputError where one does not lie on the lattice.
    """
    exact = relative.double() * resolution
    cells = exact.round()
    worst = float((exact - cells).abs().max()) if len(exact) else 0.0
    if worst > 0.01:
        raise InputError(
            f"A chunk lies {worst:.2g} cells off the lattice of {resolution}; chunks must be placed in sixteenths."
        )
    return (cells - cells.amin(0)).long()


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


@dataclass(frozen=True, eq=False)
class DenseOverlap:
    """Dense chunks on a common lattice: offsets [K, 3] int64, resolution R."""

    offsets: Tensor
    resolution: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Cells of the whole lattice."""
        return tuple((self.offsets.amax(0) + self.resolution).tolist())

    def block(self, chunk: int) -> tuple[slice, ...]:
        """Where chunk `chunk` lies in a tensor [..., GX, GY, GZ]."""
        return (..., *(slice(o, o + self.resolution) for o in self.offsets[chunk].tolist()))

    def cut(self, lattice: Tensor, chunks: Sequence[int]) -> list[Tensor]:
        """The chunks [C, R, R, R] of a lattice tensor [C, GX, GY, GZ]."""
        return [lattice[self.block(i)].clone() for i in chunks]

    def noise(self, channels: int, generator: torch.Generator) -> Tensor:
        """[C, GX, GY, GZ] float32, one draw on the CPU, so that overlaps start identical."""
        return torch.randn(1, channels, *self.size, generator=generator)[0]

    def merge(self, chunks: Sequence[int], xs: Sequence[Tensor], reduce: Reduce | None = None) -> Tensor:
        """The mean [C, GX, GY, GZ] over the chunks that cover a cell, 0 where none does."""
        total = xs[0].new_zeros(xs[0].shape[0] + 1, *self.size, dtype=_wide(xs[0])) if len(xs) else None
        if total is None:
            raise InputError("A process has no chunk; use no more processes than chunks.")
        for i, x in zip(chunks, xs):
            total[:-1][self.block(i)] += x
            total[-1][self.block(i)] += 1
        if reduce is not None:
            total = reduce(total)
        return (total[:-1] / total[-1:].clamp(min=1)).to(torch.float32)

    def average(self, chunks: Sequence[int], xs: Sequence[Tensor], reduce: Reduce | None = None) -> list[Tensor]:
        """Every chunk with the mean over all chunks in its place."""
        return self.cut(self.merge(chunks, xs, reduce), chunks)


@dataclass(frozen=True, eq=False)
class SparseOverlap:
    """Sparse chunks on a common lattice.

    offsets: [K, 3]; coords: of every chunk its voxels [N_i, 3] int32 (all chunks, also those of other processes);
    boundary: so many layers at the faces of a chunk (along `axes`) do not vote, 0 for the plain mean.
    """

    offsets: Tensor
    resolution: int
    coords: Sequence[Tensor]
    boundary: int = 0
    axes: tuple[int, ...] = (0, 1)
    places: tuple[Tensor, ...] = field(init=False, repr=False)
    keys: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.boundary < 0 or 2 * self.boundary >= self.resolution:
            raise InputError(
                f"The boundary of a chunk is {self.boundary} voxels wide; from 0 to {(self.resolution - 1) // 2} work."
            )
        rows = [
            torch.nn.functional.pad(c.long() + o, (1, 0))
            for c, o in zip(self.coords, self.offsets.to(_device(self.coords)))
        ]
        keys, places = torch.unique(pack_coords(torch.cat(rows)), return_inverse=True)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "places", places.split([len(r) for r in rows]))

    def __len__(self) -> int:
        """Voxels of the lattice."""
        return len(self.keys)

    def voters(self, chunk: int) -> Tensor:
        """[N_i] bool, the voxels of a chunk that vote."""
        local = self.coords[chunk][:, list(self.axes)]
        inner = (local >= self.boundary) & (local < self.resolution - self.boundary)
        return inner.all(1)

    def noise(self, channels: int, generator: torch.Generator) -> Tensor:
        """[voxels of the lattice, C] float32, one draw on the CPU, in ascending order x, y, z."""
        return torch.randn(len(self), channels, generator=generator)

    def cut(self, lattice: Tensor, chunks: Sequence[int]) -> list[Tensor]:
        """The rows [N_i, C] of chunks out of rows [voxels of the lattice, C]."""
        return [lattice[self.places[i].to(lattice.device)] for i in chunks]

    def merge(self, chunks: Sequence[int], xs: Sequence[Tensor], reduce: Reduce | None = None) -> Tensor:
        """The plain mean [voxels of the lattice, C] over the chunks that have a voxel."""
        return self._sum(chunks, xs, reduce, None)[0]

    def average(self, chunks: Sequence[int], xs: Sequence[Tensor], reduce: Reduce | None = None) -> list[Tensor]:
        """Every chunk with the mean over the voting chunks; a voxel for which none votes keeps its own value."""
        if not self.boundary:
            return self.cut(self.merge(chunks, xs, reduce), chunks)
        mean, seen = self._sum(chunks, xs, reduce, [self.voters(i) for i in chunks])
        out = []
        for i, x in zip(chunks, xs):
            place = self.places[i].to(x.device)
            out.append(torch.where(seen[place, None], mean[place], x))
        return out

    def _sum(self, chunks, xs, reduce, voters) -> tuple[Tensor, Tensor]:
        if not len(xs):
            raise InputError("A process has no chunk; use no more processes than chunks.")
        total = xs[0].new_zeros(len(self), xs[0].shape[1] + 1, dtype=_wide(xs[0]))
        for n, (i, x) in enumerate(zip(chunks, xs)):
            place = self.places[i].to(x.device)
            rows = torch.cat([x, x.new_ones(len(x), 1)], 1).to(total.dtype)
            if voters is not None:
                place, rows = place[voters[n].to(x.device)], rows[voters[n].to(x.device)]
            total.index_add_(0, place, rows)
        if reduce is not None:
            total = reduce(total)
        count = total[:, -1:]
        return (total[:, :-1] / count.clamp(min=1)).to(torch.float32), count[:, 0] > 0


def _device(coords: Sequence[Tensor]):
    if not len(coords) or not any(len(c) for c in coords):
        raise InputError("No chunk has an occupied voxel; lower the occupancy threshold, or check the views.")
    return coords[0].device
