"""Welding, and faces and edges that a surface does not have: degenerate, duplicate, dangling, shared by too many.

Meshes are numpy arrays as in `topology`. Nothing here moves a vertex; what merges or splits vertices returns where each
came from, so that attributes can follow.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..rows import by_rows
from .relax import flip_edges
from .topology import Array, Edges, corners, groups, heads_of

FLAT = 1e-6  # a face whose height is below this part of its longest edge has no area
PASSES = 10
CUT = 2  # the attempt to part an edge that cuts it


def degenerate(vertices: Array, faces: Array) -> Array:
    """[F] bool: faces that name a vertex twice, or whose corners lie on a line or in a point."""
    found = np.empty(len(faces), bool)

    def look(rows: slice) -> None:
        a, b, c = corners(vertices, faces[rows])
        twice = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        longest = np.maximum(np.maximum(*(((x - y) ** 2).sum(1) for x, y in ((a, b), (b, c)))), ((c - a) ** 2).sum(1))
        found[rows] = (twice <= FLAT * longest) | repeated(faces[rows])

    by_rows(len(faces), look)
    return found


def repeated(faces: Array) -> Array:
    """[F] bool: faces that name a vertex twice."""
    return (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0])


def weld(vertices: Array, faces: Array, tolerance: float, edges: Edges | None = None) -> Array:
    """[V] the vertex each becomes: equal places are one vertex, and so are, up to `tolerance`, the ends of an edge and
    vertices on the border. The lowest of them remains.

    Vertices inside the surface that are near each other without an edge between them stay apart: they belong to two
    sides of something thin. Doing it again changes nothing. edges: of `faces`, where they are at hand.
    """
    into = equal_rows(vertices)
    same = bool((into == np.arange(len(into))).all())
    for _ in range(PASSES * 10):
        now = faces if same else into.take(faces)
        now = now if same else now[~repeated(now)]
        first, second = _short_edges(vertices, now, tolerance)
        if not len(first) and tolerance > 0:
            edges = edges if same and edges is not None else Edges.of(now)
            rim = np.unique(np.concatenate([now.reshape(-1)[edges.border], heads_of(now, edges.border)]))
            if len(rim):
                near = cKDTree(vertices[rim]).query_pairs(tolerance, output_type="ndarray")
                first, second = rim[near[:, 0]], rim[near[:, 1]]
        if not len(first):
            break
        into, same = groups(len(vertices), first, second)[into], False
    return into


def _short_edges(vertices: Array, faces: Array, tolerance: float) -> tuple[Array, Array]:
    """The ends of the directed edges not longer than `tolerance`, but of those from a vertex to itself."""
    short = np.empty(faces.shape, bool)

    def look(rows: slice) -> None:
        place = vertices.take(faces[rows], axis=0)
        gap = place - np.roll(place, -1, 1)
        short[rows] = np.einsum("fkc,fkc->fk", gap, gap) <= tolerance**2

    by_rows(len(faces), look)
    short = np.flatnonzero(short)
    first, second = faces.reshape(-1)[short], heads_of(faces, short)
    return first[first != second], second[first != second]


def equal_rows(vertices: Array) -> Array:
    """[V] the lowest of the rows that are the same; rows of any numbers."""
    key = _hash(vertices)
    ordered = np.sort(key)  # far quicker than the order
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(vertices))
    order = np.argsort(key)
    key = key[order]
    near = np.flatnonzero(key[1:] == key[:-1])  # equal keys are nearly always equal rows
    same = np.zeros(len(order), bool)
    same[near + 1] = (vertices[order[near]] == vertices[order[near + 1]]).all(1)
    start = np.flatnonzero(~same)
    lowest = np.minimum.reduceat(order, start) if len(start) else order
    into = np.empty(len(vertices), np.int64)
    into[order] = np.repeat(lowest, np.diff(start, append=len(order)))
    return into


def _hash(rows: Array) -> Array:
    """[N] uint64 from rows of numbers; -0 is 0."""
    key = np.zeros(len(rows), np.uint64)

    def compute(part: slice) -> None:
        bits = (np.ascontiguousarray(rows[part], np.float64) + 0.0).view(np.uint64)
        for k in range(rows.shape[1]):
            key[part] = (key[part] ^ bits[:, k]) * np.uint64(0x9E3779B97F4A7C15)
            key[part] ^= key[part] >> np.uint64(29)

    by_rows(len(rows), compute)
    return key


def duplicates(faces: Array) -> Array:
    """[F] bool: faces on the same three vertices as an earlier one, whatever their winding."""
    return equal_rows(np.sort(faces, 1)) != np.arange(len(faces))


def mend_flat(vertices: Array, faces: Array) -> tuple[Array, Array]:
    """The faces, and which remain [F] bool, without faces that have no area though their corners differ.

    Such a face is turned into its neighbor, so that no gap opens; where that cannot be, the ends of its shortest edge
    become one. Vertices keep their places; some may be left without a face.
    """
    alive = np.arange(len(faces))
    now = faces
    for _ in range(PASSES):
        flat = degenerate(vertices, now)
        if not flat.any():
            good = ~flat
            break
        now, turned = flip_edges(vertices, now, only=flat)
        if not turned:
            bad = now[flat]
            gap = ((vertices[bad] - vertices[np.roll(bad, -1, 1)]) ** 2).sum(-1)
            row, at = np.arange(len(bad)), gap.argmin(1)
            now = groups(len(vertices), bad[row, at], bad[row, (at + 1) % 3])[now]
            rest = ~repeated(now)
            now, alive = now[rest], alive[rest]
    else:
        good = ~degenerate(vertices, now)
    keep = np.zeros(len(faces), bool)
    keep[alive[good]] = True
    result = faces.copy()
    result[alive] = now
    return result, keep


def dangling(faces: Array) -> Array:
    """[F] bool: faces that hang on an edge of two or more others by one edge, with their other two edges free."""
    alive = np.arange(len(faces))
    for _ in range(PASSES):
        edges = Edges.of(faces[alive])
        count = np.empty(3 * len(alive), np.int64)
        count[edges.order] = np.repeat(edges.count, edges.count)
        count = count.reshape(-1, 3)
        loose = ((count == 1).sum(1) == 2) & ((count > 2).sum(1) == 1)
        if not loose.any():
            break
        alive = alive[~loose]
    found = np.ones(len(faces), bool)
    found[alive] = False
    return found


def separate(vertices: Array, faces: Array, edges: Edges | None = None) -> tuple[Array, Array]:
    """The faces with vertices doubled until every edge has at most two faces, wound alike, and every vertex one fan.

    Returns faces and, for the new vertices that follow the old ones, which vertex each is a copy of. Where an even
    number of faces meet at an edge, as many wound one way as the other, those around the same solid stay together, or
    where that leaves the edge as it is those around the same hollow; otherwise the edge is cut.
    """
    edges = edges or Edges.of(faces)
    flat, count = faces.reshape(-1), len(vertices)
    affected = np.zeros(count, bool)
    affected[edges.ends[edges.crowded]] = True
    first, second = edges.pairs
    cut = edges.conflicts
    affected[flat[first[cut]]] = affected[heads_of(faces, first[cut])] = True
    on_border = np.bincount(flat[edges.border], minlength=count)
    on_border += np.bincount(heads_of(faces, edges.border), minlength=count)
    affected |= on_border > 2
    if not affected.any():
        return faces, np.zeros(0, np.int64)
    first, second = first[~cut], second[~cut]
    near = affected[flat[first]] | affected[flat[second]]
    first, second = first[near], second[near]
    corner = np.flatnonzero(affected[flat])
    place = np.full(len(flat), -1, np.int64)
    place[corner] = np.arange(len(corner))
    attempt = np.zeros(len(edges.count), np.int64)
    while True:
        more = _around_crowded(vertices, faces, edges, attempt)
        one, other = np.concatenate([first, more[0]]), np.concatenate([second, more[1]])
        one, other = (np.concatenate([place[one], place[_next(one)]]),
                      np.concatenate([place[_next(other)], place[other]]))  # fmt: skip
        both = (one >= 0) & (other >= 0)
        fan = groups(len(corner), one[both], other[both])
        leader, which = np.unique(fan, return_inverse=True)
        owner = flat[corner[leader]]
        # the first fan of a vertex keeps it
        kept = np.zeros(len(leader), bool)
        kept[np.unique(owner, return_index=True)[1]] = True
        number = np.where(kept, owner, count + np.cumsum(~kept) - 1)
        found = faces.copy()
        found.reshape(-1)[corner] = number[which]
        left = _still_crowded(found, edges) & (attempt < CUT)
        if not left.any():
            return found, owner[~kept]
        attempt[left] += 1


def _still_crowded(faces: Array, edges: Edges) -> Array:
    """[E] bool: those of the crowded edges that have more than two faces in `faces`, whose vertices were doubled."""
    directed = edges.order[np.repeat(edges.crowded, edges.count)]
    ends = np.sort(np.stack([faces.reshape(-1)[directed], heads_of(faces, directed)], 1), 1)
    _, which, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    found = np.zeros(len(edges.count), bool)
    number = np.repeat(np.flatnonzero(edges.crowded), edges.count[edges.crowded])
    found[number[count[which.reshape(-1)] > 2]] = True
    return found


def _next(directed: Array) -> Array:
    """The directed edge that follows in the same face."""
    return directed - directed % 3 + (directed + 1) % 3


def _around_crowded(vertices: Array, faces: Array, edges: Edges, attempt: Array) -> tuple[Array, Array]:
    """Pairs of directed edges, at edges with more than two faces, that bound the same solid; where attempt [E] is 1,
    the same hollow, and none where it is `CUT`."""
    which = np.flatnonzero(edges.crowded & (attempt < CUT))
    size = edges.count[which]
    group = np.repeat(np.arange(len(which)), size)
    inside = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    directed = edges.order[np.repeat(edges.start[which], size) + inside]
    low, high = vertices[edges.ends[which, 0]], vertices[edges.ends[which, 1]]
    axis = (high - low) / np.maximum(np.linalg.norm(high - low, axis=1, keepdims=True), 1e-300)
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin(1)])
    up = np.cross(axis, side)
    reach = vertices[heads_of(faces, _next(directed))] - low[group]
    angle = np.arctan2(*(np.einsum("ec,ec->e", reach, frame[group]) for frame in (up, side)))
    angle = np.where(attempt[which][group] == 1, -angle, angle)
    ahead = faces.reshape(-1)[directed] == edges.ends[which, 0][group]
    order = np.lexsort((ahead, angle, group))
    fits = (2 * np.bincount(group, ahead, len(which)) == size)[group]
    directed, ahead, group = (one[order][fits] for one in (directed, ahead, group))
    # A face that runs ahead looks toward larger angles, so its solid is on the side of the face before it. Where that
    # one looks the same way, those between are paired first, as brackets are.
    first, second = [directed[:0]], [directed[:0]]
    while len(group):
        before = np.arange(len(group)) - 1
        start = np.flatnonzero(np.diff(group, prepend=-1))
        before[start] = np.append(start[1:], len(group)) - 1
        take = np.flatnonzero(ahead & ~ahead[before])
        if not len(take):
            break
        first.append(directed[take])
        second.append(directed[before[take]])
        rest = np.ones(len(group), bool)
        rest[take] = rest[before[take]] = False
        directed, ahead, group = directed[rest], ahead[rest], group[rest]
    return np.concatenate(first), np.concatenate(second)
