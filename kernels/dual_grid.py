"""The flexible dual grid as a mesh: one vertex in every voxel, one quad around every crossed grid edge.

The flag `intersected[n, axis]` of voxel (i, j, k) says that the surface crosses the grid edge along `axis` that ends in
the voxel's upper corner (i, j, k) + 1; the four voxels around that edge give the quad. Flags carry no sign, so the
released code leaves every quad wound the same way along its axis; here quads are oriented afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import AXIS_STEPS, BITS, pack_coords

UNIT_CUBE = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
# corners of the quad around a crossed edge, as the steps of the voxels around it; its normal points along -axis
QUADS = (((0, 0, 1), (0, 1, 1), (0, 1, 0)), ((1, 0, 0), (1, 0, 1), (0, 0, 1)), ((0, 1, 0), (1, 1, 0), (1, 0, 0)))


@dataclass(frozen=True)
class GridMesh:
    """vertices: [N, 3] float32, one per voxel in row order, also where no face uses it (so that voxel attributes are
    vertex attributes); faces: [F, 3] int32."""

    vertices: Tensor
    faces: Tensor


def grid_to_mesh(
    coords: Tensor,
    dual: Tensor,
    intersected: Tensor,
    split_weight: Tensor | None,
    resolution: int | Sequence[int],
    *,
    aabb: Sequence[Sequence[float]] = UNIT_CUBE,
    as_released: bool = False,
) -> GridMesh:
    """The mesh of one item's dual grid.

    coords: [N, 3] int32, each once. dual: [N, 3] vertex of each voxel relative to its lower corner, in voxel units
    (slightly outside of [0, 1] is allowed). intersected: [N, 3] bool. split_weight: [N] or [N, 1], which diagonal
    splits a quad; None compares the angle between the two triangles' normals. resolution: voxels of the aabb.
    Quads with an absent voxel are dropped.
    as_released: windings as the quads come, and, without split weights, always the same diagonal, which is what the
    released comparison amounts to. Otherwise windings are consistent over every component and face outwards (see
    `orient_quads`). Raises InputError for shapes that do not fit and unusable coordinates.
    Source: TRELLIS.2, flexible dual grid.
    """
    _check_grid(coords, dual, intersected, split_weight, resolution)
    low, high = (torch.tensor(corner, dtype=torch.float32, device=coords.device) for corner in aabb)
    sizes = [resolution] * 3 if isinstance(resolution, int) else list(resolution)
    size = (high - low) / torch.tensor(sizes, dtype=torch.int32, device=coords.device)
    vertices = (coords.float() + dual.float()) * size + low
    quads, owner, axis = find_quads(coords, intersected)
    first = _first_diagonal(quads, vertices, split_weight, as_released)
    if not as_released:
        turned = orient_quads(quads, coords[owner], axis, vertices)
        quads = torch.where(turned[:, None], quads[:, [0, 3, 2, 1]], quads)
    split = quads.new_tensor([[0, 1, 2, 0, 2, 3], [0, 1, 3, 3, 1, 2]])[(~first).long()]
    faces = quads.gather(1, split).view(-1, 3)
    return GridMesh(vertices, faces.to(torch.int32))


def grid_to_fans(
    coords: Tensor,
    dual: Tensor,
    intersected: Tensor,
    split_weight: Tensor,
    resolution: int,
    aabb: Sequence[Sequence[float]] = UNIT_CUBE,
) -> GridMesh:
    """The mesh as it is trained: every quad gets a fifth vertex between its diagonals and four triangles.

    Arguments as `grid_to_mesh`; differentiable with respect to dual and split_weight. The fifth vertex is the mean of
    the two diagonals' middles, weighted by the products of the split weights at their ends. Source: TRELLIS.2.
    """
    _check_grid(coords, dual, intersected, split_weight, resolution)
    low, high = (torch.tensor(corner, dtype=torch.float32, device=coords.device) for corner in aabb)
    vertices = (coords.float() + dual) * ((high - low) / resolution) + low
    quads, _, _ = find_quads(coords, intersected)
    corners, weight = vertices[quads], split_weight.reshape(-1, 1)[quads]
    w02, w13 = weight[:, 0] * weight[:, 2], weight[:, 1] * weight[:, 3]
    middle = (w02 * (corners[:, 0] + corners[:, 2]) + w13 * (corners[:, 1] + corners[:, 3])) / 2 / (w02 + w13)
    center = len(vertices) + torch.arange(len(quads), device=quads.device)
    fan = torch.cat([quads, center[:, None]], 1)[:, [0, 1, 4, 1, 2, 4, 2, 3, 4, 3, 0, 4]]
    return GridMesh(torch.cat([vertices, middle]), fan.view(-1, 3).to(torch.int32))


def find_quads(coords: Tensor, intersected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The complete quads: voxel rows [Q, 4], the flagged voxel's row [Q] and its axis [Q], all int64.

    In row order, x before y before z. coords: [N, 3] int32; intersected: [N, 3] bool.
    Raises InputError for a voxel given twice.
    """
    keys = pack_coords(torch.nn.functional.pad(coords, (1, 0)))
    order = None
    ahead = keys[1:] > keys[:-1]
    if not bool(ahead.all()):
        keys, order = torch.sort(keys)
        intersected = intersected.index_select(0, order)
        if bool((keys[1:] == keys[:-1]).any()):
            raise InputError("`coords` lists a voxel twice; each may appear once.")
    keys = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    found = []
    for axis, steps in enumerate(QUADS):
        places = {(0, 0, 0): torch.nonzero(intersected[:, axis]).squeeze(1)}
        for step in sorted(steps):
            owner, below = places[0, 0, 0], places.get((*step[:2], 0))
            wanted = keys.index_select(0, owner) + sum(d * stride for d, stride in zip(step, AXIS_STEPS))
            at = torch.searchsorted(keys, wanted) if step[2] == 0 else below + 1  # z neighbors follow one another
            present = keys.index_select(0, at) == wanted
            places[step] = at
            if not bool(present.all()):
                kept = torch.nonzero(present).squeeze(1)
                places = {name: rows.index_select(0, kept) for name, rows in places.items()}
        found.append(torch.stack([places[step] for step in ((0, 0, 0), *steps)], 1))
    quads = torch.cat(found)
    axis = torch.repeat_interleave(torch.arange(3, device=keys.device), quads.new_tensor([len(part) for part in found]))
    if order is not None:
        quads = order.index_select(0, quads.flatten()).view(-1, 4)
    rank = torch.argsort(quads[:, 0] * 3 + axis)
    quads, axis = quads.index_select(0, rank), axis.index_select(0, rank)
    return quads, quads[:, 0], axis


def orient_quads(quads: Tensor, owner_coords: Tensor, axis: Tensor, vertices: Tensor) -> Tensor:
    """[Q] bool, the quads to turn over so that windings agree across shared edges and face outwards.

    quads: [Q, 4] rows; owner_coords: [Q, 3] of the flagged voxels; axis: [Q]; vertices: [N, 3].
    A point of a grid line is outside if an even number of crossed edges lies beyond it: on lines with an even number
    of crossings in all, this orients every quad. Two quads that share an edge (and share it with no other) must run
    along it in opposite directions; where the crossings leave that unfulfilled, this rule binds each component of the
    surface together, and the majority of its crossings, or else its middle, says which side is outside. One-sided
    components keep the windings they come with.
    """
    if not len(quads):
        return torch.zeros(0, dtype=torch.bool, device=quads.device)
    vote = _outward_votes(owner_coords, axis)  # +1: +axis is outside, but quads come facing -axis
    number, forward = _quad_edges(quads, axis)
    shared = torch.bincount(number.flatten(), minlength=3 * len(vertices)) == 2
    turned = vote > 0
    if bool((vote != 0).all()):
        runs = torch.where(forward ^ turned[:, None], 1, -1).to(torch.int8)
        total = torch.zeros(len(shared), dtype=torch.int8, device=quads.device)
        total.index_add_(0, number.flatten(), runs.flatten())
        if not bool((shared & (total != 0)).any()):
            return turned
    first, second, agree = _shared_edges(number, forward, shared)
    component, flipped, two_sided = _components(len(quads), first, second, agree)
    sign = torch.where(flipped, -1, 1)
    count = len(two_sided)
    votes = torch.zeros(count, dtype=torch.int64).index_add(0, component, vote.cpu() * sign)
    corners = vertices[quads].cpu().double()
    center, normal = corners.mean(1), torch.linalg.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    middle = torch.zeros(count, 3, dtype=torch.float64).index_add(0, component, center)
    middle = middle / torch.bincount(component)[:, None]
    away = ((center - middle[component]) * normal).sum(1) * sign
    volume = torch.zeros(count, dtype=torch.float64).index_add(0, component, away)
    turn_component = torch.where(votes == 0, volume < 0, votes > 0)
    return ((turn_component[component] ^ flipped) & two_sided[component]).to(quads.device)


def _quad_edges(quads: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """The edges of each quad by number [Q, 4], and whether it runs along them from the lower voxel to the upper.

    An edge joins voxels that are neighbors along some axis, so it has the number 3 * (row of the lower one) + axis:
    counting tells which quads share one, without sorting.
    """
    first, second = (axis + 2) % 3, (axis + 1) % 3  # the axes of a quad's first and second edge, see QUADS
    row = quads * 3
    number = torch.stack([row[:, 0] + first, row[:, 1] + second, row[:, 3] + first, row[:, 0] + second], 1)
    return number, quads.new_tensor([True, True, False, False], dtype=torch.bool).expand(len(quads), 4)


def _shared_edges(number: Tensor, forward: Tensor, shared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of quads [E], [E] that alone share an edge, and whether their windings agree there [E].

    number, forward: as `_quad_edges` gives; shared: bool, which numbers belong to two quads.
    """
    at = torch.nonzero(shared[number.flatten()]).squeeze(1)
    pairs = torch.argsort(number.flatten().index_select(0, at), stable=True)
    first, second = at.index_select(0, pairs).view(-1, 2).unbind(1)
    forward = forward.flatten()
    return first // 4, second // 4, forward[first] != forward[second]


def _components(count: int, first: Tensor, second: Tensor, agree: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Component [Q] of every quad, whether it must be turned to agree with its component's reference [Q], and which
    components [M] can agree at all.

    Every quad stands in a graph twice, as it is and turned over; quads that agree as they are connect like to like,
    others cross-wise. A component of the surface then appears as two mirrored components of the graph, or, where it is
    one-sided, as one. On the CPU, where the graph is searched.
    """
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b, cross = first.cpu().numpy(), second.cpu().numpy(), ~agree.cpu().numpy()
    rows = np.concatenate([a, a + count]).astype(np.int32)
    columns = np.concatenate([b + count * cross, b + count * ~cross]).astype(np.int32)
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(2 * count, 2 * count))
    label = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    plain, mirrored = label[:count], label[count:]
    name, component = torch.unique(torch.minimum(plain, mirrored), return_inverse=True)
    two_sided = torch.ones(len(name), dtype=torch.bool)
    two_sided[component[plain == mirrored]] = False
    return component, plain > mirrored, two_sided


def _outward_votes(coords: Tensor, axis: Tensor) -> Tensor:
    """[Q] int64: +1 if outside lies beyond each crossed edge along +axis, -1 if before it, 0 if the line is unclear."""
    axes = torch.stack([axis, (axis + 1) % 3, (axis + 2) % 3], 1)
    place, u, v = coords.long().gather(1, axes).unbind(1)
    key, order = torch.sort(pack_coords(torch.stack([axis, u, v, place], 1)))  # line by line, each from below
    _, line, length = torch.unique_consecutive(key >> BITS, return_inverse=True, return_counts=True)
    rank = torch.arange(len(key), device=key.device) - (length.cumsum(0) - length)[line]
    closed = length[line] % 2 == 0  # otherwise the two ends of the line disagree
    vote = torch.empty_like(key)
    vote[order] = torch.where(closed, rank % 2 * 2 - 1, 0)
    return vote


def _first_diagonal(quads: Tensor, vertices: Tensor, weight: Tensor | None, as_released: bool) -> Tensor:
    """[Q] bool, whether the quad is split along its corners 0 and 2 rather than 1 and 3."""
    if weight is not None:
        w = weight.reshape(-1)[quads]
        return w[:, 0] * w[:, 2] > w[:, 1] * w[:, 3]
    a, b, c, d = vertices[quads].unbind(1)
    if as_released:
        return torch.linalg.cross(b - a, c - a).square().sum(1) > 0

    def agreement(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        normals = (torch.nn.functional.normalize(torch.linalg.cross(*edges), dim=1) for edges in (first, second))
        return torch.stack(tuple(normals)).prod(0).sum(1)

    return agreement((b - a, c - a), (c - a, d - a)) >= agreement((b - a, d - a), (c - b, d - b))


def _check_grid(
    coords: Tensor, dual: Tensor, intersected: Tensor, weight: Tensor | None, resolution: int | Sequence[int]
) -> None:
    n = coords.shape[0]
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise InputError(f"`coords` has shape {list(coords.shape)}; a dual grid needs [N, 3].")
    if dual.shape != (n, 3) or intersected.shape != (n, 3) or intersected.dtype != torch.bool:
        raise InputError(
            f"`dual` is {list(dual.shape)} and `intersected` {intersected.dtype} {list(intersected.shape)}; {n} voxels "
            f"need [{n}, 3] each, the flags bool."
        )
    if weight is not None and weight.shape not in ((n,), (n, 1)):
        raise InputError(f"`split_weight` has shape {list(weight.shape)}; {n} voxels need [{n}] or [{n}, 1].")
    if not n:
        raise InputError("`coords` has no voxel; at least one is needed.")
    top = (resolution if isinstance(resolution, int) else max(resolution)) - 1
    low, high = int(coords.min()), int(coords.max())
    if low < 0 or high > top:
        raise InputError(f"`coords` spans {low}..{high}; this grid has voxels 0..{top} on each axis.")
