"""Fewer triangles of good shape: edges collapse by quadric error, then flip and slide on the surface they came from.

Meshes are numpy arrays as in `topology`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ...scene.errors import MissingDependency
from ..patience import Later
from ..rows import by_rows
from ..surface_sampling import closest_on_triangles
from .clean import mend_flat
from .relax import flip_edges, guarded, locked_vertices, slide
from .topology import Array, Edges, areas, corners

PASSES = 4  # rounds of flips and slides
EDGE = 0.06  # length of the resulting edges in the units given to the collapses, whose thresholds are absolute
EAGERNESS = (3, 5, 7, 9)  # of the collapses; the next where one stops too early
PROPOSALS = 6  # triangles tried for the closest point
CHUNK = 1 << 12  # points looked up at once
ALONE = threading.Lock()  # fast-simplification keeps its mesh in global variables


@dataclass(frozen=True)
class Decimated:
    """vertices: [V', 3]; faces: [F', 3]; survivor: [V'] the input vertex each began as, exact where `fixed` [V'] bool
    (borders kept whole); face: [V'] and weights: [V', 3] of the input where each lies now."""

    vertices: Array
    faces: Array
    survivor: Array
    fixed: Array
    face: Array
    weights: Array


def decimate(
    vertices: Array,
    faces: Array,
    target: int,
    *,
    keep_border: bool = True,
    passes: int = PASSES,
    callback: Callable[[int, int], None] | None = None,
) -> Decimated:
    """At most about `target` faces on the same surface.

    keep_border: no vertex of a border (or of a seam of texture coordinates, where vertices are double) moves or goes,
    so that more than `target` faces may remain. Sharp edges stay sharp: they neither flip nor slide. passes: rounds of
    flips and slides; 0 leaves the bare collapses. callback(done, total) counts steps. A mesh within `target` is
    returned as it is. Raises MissingDependency without fast-simplification.
    """
    tell = callback or (lambda done, total: None)
    steps = passes + 3
    if len(faces) <= target:
        every = np.arange(len(vertices))
        face, weights = _corners(faces, len(vertices))
        return Decimated(vertices, faces, every, np.ones(len(vertices), bool), face, weights)
    tell(0, steps)
    centers = _centers(vertices, faces)
    tree = Later(lambda: _tree(centers))  # the collapses leave a core idle
    now, thin, survivor = _collapse(vertices, faces, target, keep_border)
    thin, kept = mend_flat(now, thin)
    thin = thin[kept]
    tell(1, steps)
    locked = locked_vertices(now, thin)
    for done in range(passes):
        thin, turned = flip_edges(now, thin)
        if turned > len(thin) // 500 or not done:
            locked = locked_vertices(now, thin)
        now = slide(now, thin, locked)
        tell(2 + done, steps)
    if passes:
        place, face, weights = nearest_on_surface(now, vertices, faces, tree.result())
        place[locked] = now[locked]
        now = guarded(now, thin, place)
        thin, _ = flip_edges(now, thin)
        thin, kept = mend_flat(now, thin)
        thin = thin[kept]
    else:
        _, face, weights = nearest_on_surface(now, vertices, faces, tree.result())
    tell(steps, steps)
    fixed = np.zeros(len(now), bool)
    if keep_border:
        edges = Edges.of(thin)
        fixed[edges.ends[edges.count == 1]] = True
        fixed &= (now == vertices[survivor]).all(1)
    return Decimated(now, thin, survivor, fixed, face, weights)


def _remaining(count: int, faces: Array, collapses: Array) -> Array:
    """Which of `count` vertices still have a face after collapses [C, 2] (kept, gone)."""
    into = np.arange(count)
    into[collapses[:, 1]] = collapses[:, 0]
    while not np.array_equal(into[into], into):
        into = into[into]
    moved = into[faces]
    whole = (moved[:, 0] != moved[:, 1]) & (moved[:, 1] != moved[:, 2]) & (moved[:, 2] != moved[:, 0])
    return np.unique(moved[whole])


def _collapse(vertices: Array, faces: Array, target: int, keep_border: bool) -> tuple[Array, Array, Array]:
    """Quadric edge collapses (Garland and Heckbert): vertices, faces and survivors."""
    try:
        from fast_simplification import simplify
    except ImportError:
        hint = "run `pip install fast-simplification`"
        raise MissingDependency(f"Meshes are decimated with fast-simplification; {hint}.") from None
    size = (areas(vertices, faces).sum() / max(target, 1) * 2.3) ** 0.5  # edges of so many equal triangles
    scale = EDGE / size if size > 0 else 1.0
    middle = (vertices.min(0) + vertices.max(0)) / 2
    now, thin, survivor = (vertices - middle) * scale, faces.astype(np.int32), np.arange(len(vertices))
    for eager in EAGERNESS:
        before, before_faces = now, thin
        with ALONE:
            now, thin, gone = simplify(
                now, thin, target_count=int(target), agg=eager, return_collapses=True, preserve_border=keep_border
            )
        left = np.setdiff1d(np.arange(len(before)), gone[:, 1], assume_unique=True)
        if len(left) != len(now):  # vertices whose last face is gone are dropped too
            left = _remaining(len(before), before_faces, gone)
        if len(left) != len(now):  # and duplicate faces: by place, which is nearly as good
            left = cKDTree(before).query(now)[1]
        survivor = survivor[left]
        if len(thin) <= target:
            break
    thin = np.asarray(thin, np.int64)
    now = now / scale + middle
    if keep_border:  # what did not move gets its own numbers back, not those of a round trip through the scale
        edges = Edges.of(thin)
        rim = np.unique(edges.ends[edges.count == 1])
        now[rim] = vertices[survivor[rim]]
    return now, thin, survivor


def _centers(vertices: Array, faces: Array) -> Array:
    """The middles [F, 3] of faces."""
    centers = np.empty(faces.shape)

    def compute(rows: slice) -> None:
        a, b, c = corners(vertices, faces[rows])
        centers[rows] = (a + b + c) / 3

    by_rows(len(faces), compute)
    return centers


def _tree(centers: Array) -> cKDTree:
    return cKDTree(centers, leafsize=12, balanced_tree=False, compact_nodes=False)


def nearest_on_surface(
    points: Array, vertices: Array, faces: Array, tree: cKDTree | None = None
) -> tuple[Array, Array, Array]:
    """Places [P, 3] on a dense surface near points that lie close to it, with face [P] and weights [P, 3].

    The best of the triangles with the nearest centers: for a dense mesh the closest point or one next to it, at a
    fraction of the cost of `closest_point`. tree: over the middles of the faces, where it is at hand.
    """
    tree = tree or _tree(_centers(vertices, faces))
    known = min(PROPOSALS, len(faces))
    place, face = np.empty_like(points), np.empty(len(points), np.int64)
    weights = np.empty_like(points)

    def look(rows: slice) -> None:
        part = points[rows]
        near = tree.query(part, k=known)[1].reshape(len(part), known)
        shape = vertices.take(faces.take(near.reshape(-1), axis=0), axis=0)
        share = closest_on_triangles(torch.from_numpy(np.repeat(part, known, 0)), torch.from_numpy(shape)).numpy()
        found = np.einsum("pk,pkc->pc", share, shape).reshape(len(part), known, 3)
        best = ((found - part[:, None]) ** 2).sum(-1).argmin(1)
        row = np.arange(len(part))
        place[rows], face[rows] = found[row, best], near[row, best]
        weights[rows] = share.reshape(len(part), known, 3)[row, best]

    by_rows(len(points), look, CHUNK)
    return place, face, weights


def _corners(faces: Array, count: int) -> tuple[Array, Array]:
    """Each vertex as a corner of some face: faces [count] and weights [count, 3]."""
    face, corner = np.zeros(count, np.int64), np.zeros(count, np.int64)
    flat = faces.reshape(-1)[::-1]
    face[flat] = np.arange(len(flat))[::-1] // 3
    corner[flat] = np.arange(len(flat))[::-1] % 3
    return face, np.eye(3)[corner]
