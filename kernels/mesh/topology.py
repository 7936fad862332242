"""Edges, neighbors, components and borders of triangle meshes.

Meshes are numpy arrays here: vertices [V, 3] float64, faces [F, 3] int64. Corner 3 f + k of the faces also names the
directed edge from `faces[f, k]` to `faces[f, (k + 1) % 3]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..rows import by_rows

Array = np.ndarray


def heads(faces: Array) -> Array:
    """The vertex every directed edge leads to, [3 F]."""
    return np.roll(faces, -1, 1).reshape(-1)


def heads_of(faces: Array, directed: Array) -> Array:
    """The vertices that some directed edges lead to."""
    return faces[directed // 3, (directed + 1) % 3]


@dataclass(frozen=True)
class Edges:
    """The undirected edges of a mesh.

    order: [3 F] directed edges, those of the same edge next to each other; start: [E] where each edge begins in it;
    count: [E] faces at each edge; ends: [E, 2] vertices, the lower first.
    """

    faces: Array
    order: Array
    start: Array
    count: Array
    ends: Array

    @classmethod
    def of(cls, faces: Array) -> Edges:
        """Sort the directed edges of `faces`."""
        bits = int(faces.max(initial=0)).bit_length()
        key = np.empty((len(faces), 3), np.int64)

        def name(rows: slice) -> None:
            tail, head = faces[rows], np.roll(faces[rows], -1, 1)
            low = np.minimum(tail, head)
            key[rows] = (low << bits) + (tail + head - low)

        by_rows(len(faces), name)
        key = key.reshape(-1)
        order = np.argsort(key)
        key = key.take(order)
        start = np.flatnonzero(np.concatenate([np.ones(min(len(key), 1), bool), key[1:] != key[:-1]]))
        count = np.diff(start, append=len(key))
        first = key.take(start)
        return cls(faces, order, start, count, np.stack([first >> bits, first & ((1 << bits) - 1)], 1))

    @cached_property
    def pairs(self) -> tuple[Array, Array]:
        """The two directed edges of every edge with two faces, [M] each."""
        two = self.start[self.count == 2]
        return self.order[two], self.order[two + 1]

    @cached_property
    def conflicts(self) -> Array:
        """[M] bool for `pairs`: both faces run along the edge in the same direction, so one of them is flipped."""
        tail = self.faces.reshape(-1)
        return tail[self.pairs[0]] == tail[self.pairs[1]]

    @cached_property
    def border(self) -> Array:
        """The directed edges that have no second face."""
        return self.order[self.start[self.count == 1]]

    @cached_property
    def components(self) -> tuple[int, Array]:
        """How many sets of faces hang together by edges with two faces, and the set of each face [F]."""
        first, second = (one // 3 for one in self.pairs)
        return _components(len(self.faces), first, second)

    @cached_property
    def crowded(self) -> Array:
        """[E] bool: edges with more than two faces."""
        return self.count > 2


def face_components(edges: Edges) -> tuple[int, Array]:
    """`edges.components`."""
    return edges.components


def _components(count: int, first: Array, second: Array) -> tuple[int, Array]:
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    number, label = connected_components(graph, directed=False)
    return int(number), label.astype(np.int64)


def groups(count: int, first: Array, second: Array) -> Array:
    """[count] int64: the lowest of all that `first[i]` - `second[i]` link together."""
    number, label = _components(count, first, second)
    lowest = np.empty(number, np.int64)
    lowest[label[::-1]] = np.arange(count)[::-1]  # the last one written is the lowest
    return lowest[label]


def corners(vertices: Array, faces: Array) -> tuple[Array, Array, Array]:
    """The places [F, 3] of the first, second and third corners; `take` picks rows many times as fast as an index."""
    return tuple(vertices.take(faces[:, k], axis=0) for k in range(3))


def cross(vertices: Array, faces: Array) -> Array:
    """[F, 3] normals as long as twice the area."""
    out = np.empty(faces.shape, vertices.dtype)

    def compute(rows: slice) -> None:
        a, b, c = corners(vertices, faces[rows])
        out[rows] = np.cross(b - a, c - a)

    by_rows(len(faces), compute)
    return out


def areas(vertices: Array, faces: Array) -> Array:
    """[F] areas."""
    out = np.empty(len(faces), vertices.dtype)

    def compute(rows: slice) -> None:
        a, b, c = corners(vertices, faces[rows])
        out[rows] = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    by_rows(len(faces), compute)
    return out


def volumes(vertices: Array, faces: Array, label: Array, number: int) -> Array:
    """[number] signed volume of each component, about the middle of its corners; positive if wound outward."""
    middle, above = np.empty(faces.shape), np.empty(len(faces))

    def find_middle(rows: slice) -> None:
        middle[rows] = vertices.take(faces[rows], axis=0).mean(1)

    def find_above(rows: slice) -> None:
        a, b, c = (corner - center.take(label[rows], axis=0) for corner in corners(vertices, faces[rows]))
        above[rows] = np.einsum("fc,fc->f", a, np.cross(b, c))

    by_rows(len(faces), find_middle)
    size = np.maximum(np.bincount(label, minlength=number), 1)[:, None]
    center = np.stack([np.bincount(label, middle[:, k], number) for k in range(3)], 1) / size
    by_rows(len(faces), find_above)
    return np.bincount(label, above, number) / 6


def used(vertices: Array, faces: Array) -> tuple[Array, Array]:
    """The faces renumbered to the vertices they use, and the indices of these."""
    keep = np.zeros(len(vertices), bool)
    keep[faces.reshape(-1)] = True
    if keep.all():
        return faces, np.arange(len(vertices))
    number = np.cumsum(keep) - 1
    return number.take(faces), np.flatnonzero(keep)


@dataclass(frozen=True)
class Counts:
    """What a mesh is made of. Vertices are those that faces use; components hang together by edges."""

    faces: int
    vertices: int
    border_edges: int
    crowded_edges: int
    conflicting_edges: int
    components: int
    euler: int

    @classmethod
    def of(cls, faces: Array, edges: Edges | None = None) -> Counts:
        """Count them; edges: of the same faces, where they are at hand."""
        edges = edges or Edges.of(faces)
        seen = np.zeros(int(faces.max(initial=-1)) + 1, bool)
        seen[faces.reshape(-1)] = True
        vertices = int(seen.sum())
        return cls(
            len(faces), vertices, len(edges.border), int(edges.crowded.sum()), int(edges.conflicts.sum()),
            face_components(edges)[0] if len(faces) else 0, vertices - len(edges.count) + len(faces),
        )  # fmt: skip
