"""Better triangles on the same surface: edge flips and vertices that slide in their tangent plane.

Meshes are numpy arrays as in `topology`. Every step works on all edges or vertices at once; sharp edges, borders and
edges with more than two faces stay where they are.
"""

from __future__ import annotations

import numpy as np

from ..rows import by_rows
from .topology import Array, Edges, cross, heads_of

SHARP = 0.75  # cosine of the angle between the normals of two faces whose edge is kept in any case
CREASE = 5.0, 10.0  # degrees from which an edge is kept that is so many times sharper than those around it
GAIN = 0.02  # by how much the largest cosine of an angle must fall for a flip
TURN = 0.5  # cosine between the normals of a face before and after a vertex moved


def worst_cosine(vertices: Array, faces: Array) -> Array:
    """[F] cosine of the smallest angle of each face, 1 without area: the lower, the better."""
    out = np.empty(len(faces))

    def compute(rows: slice) -> None:
        place = vertices.take(faces[rows], axis=0)
        edge = np.roll(place, -1, 1) - place
        out[rows] = _worst(*np.einsum("fkc,fkc->kf", edge, edge))

    by_rows(len(faces), compute)
    return out


def flip_edges(
    vertices: Array, faces: Array, kept: Array | None = None, only: Array | None = None
) -> tuple[Array, int]:
    """Turn edges where that makes the worst angle of their two faces larger; the new faces and the number of flips.

    An edge is left alone where its faces form a ridge, differ in winding, or where the turned edge exists already.
    kept: [V] bool; edges between two kept vertices are left alone. only: [F] bool, faces without area: just their edges
    are turned, and their normals, which mean nothing, not asked. Each face takes part in one flip at most, the best.
    """
    edges = Edges.of(faces)
    first, second = edges.pairs
    good = ~edges.conflicts if only is not None else ~creases(vertices, faces, edges)
    first, second = first[good], second[good]
    f, g = first // 3, second // 3
    a, b = faces.reshape(-1)[first], heads_of(faces, first)
    c, d = faces[f, (first + 2) % 3], faces[g, (second + 2) % 3]
    if kept is not None:
        free = ~(kept[a] & kept[b])
        first, second, f, g, a, b, c, d = (one[free] for one in (first, second, f, g, a, b, c, d))
    if only is not None:
        flat = only[f] | only[g]
        first, second, f, g, a, b, c, d = (one[flat] for one in (first, second, f, g, a, b, c, d))
    quality = worst_cosine(vertices, faces)
    before = np.maximum(quality[f], quality[g])
    after = _pair_cosine(vertices, a, b, c, d)
    chosen = np.flatnonzero((after < before - GAIN) & (c != d))
    first, second, f, g, a, b, c, d = (one[chosen] for one in (first, second, f, g, a, b, c, d))
    gain = before[chosen] - after[chosen]
    old, new = ([_unit(cross(vertices, np.stack(one, 1))) for one in two]
                for two in (((a, b, c), (b, a, d)), ((c, a, d), (d, b, c))))  # fmt: skip
    flat = np.einsum("ec,ec->e", *old) > SHARP
    if only is not None:
        flat |= only[f] | only[g]
        old = [np.where(only[one, None], 0.0, normal) for one, normal in zip((f, g), old)]
    mean = old[0] + old[1]
    flat &= np.minimum(*(np.einsum("ec,ec->e", one, mean) for one in new)) > 0.5
    flat &= np.einsum("ec,ec->e", *new) > SHARP
    base = len(vertices)
    key = np.minimum(c, d) * base + np.maximum(c, d)
    known = edges.ends[:, 0] * base + edges.ends[:, 1]
    at = np.minimum(np.searchsorted(known, key), len(known) - 1)
    flat &= known[at] != key
    # the best flip of each face, and only if it is that of both; equal gains are told apart by their place
    rank = np.empty(len(gain))
    rank[np.argsort(gain, kind="stable")] = np.arange(1, len(gain) + 1)
    rank[~flat] = 0
    best = np.zeros(len(faces))
    np.maximum.at(best, f, rank)
    np.maximum.at(best, g, rank)
    take = np.flatnonzero(flat & (best[f] == rank) & (best[g] == rank))
    take = take[np.unique(key[take], return_index=True)[1]]
    faces = faces.copy()
    faces[f[take]] = np.stack([c[take], a[take], d[take]], 1)
    faces[g[take]] = np.stack([d[take], b[take], c[take]], 1)
    return faces, len(take)


def _pair_cosine(vertices: Array, *ends: Array) -> Array:
    """The larger `worst_cosine` of the faces c, a, d and d, b, c, for corners a, b, c, d [E] each."""
    out = np.empty(len(ends[0]))

    def square(p: Array, q: Array) -> Array:
        return np.einsum("ec,ec->e", p - q, p - q)

    def compute(rows: slice) -> None:
        a, b, c, d = (vertices.take(one[rows], axis=0) for one in ends)
        shared = square(c, d)
        out[rows] = np.maximum(_worst(shared, square(a, c), square(a, d)), _worst(shared, square(b, c), square(b, d)))

    by_rows(len(out), compute)
    return out


def _worst(x: Array, y: Array, z: Array) -> Array:
    """`worst_cosine` from the squared lengths of three edges: the law of cosines, opposite to the shortest edge."""
    low, high = np.minimum(np.minimum(x, y), z), np.maximum(np.maximum(x, y), z)
    middle = x + y + z - low - high
    product = np.sqrt(middle * high)
    return np.where(product > 0, (middle + high - low) / np.maximum(2 * product, 1e-300), 1.0)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)


def creases(vertices: Array, faces: Array, edges: Edges) -> Array:
    """[M] bool for `edges.pairs`: edges that are a feature of the shape.

    Either sharp, or sharp against what is around: between flat faces even a slight bend is meant, on a round surface
    all edges bend alike.
    """
    first, second = edges.pairs
    normal = _unit(cross(vertices, faces))
    cosine = np.einsum("ec,ec->e", normal[first // 3], normal[second // 3])
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    bend = np.full(3 * len(faces), np.inf)
    bend[first] = bend[second] = angle
    bend = bend.reshape(-1, 3)
    others = np.minimum(np.roll(bend, -1, 1), np.roll(bend, 1, 1)).reshape(-1)
    around = np.maximum(others[first], others[second])
    return edges.conflicts | (cosine < SHARP) | ((angle > CREASE[0]) & (angle > CREASE[1] * around))


def locked_vertices(vertices: Array, faces: Array, edges: Edges | None = None) -> Array:
    """[V] bool: vertices on borders, on edges with more than two faces or with conflicting windings, and on ridges."""
    edges = edges or Edges.of(faces)
    locked = np.zeros(len(vertices), bool)
    locked[edges.ends[edges.count != 2]] = True
    sharp = creases(vertices, faces, edges)
    first = edges.pairs[0]
    locked[faces.reshape(-1)[first[sharp]]] = True
    locked[heads_of(faces, first[sharp])] = True
    return locked


def slide(vertices: Array, faces: Array, locked: Array, strength: float = 1.0) -> Array:
    """New places [V, 3] of vertices moved toward the middle of the faces around them, within their tangent plane.

    Where a face would turn over or get a worse shape than the worst around, its vertices stay.
    """
    normal = cross(vertices, faces)
    area = np.linalg.norm(normal, axis=1)
    weight = np.sqrt(area)  # between equal areas (1) and equal lengths (0): keeps the density of curved places
    middle = vertices.take(faces, axis=0).mean(1) * weight[:, None]
    flat = faces.reshape(-1)
    count = len(vertices)
    total = np.bincount(flat, np.repeat(weight, 3), count)
    aim = np.stack([np.bincount(flat, np.repeat(middle[:, k], 3), count) for k in range(3)], 1)
    upright = _unit(np.stack([np.bincount(flat, np.repeat(normal[:, k], 3), count) for k in range(3)], 1))
    step = aim / np.maximum(total, 1e-300)[:, None] - vertices
    step -= np.einsum("vc,vc->v", step, upright)[:, None] * upright
    step[locked | (total <= 0)] = 0
    return guarded(vertices, faces, vertices + strength * step)


def guarded(vertices: Array, faces: Array, moved: Array) -> Array:
    """`moved`, with the vertices of faces that it turns over or makes worse than 20 degrees put back, as often as
    needed."""
    normal, before = _unit(cross(vertices, faces)), worst_cosine(vertices, faces)
    moved = moved.copy()
    suspect = faces
    for _ in range(6):
        after = worst_cosine(moved, suspect)
        turned = np.einsum("fc,fc->f", _unit(cross(moved, suspect)), normal) < TURN
        bad = (turned & (before < 1)) | ((after > before) & (after > 0.94))
        if not bad.any():
            return moved
        moved[suspect[bad]] = vertices[suspect[bad]]
        touched = np.zeros(len(vertices), bool)
        touched[suspect[bad]] = True
        near = touched[suspect].any(1)
        suspect, normal, before = suspect[near], normal[near], before[near]
    moved[suspect] = vertices[suspect]
    return moved
