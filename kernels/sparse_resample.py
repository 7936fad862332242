"""Channel to space and space to channel: the 2x resampling steps of sparse U-nets.

Child slot k of a voxel is its child (dx, dy, dz) with k = dx + 2 dy + 4 dz; child coordinates are 2 parent + d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import MAX_COORDINATE, SparseTensor, pack_coords, unpack_coords


@dataclass(frozen=True)
class Subdivision:
    """Which children of which voxels exist: one plan serves every tensor that is resampled between the two levels.

    parent: [M] int64 row of each child's parent; slot: [M] int64 in 0..7; coords: [M, 4] int32 of the children;
    parent_coords: [N, 4] int32; batch_size: items; fine_cache, coarse_cache: shared by all results on these voxels.
    """

    parent: Tensor
    slot: Tensor
    coords: Tensor
    parent_coords: Tensor
    batch_size: int
    fine_cache: dict
    coarse_cache: dict

    @property
    def mask(self) -> Tensor:
        """[N, 8] bool, the children that exist."""
        mask = torch.zeros(self.parent_coords.shape[0] * 8, dtype=torch.bool, device=self.parent.device)
        mask[self.parent * 8 + self.slot] = True
        return mask.view(-1, 8)


def subdivide(x: SparseTensor, mask: Tensor) -> Subdivision:
    """The children of x's voxels that `mask` keeps, in row order of the parents, then ascending slot.

    mask: [N, 8] bool. Raises InputError for another shape and for children outside the packed coordinate range.
    Source: TRELLIS.2, sparse channel-to-space.
    """
    if mask.shape != (len(x), 8):
        raise InputError(f"`mask` has shape {list(mask.shape)}; {len(x)} voxels with 8 children need [{len(x)}, 8].")
    if len(x) and 2 * int(x.coords[:, 1:].max()) + 1 > MAX_COORDINATE:
        raise InputError(f"`x` reaches voxel {int(x.coords[:, 1:].max())}; its children exceed {MAX_COORDINATE}.")
    parent, slot = torch.nonzero(mask.bool(), as_tuple=True)
    coords = x.coords.index_select(0, parent)
    steps = torch.stack([slot & 1, slot >> 1 & 1, slot >> 2], 1).to(torch.int32)
    coords[:, 1:] = coords[:, 1:] * 2 + steps
    return Subdivision(parent, slot, coords, x.coords, x.batch_size, {}, x.cache)


def gather_children(x: SparseTensor) -> Subdivision:
    """The subdivision that leads from the parents of x's voxels to x itself; computed once per set of coordinates.

    Parents are in lexicographic (batch, x, y, z) order, whatever the order of x's rows.
    """
    return x.once("gather_children", lambda: _gather_children(x))


def _gather_children(x: SparseTensor) -> Subdivision:
    coords = x.coords.clone()
    coords[:, 1:] //= 2
    keys, parent = torch.unique(pack_coords(coords), sorted=True, return_inverse=True)
    odd = (x.coords[:, 1:] & 1).long()
    slot = odd[:, 0] + 2 * odd[:, 1] + 4 * odd[:, 2]
    return Subdivision(parent, slot, x.coords, unpack_coords(keys), x.batch_size, x.cache, {})


def channel_to_space(x: SparseTensor, plan: Subdivision | Tensor) -> SparseTensor:
    """Every child takes its eighth of the parent's channels.

    x: features [N, C], C divisible by 8, read as [N, 8, C/8]. plan: a `Subdivision` of x's voxels (from `subdivide` or,
    after `space_to_channel`, from `gather_children`), or an [N, 8] bool mask. Result: features [M, C/8]; all results
    of one plan share one cache. Raises InputError for other shapes. Source: TRELLIS.2, sparse channel-to-space.
    """
    if isinstance(plan, Tensor):
        plan = subdivide(x, plan)
    n, c = x.feats.shape
    if c % 8:
        raise InputError(f"`x` has {c} channels; channel_to_space needs a multiple of 8.")
    if plan.parent_coords.shape[0] != n:
        raise InputError(f"`x` has {n} voxels, but the subdivision was made for {plan.parent_coords.shape[0]}.")
    feats = x.feats.reshape(n * 8, c // 8).index_select(0, plan.parent * 8 + plan.slot)
    return SparseTensor(feats, plan.coords, plan.batch_size, plan.fine_cache)


def space_to_channel(x: SparseTensor, plan: Subdivision | None = None) -> SparseTensor:
    """Every parent takes its children's channels side by side, zeros where a child is absent.

    x: features [M, C]. plan: default `gather_children(x)`. Result: features [N, 8 C] read as [N, 8, C], parents in
    lexicographic order (in the plan's order otherwise). Source: TRELLIS.2, sparse space-to-channel.
    """
    plan = gather_children(x) if plan is None else plan
    if plan.coords.shape[0] != len(x):
        raise InputError(f"`x` has {len(x)} voxels, but the subdivision leads to {plan.coords.shape[0]}.")
    n, c = plan.parent_coords.shape[0], x.feats.shape[1]
    feats = x.feats.new_zeros(n * 8, c).index_copy(0, plan.parent * 8 + plan.slot, x.feats)
    return SparseTensor(feats.view(n, 8 * c), plan.parent_coords, plan.batch_size, plan.coarse_cache)
