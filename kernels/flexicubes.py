"""FlexiCubes: a triangle mesh from signed distances on a grid, with weights that move its vertices.

Dual marching cubes: every patch of surface inside a cube gives one vertex, every crossed grid edge one quad between the
four cubes around it. Only the cubes the surface goes through are looked at. Source: Shen et al. 2023, FlexiCubes
(the variant of TRELLIS that carries colors); Nielson 2004 and Wenger 2013 for the cases.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..scene.errors import InputError

CORNERS = [(i & 1, i >> 1 & 1, i >> 2) for i in range(8)]
EDGES = [(0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4)]
WEIGHT_SCALE = 0.99


@lru_cache(maxsize=1)
def case_tables() -> tuple[Tensor, Tensor, Tensor]:
    """The surface patches of the 256 ways to have cube corners inside.

    patches: [256, 4, 7] int64, the crossed edges of every patch, -1 behind; count: [256] patches; turn: [256, 3], for a
    case that is ambiguous on one face and whose complement has two patches, the direction of that face, else 0.
    Two crossings on a face belong to one patch; where a face has four, those around the same inside corner do.
    """
    faces = [[i for i, c in enumerate(CORNERS) if c[axis] == side] for axis in range(3) for side in (0, 1)]
    found = [_patches(case, faces) for case in range(256)]
    patches = torch.full((256, 4, 7), -1)
    turn = torch.zeros(256, 3, dtype=torch.long)
    for case, (groups, ambiguous) in enumerate(found):
        for row, group in enumerate(groups):
            patches[case, row, : len(group)] = torch.tensor(group)
        if len(ambiguous) == 1 and len(groups) == 1 and len(found[255 - case][0]) == 2:
            turn[case, ambiguous[0] // 2] = 2 * (ambiguous[0] % 2) - 1
    return patches, torch.tensor([len(groups) for groups, _ in found]), turn


def _patches(case: int, faces: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    inside = [case >> i & 1 for i in range(8)]
    crossed = [e for e, (a, b) in enumerate(EDGES) if inside[a] != inside[b]]
    group = {e: e for e in crossed}
    ambiguous = []

    def join(first: int, second: int) -> None:
        old, new = group[second], group[first]
        group.update({e: new for e in crossed if group[e] == old})

    for index, face in enumerate(faces):
        on_face = [e for e in crossed if EDGES[e][0] in face and EDGES[e][1] in face]
        if len(on_face) == 2:
            join(*on_face)
        elif len(on_face) == 4:
            ambiguous.append(index)
            for corner in face:
                if inside[corner]:
                    join(*[e for e in on_face if corner in EDGES[e]])
    groups = [[e for e in crossed if group[e] == name] for name in sorted(set(group.values()))]
    few = 1 if sum(inside) <= 4 else 0  # patches are listed by the first corner on the smaller side that they touch
    groups.sort(key=lambda patch: min(c for e in patch for c in EDGES[e] if inside[c] == few))
    return groups, ambiguous


def _zero_crossing(values: Tensor, at: Tensor) -> Tensor:
    """Where linear `values` [E, 2, 1] vanish between the two ends `at` [E, 2, C]: [E, C]."""
    weight = torch.cat([values[:, 1:2], -values[:, 0:1]], 1)
    return (at * weight).sum(1) / weight.sum(1)


def extract_mesh(
    positions: Tensor,
    sdf: Tensor,
    cubes: Tensor,
    cells: Tensor,
    *,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    gamma: Tensor | None = None,
    attributes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Vertices [V, 3], faces [F, 3] int64 wound toward positive distances, and attributes [V, A] or None.

    positions: [G, 3] of the grid points, rows in ascending (x, y, z); sdf: [G], negative inside; cubes: [M, 8] rows of
    their corners in the order of `CORNERS`; cells: [M, 3] integer place of every cube, ascending in (x, y, z), each
    once, all cubes with corners on both sides among them. beta [M, 12], alpha [M, 8], gamma [M]: raw weights of edges,
    corners and quads (default: neutral). attributes: [G, A], read like the positions. Frame and units: those of
    `positions`. Raises InputError for shapes that do not fit.
    """
    if cubes.shape != (cells.shape[0], 8) or sdf.shape != positions.shape[:1]:
        raise InputError(f"{list(cubes.shape)} cubes on {list(cells.shape)} cells do not fit; [M, 8] and [M, 3] would.")
    device = positions.device
    patches, patch_count, turn = (table.to(device) for table in case_tables())
    occupied = (sdf < 0)[cubes]
    total = occupied.sum(1)
    surface = (total > 0) & (total < 8)
    cubes, cells, occupied = cubes[surface], cells[surface], occupied[surface]
    if len(cubes) == 0:
        empty = None if attributes is None else attributes.new_zeros(0, attributes.shape[1])
        return positions.new_zeros(0, 3), torch.zeros(0, 3, dtype=torch.long, device=device), empty

    def weights(raw: Tensor | None, width: int) -> Tensor:
        return positions.new_ones(len(cubes), width) if raw is None else torch.tanh(raw[surface]) * WEIGHT_SCALE + 1

    beta, alpha = weights(beta, 12), weights(alpha, 8)
    if gamma is None:
        gamma = positions.new_ones(len(cubes))
    else:
        gamma = torch.sigmoid(gamma[surface]) * WEIGHT_SCALE + (1 - WEIGHT_SCALE) / 2

    case = _cases(occupied, cells, turn)
    ends = cubes[:, torch.tensor(EDGES, device=device).flatten()].view(-1, 2)
    unique, which, uses = torch.unique(
        ends[:, 0] * len(positions) + ends[:, 1], return_inverse=True, return_counts=True
    )
    unique = torch.stack([unique // len(positions), unique % len(positions)], 1)
    crossed = (sdf[unique] < 0).sum(1) == 1
    number = torch.full((len(unique),), -1, device=device)
    number[crossed] = torch.arange(int(crossed.sum()), device=device)
    edges, edge_of = unique[crossed], number[which].view(-1, 12)

    vertices, colors, vertex_gamma, vertex_of = _vertices(
        positions, sdf, edges, edge_of, case, patches, patch_count, beta, alpha, gamma, attributes
    )
    ring = (uses[which] == 4) & crossed[which]  # crossed edges inside the grid, seen from each of their four cubes
    quads_edge, order = torch.sort(edge_of.flatten()[ring], stable=True)
    quads = vertex_of[ring][order].view(-1, 4)
    flip = sdf[edges[quads_edge.view(-1, 4)[:, 0]][:, 0]] > 0
    quads = torch.cat([quads[flip][:, [0, 1, 3, 2]], quads[~flip][:, [2, 3, 1, 0]]])
    weight = vertex_gamma[quads]
    first = (weight[:, 0] * weight[:, 2] > weight[:, 1] * weight[:, 3])[:, None]
    faces = torch.where(first, quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 3, 1, 2]]).view(-1, 3)
    return vertices, faces, colors


def _cases(occupied: Tensor, cells: Tensor, turn: Tensor) -> Tensor:
    """Case of every cube; two cubes ambiguous on the face between them take the complement."""
    case = (occupied * (2 ** torch.arange(8, device=occupied.device))).sum(1)
    direction = turn[case]
    asking = torch.nonzero(direction.abs().sum(1)).squeeze(1)
    if asking.numel() == 0:
        return case
    size = int(cells.max()) + 3
    keys = ((cells[:, 0] + 1) * size + cells[:, 1] + 1) * size + cells[:, 2] + 1
    other = cells[asking] + direction[asking]
    wanted = ((other[:, 0] + 1) * size + other[:, 1] + 1) * size + other[:, 2] + 1
    ordered, order = torch.sort(keys)
    place = torch.searchsorted(ordered, wanted).clamp(max=len(keys) - 1)
    found = ordered[place] == wanted
    both = found & (direction[order[place]].abs().sum(1) > 0)
    changed = case.clone()
    changed[asking[both]] = 255 - case[asking[both]]
    return changed


def _vertices(positions, sdf, edges, edge_of, case, patches, patch_count, beta, alpha, gamma, attributes):
    """One vertex per patch, cubes with one patch first: the weighted mean of the patch's zero crossings."""
    device, count = positions.device, patch_count[case]
    vertex_rows, cube_rows, edge_rows, vertex_gamma, total = [], [], [], [], 0
    for n in torch.unique(count).tolist():
        chosen = torch.nonzero(count == n).squeeze(1)
        group = patches[case[chosen], :n]  # [cubes, n, 7]
        number = torch.arange(len(chosen) * n, device=device).view(-1, n, 1) + total
        used = group >= 0
        vertex_rows.append(number.expand_as(group)[used])
        cube_rows.append(chosen[:, None, None].expand_as(group)[used])
        edge_rows.append(group[used])
        vertex_gamma.append(gamma[chosen].repeat_interleave(n))
        total += len(chosen) * n
    vertex, cube, edge = torch.cat(vertex_rows), torch.cat(cube_rows), torch.cat(edge_rows)
    ends = edges[edge_of[cube, edge]]  # [P, 2]
    corners = torch.tensor(EDGES, device=device)[edge]
    values = (sdf[ends] * alpha[cube].gather(1, corners))[..., None]
    weight = beta[cube, edge][:, None]
    share = positions.new_zeros(total, 1).index_add_(0, vertex, weight)

    def mean(of: Tensor) -> Tensor:
        crossing = _zero_crossing(values, of[ends])
        return of.new_zeros(total, of.shape[1]).index_add_(0, vertex, crossing * weight) / share

    vertex_of = torch.zeros(len(case), 12, dtype=torch.long, device=device)
    vertex_of[cube, edge] = vertex
    colors = None if attributes is None else mean(attributes)
    return mean(positions), colors, torch.cat(vertex_gamma), vertex_of.flatten()
