"""Decoding in octree blocks: the working memory is bounded, the result is that of decoding everything at once.

A level of the decoder is a row of convolution blocks, each of which lets a voxel see one voxel further, and an up block
that sees two. Both are run cell by cell of an octree over the level's voxels, with a halo of exactly as many voxels
around each cell, of which only the cell's own rows are kept. Which children exist is decided once per level from the
kept rows, so neighboring cells cannot disagree about it. Between two passes a level's features lie in one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.sparse_resample import Subdivision, subdivide
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .sc_vae import Decoded, Guide, SparseVaeDecoder, UpBlock, check_plan, follow_guide

WORKSPACE = 1 << 30  # bytes of working memory of one cell
DEPTH = 4  # convolution blocks run on a cell before its halo is fetched anew
UP_HALO = 2  # voxels an up block sees: one in each of its convolutions, the second on the finer grid
Callback = Callable[[str, int, int], None]
Check = Callable[[list[int]], None]


def receptive_field(cfg) -> list[int]:
    """How many voxels of each level, coarse to fine, an output voxel depends on in every direction.

    Entry l is counted on the grid of level l, at the input of its blocks; the up block's second convolution reaches one
    fine voxel, its first one coarse voxel further, and every convolution block one voxel.
    """
    reach = [cfg.num_blocks[-1]]
    for count in reversed(cfg.num_blocks[:-1]):
        reach.append((reach[-1] + 2) // 2 + 1 + count)
    return reach[::-1]


def octree_cells(coords: Tensor, halo: int, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cubic cells of voxels with what surrounds them.

    coords: [N, 4] int32. Yields rows [n] int64, ascending: the voxels of a cell and those within `halo` of it along
    every axis; and own [n] bool, the cell's. Every voxel is the own voxel of one cell. A cell with more than `limit`
    rows is split in eight, unless it is no wider than its halo, where splitting saves little.
    """
    axes = [column.contiguous() for column in coords[:, 1:].unbind(1)]
    side = 1 << (int(coords[:, 1:].max()).bit_length() if len(coords) else 0)

    def within(rows: Tensor, low: Sequence[int], side: int, margin: int) -> Tensor:
        kept = None
        for axis, start in zip(axes, low):
            values = axis.index_select(0, rows)
            inside = (values >= start - margin) & (values < start + side + margin)
            kept = inside if kept is None else kept & inside
        return kept

    def split(rows: Tensor, low: Sequence[int], side: int) -> Iterator[tuple[Tensor, Tensor]]:
        own = within(rows, low, side, 0)
        if not bool(own.any()):
            return
        if len(rows) <= limit or side <= max(halo, 1):
            yield rows, own
            return
        half = side // 2
        for octant in range(8):
            corner = [start + half * (octant >> axis & 1) for axis, start in enumerate(low)]
            yield from split(rows[within(rows, corner, half, halo)], corner, half)

    yield from split(torch.arange(len(coords), device=coords.device), (0, 0, 0), side)


def body_row_bytes(width: int, dtype: torch.dtype, device: torch.device | str) -> int:
    """Working memory per voxel of convolution blocks of this width: its features several times over, the four times
    wider hidden layer before and after its activation, and its part of the neighbor map."""
    return 13 * width * _compute_size(dtype, device) + _map_bytes(device)


def up_row_bytes(
    width: int, out_width: int, children: float, dtype: torch.dtype, device: torch.device | str, out_channels: int = 0
) -> int:
    """Working memory per coarse voxel of an up block: the features of all eight children, then those that are kept
    (`children` on average) several times over, with their neighbor maps."""
    size = _compute_size(dtype, device)
    wide = (2 * width + 16 * out_width) * size
    kept = children * ((8 * out_width + 2 * out_channels) * size + _map_bytes(device) + 40)
    return int(max(wide, 2 * width * size + kept) + _map_bytes(device))


def _compute_size(dtype: torch.dtype, device: torch.device | str) -> int:
    return 4 if torch.device(device).type == "cpu" else dtype.itemsize


def _map_bytes(device: torch.device | str) -> int:
    return 300 if torch.device(device).type == "cpu" else 700  # there the table of 27 neighbors comes on top


@torch.no_grad()
def stream_decode(
    decoder: SparseVaeDecoder,
    z: SparseTensor,
    guide: Guide | None = None,
    *,
    workspace: int = WORKSPACE,
    store: torch.device | str | None = None,
    callback: Callback | None = None,
    check: Check | None = None,
) -> Decoded:
    """`decoder(z, guide)` with a bounded working memory; the same voxels in the same order.

    workspace: bytes that the work on one cell may take; the features of a level and the next, the result and the
    weights come on top. store: where they lie between passes, default with z. callback(level, done, total) after every
    cell, in voxels of a pass; check(voxels of the levels so far, and of the next) before the features of a finer level
    are made; what they raise ends the decoding. Raises InputError as the decoder does.
    """
    return _Stream(decoder, z, guide, workspace, store, callback, check).decode()


@torch.no_grad()
def stream_upsample(
    decoder: SparseVaeDecoder,
    z: SparseTensor,
    levels: int,
    guide: Guide | None = None,
    *,
    workspace: int = WORKSPACE,
    store: torch.device | str | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """`decoder.upsample(z, levels, guide)`: coordinates [M, 4] int32, without the last level's features."""
    if not 0 <= levels < len(decoder.blocks):
        raise InputError(f"`levels` is {levels}; this decoder has {len(decoder.blocks) - 1} subdivisions.")
    if levels == 0:
        return z.coords
    return _Stream(decoder, z, guide, workspace, store, callback).run(levels, coords_only=True).coords


class _Stream:
    """One decoding: the levels one after the other, each pass over the cells of the level's octree."""

    def __init__(self, decoder, z, guide, workspace, store, callback, check=None):
        decoder.check_input(z, guide, 0)
        if workspace < 1:
            raise InputError(f"`workspace` is {workspace}; it is a number of bytes, a million at least to be of use.")
        self.decoder, self.z, self.guide = decoder, z, guide
        self.workspace, self.callback, self.check = workspace, callback, check
        self.device = next(decoder.parameters()).device
        self.store = z.device if store is None else torch.device(store)
        self.dtype = decoder.torso_dtype
        self.plans: list[Subdivision] = []
        self.logits: list[SparseTensor] = []

    def decode(self) -> Decoded:
        voxels = self.run(len(self.decoder.blocks) - 1)
        return Decoded(voxels, self.plans, self.logits)

    def run(self, levels: int, coords_only: bool = False) -> SparseTensor:
        decoder = self.decoder
        decoder.check_input(self.z, self.guide, levels)
        latent = self.z.feats.to(self.device)
        h = self.z.to(self.store).replace(decoder.from_latent(latent).to(self.dtype).to(self.store))
        finest = len(decoder.blocks) - 1
        for level in range(levels):
            *body, up = decoder.blocks[level]
            h = self._body(h, body, level)
            plan = self._plan(h, up, level)
            if coords_only and level + 1 == levels:
                return SparseTensor(plan.coords.new_empty(len(plan.coords), 0), plan.coords, h.batch_size)
            head = self._head if level + 1 == finest and not len(decoder.blocks[finest]) else None
            h = self._up(h, up, plan, level, head)
        if len(decoder.blocks[finest]):
            h = self._body(h, list(decoder.blocks[finest]), finest, self._head)
        return h

    def _head(self, feats: Tensor) -> Tensor:
        feats = F.layer_norm(feats.to(self.z.dtype), feats.shape[-1:])
        return self.decoder.output_layer(feats)

    def _plan(self, h: SparseTensor, up: UpBlock, level: int) -> Subdivision:
        """The children of a level's voxels, from the logits of all of them or from the guide."""
        if self.guide is not None:
            plan = follow_guide(self.guide[level], h, level)
        else:
            parts = [up.to_subdiv(part.to(self.device)).to(self.store) for part in h.feats.split(1 << 18)]
            self.logits.append(h.replace(torch.cat(parts)))
            plan = subdivide(h, self.logits[-1].feats > 0)
        check_plan(plan, level)
        self.plans.append(plan)
        if self.check:
            self.check([len(self.z), *[len(step.coords) for step in self.plans]])
        return plan

    def _cells(
        self, h: SparseTensor, halo: int, row_bytes: int, level: int
    ) -> Iterator[tuple[SparseTensor, Tensor, Tensor]]:
        """Every cell: its voxels with halo on the working device, their rows, and which of them are its own."""
        limit, done = max(1, self.workspace // row_bytes), 0
        for rows, own in octree_cells(h.coords, halo, limit):
            if len(rows) == len(h):  # several passes and another decoder share the neighbor map
                part = h.to(self.device)
            else:
                feats, coords = h.feats.index_select(0, rows), h.coords.index_select(0, rows)
                part = SparseTensor(feats.to(self.device), coords.to(self.device), h.batch_size)
            yield part, rows, own
            done += int(own.sum())
            if self.callback:
                self.callback(f"level {level}", done, len(h))

    def _body(self, h: SparseTensor, blocks: list, level: int, head=None) -> SparseTensor:
        """Convolution blocks, a few at a time."""
        width = self.decoder.config.model_channels[level]
        for start in range(0, len(blocks), DEPTH):
            group = blocks[start : start + DEPTH]
            last = head if start + DEPTH >= len(blocks) else None
            out = _Rows(len(h))
            for part, rows, own in self._cells(h, len(group), body_row_bytes(width, self.dtype, self.device), level):
                for block in group:
                    part = block(part)
                feats = part.feats[own.to(self.device)]
                out.put(rows[own], (feats if last is None else last(feats)).to(self.store))
                del part, feats
            h = h.replace(out.tensor)
        return h

    def _up(self, h: SparseTensor, up: UpBlock, plan: Subdivision, level: int, head) -> SparseTensor:
        widths, m = self.decoder.config.model_channels, len(plan.coords)
        # the fine row of every child slot; guides of an encoder have their children in an order of their own
        child = torch.full((len(h) * 8,), -1, dtype=torch.int32 if m < 1 << 31 else torch.int64, device=self.store)
        slots = plan.parent * 8 + plan.slot
        child[slots] = torch.arange(m, dtype=child.dtype, device=self.store)
        del slots
        child = child.view(-1, 8)
        row_bytes = up_row_bytes(widths[level], widths[level + 1], m / len(h), self.dtype, self.device)
        out = _Rows(m)
        for part, rows, own in self._cells(h, UP_HALO, row_bytes, level):
            fine = child.index_select(0, rows)
            local = subdivide(part, (fine >= 0).to(self.device))
            feats = up(part, local).feats
            mine = own.to(self.device).index_select(0, local.parent)
            feats = feats[mine]
            target = fine[own]
            out.put(target[target >= 0].long(), (feats if head is None else head(feats)).to(self.store))
            del part, local, feats
        return SparseTensor(out.tensor, plan.coords, plan.batch_size, plan.fine_cache)


class _Rows:
    """Rows of a tensor that is made when the first of them are known."""

    def __init__(self, count: int):
        self.count, self.tensor = count, None

    def put(self, rows: Tensor, values: Tensor) -> None:
        if self.tensor is None:
            if len(rows) == self.count and bool((rows[1:] > rows[:-1]).all()):  # one cell with everything, in order
                self.tensor = values
                return
            self.tensor = values.new_empty(self.count, values.shape[1])
        self.tensor.index_copy_(0, rows, values)
