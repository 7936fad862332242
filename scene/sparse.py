"""Sparse voxel tensors: feature rows at integer coordinates, and what is computed once per set of coordinates."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import InputError

MAX_COORDINATE = (1 << 16) - 2  # a packed key has 17 bits per axis: one value of margin on both sides for neighbors
MAX_BATCH = 1 << 12
BITS = 17  # of each axis in a packed key
AXIS_STEPS = (1 << 2 * BITS, 1 << BITS, 1)  # what one step along x, y, z adds to a packed key


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """N voxels of B items, each with C features; the rows of one item are contiguous, items in ascending order.

    feats: [N, C] (any further dimensions are kept), any dtype.
    coords: [N, 4] int32 rows (batch, x, y, z), each row once. Voxel (i, j, k) of an R grid covers
        [(i, j, k), (i, j, k) + 1] / R - 0.5 of the z-up cube [-0.5, 0.5]^3.
    batch_size: B; an item may have no voxel.
    cache: results that depend on `coords` alone (neighbor maps, sorted keys, layouts), shared by every tensor made
        with `replace`.
    Raises InputError for wrong shapes. The values of coords are checked by `check_coords`, once where data comes in.
    """

    feats: Tensor
    coords: Tensor
    batch_size: int = 1
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 4:
            raise InputError(f"`coords` has shape {list(self.coords.shape)}; it must be [N, 4] rows (batch, x, y, z).")
        if self.coords.dtype != torch.int32:
            raise InputError(f"`coords` is {self.coords.dtype}; sparse tensors need torch.int32.")
        if self.feats.ndim < 1 or self.feats.shape[0] != self.coords.shape[0]:
            raise InputError(
                f"`feats` has shape {list(self.feats.shape)}, `coords` {list(self.coords.shape)}; the rows must agree."
            )
        if not 1 <= self.batch_size <= MAX_BATCH:
            raise InputError(f"`batch_size` is {self.batch_size}; it must lie in 1..{MAX_BATCH}.")

    def __len__(self) -> int:
        return self.coords.shape[0]

    @property
    def device(self) -> torch.device:
        return self.feats.device

    @property
    def dtype(self) -> torch.dtype:
        return self.feats.dtype

    def replace(self, feats: Tensor) -> SparseTensor:
        """The same voxels with other features [N, ...]; the cache is shared, not copied."""
        return SparseTensor(feats, self.coords, self.batch_size, self.cache)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> SparseTensor:
        """Moved or cast; the cache stays with the coordinates' device."""
        coords = self.coords if device is None else self.coords.to(device)
        cache = self.cache if coords is self.coords else {}
        return SparseTensor(self.feats.to(device=device, dtype=dtype), coords, self.batch_size, cache)

    def once(self, name: Hashable, compute: Callable[[], Any]) -> Any:
        """The cached value `name` of these coordinates, computed on first use."""
        if name not in self.cache:
            self.cache[name] = compute()
        return self.cache[name]

    @property
    def seqlens(self) -> list[int]:
        """Number of voxels of each item."""
        return self.once("seqlens", lambda: torch.bincount(self.batch_index, minlength=self.batch_size).tolist())

    @property
    def layout(self) -> list[slice]:
        """The rows of each item."""
        return self.once("layout", self._layout)

    def _layout(self) -> list[slice]:
        starts = [0]
        for length in self.seqlens:
            starts.append(starts[-1] + length)
        return [slice(a, b) for a, b in zip(starts[:-1], starts[1:])]

    @property
    def batch_index(self) -> Tensor:
        """[N] int64, the item of every row."""
        return self.once("batch_index", lambda: self.coords[:, 0].long())

    @property
    def keys(self) -> Tensor:
        """[N] int64, `pack_coords` of the rows."""
        return self.once("keys", lambda: pack_coords(self.coords))

    @property
    def sorted_keys(self) -> tuple[Tensor, Tensor | None]:
        """Ascending keys [N] and the row each belongs to [N] int64, or None where the rows are sorted already."""
        return self.once("sorted_keys", self._sorted_keys)

    def _sorted_keys(self) -> tuple[Tensor, Tensor | None]:
        keys = self.keys
        if bool((keys[1:] > keys[:-1]).all()):
            return keys, None
        return torch.sort(keys)

    def item(self, index: int) -> SparseTensor:
        """Item `index` alone, its batch column set to 0."""
        rows = self.layout[index]
        coords = self.coords[rows].clone()
        coords[:, 0] = 0
        return SparseTensor(self.feats[rows], coords, 1)

    @classmethod
    def cat(cls, items: Sequence[SparseTensor]) -> SparseTensor:
        """Items one after another: B1 + B2 + ... items."""
        shift, coords = 0, []
        for item in items:
            rows = item.coords.clone()
            rows[:, 0] += shift
            coords.append(rows)
            shift += item.batch_size
        return cls(torch.cat([item.feats for item in items]), torch.cat(coords), shift)


def pack_coords(coords: Tensor) -> Tensor:
    """One int64 key per row, ascending in lexicographic (batch, x, y, z) order.

    coords: [N, 4] integers, axes within 0..MAX_COORDINATE. Adding `AXIS_STEPS[axis]` moves one voxel along an axis and
    never reaches a key of another row or item, not even at the borders.
    """
    b, x, y, z = coords.long().unbind(1)
    return (b << 3 * BITS) + ((x + 1) << 2 * BITS) + ((y + 1) << BITS) + (z + 1)


def unpack_coords(keys: Tensor) -> Tensor:
    """The [N, 4] int32 rows of packed keys [N]."""
    mask = (1 << BITS) - 1
    columns = (keys >> 3 * BITS, (keys >> 2 * BITS & mask) - 1, (keys >> BITS & mask) - 1, (keys & mask) - 1)
    return torch.stack(columns, 1).to(torch.int32)


def check_coords(coords: Tensor, batch_size: int, resolution: int | None = None, name: str = "coords") -> None:
    """Reject coordinates no network may see.

    coords: [N, 4] int32. Raises InputError for no rows, batch indices outside 0..batch_size-1 or not ascending, an
    axis outside 0..resolution-1 (0..MAX_COORDINATE without a resolution) and rows given twice.
    """
    if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
        raise InputError(f"`{name}` is {coords.dtype} {list(coords.shape)}; it must be int32 [N, 4] (batch, x, y, z).")
    if coords.shape[0] == 0:
        raise InputError(f"`{name}` has no voxel; at least one is needed.")
    batch = coords[:, 0]
    if int(batch.min()) < 0 or int(batch.max()) >= batch_size or bool((batch[1:] < batch[:-1]).any()):
        raise InputError(f"The batch column of `{name}` must ascend within 0..{batch_size - 1}.")
    top = MAX_COORDINATE if resolution is None else resolution - 1
    low, high = int(coords[:, 1:].min()), int(coords[:, 1:].max())
    if low < 0 or high > top:
        raise InputError(f"`{name}` spans {low}..{high}; this grid has voxels 0..{top} on each axis.")
    keys = torch.sort(pack_coords(coords)).values
    if bool((keys[1:] == keys[:-1]).any()):
        raise InputError(f"`{name}` lists a voxel twice; each may appear once.")
