"""Closing small holes: border loops, and the triangles that span them.

Meshes are numpy arrays as in `topology`, wound alike and without crowded edges (`clean.separate`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .clean import FLAT, degenerate, duplicates, equal_rows
from .topology import Array, Edges, areas, face_components, groups, heads, heads_of

LONGEST = 160  # corners up to which the best triangulation is looked for; longer loops are cut in two first
LENGTH_WEIGHT = 0.25  # of the lengths of edges against area
WHOLE = 0.7  # the longest loop of a component is its rim, not a hole, if its patch is this large against the component
CELLS = 1 << 22  # numbers held at once


@dataclass(frozen=True)
class Loops:
    """Borders in order. vertices: [N], loop after loop, along the direction in which a patch runs; start, size: [L];
    perimeter: [L]; component: [L] the component each belongs to; touching: [P, 2] vertices at the same place that two
    holes share."""

    vertices: Array
    start: Array
    size: Array
    perimeter: Array
    component: Array
    touching: Array


def border_loops(vertices: Array, faces: Array, edges: Edges) -> Loops:
    """All border loops, each starting at its lowest directed edge."""
    border = edges.border
    tail, head = faces.reshape(-1)[border], heads(faces)[border]
    count = len(border)
    leaving = np.full(len(vertices), -1, np.int64)
    leaving[tail] = np.arange(count)
    after = leaving[head]  # each border edge -> the one that goes on
    closed = (after >= 0) & (np.bincount(head, minlength=len(vertices))[tail] == 1)
    loop = groups(count, np.arange(count)[after >= 0], after[after >= 0])
    pairs = _touching(vertices[tail], loop)
    if len(pairs):  # from one hole to the next no longer around the faces between them
        before = np.full(count, -1, np.int64)
        before[after[after >= 0]] = np.flatnonzero(after >= 0)
        pairs = pairs[(before[pairs] >= 0).all(1)]
        after[before[pairs]] = pairs[:, ::-1]
        loop = groups(count, np.arange(count)[after >= 0], after[after >= 0])
    whole = np.ones(count, bool)
    np.logical_and.at(whole, loop, closed)
    # How far each is from the lowest of its loop, by jumps that double.
    jump, far = after.copy(), np.ones(count, np.int64)
    jump[after < 0] = np.flatnonzero(after < 0)
    leader = loop == np.arange(count)
    jump[leader], far[leader] = np.flatnonzero(leader), 0
    for _ in range(max(1, int(count).bit_length())):
        far = far + far[jump]
        jump = jump[jump]
    rows = np.flatnonzero(whole[loop])
    # `far` counts steps forward to the leader; a patch runs against the border, so that is the order wanted.
    rows = rows[np.lexsort((far[rows], loop[rows]))]
    _, start, size = np.unique(loop[rows], return_index=True, return_counts=True)
    length = np.linalg.norm(vertices[head[rows]] - vertices[tail[rows]], axis=1)
    perimeter = np.add.reduceat(length, start) if len(start) else np.zeros(0)
    _, label = face_components(edges)
    return Loops(tail[rows], start, size, perimeter, label[border[rows][start] // 3], tail[pairs])


def _touching(places: Array, loop: Array) -> Array:
    """[P, 2] border edges of the same loop that start at the same place: two holes meet there in a vertex that was
    doubled."""
    lowest = equal_rows(places)
    second = np.flatnonzero(lowest != np.arange(len(lowest)))
    second = second[np.bincount(lowest, minlength=len(lowest))[lowest[second]] == 2]
    second = second[loop[lowest[second]] == loop[second]]
    return np.stack([lowest[second], second], 1)


def fill_holes(
    vertices: Array, faces: Array, longest: float, edges: Edges | None = None, callback=None
) -> tuple[Array, Array, Array, Array]:
    """Patches for border loops with a perimeter up to `longest`: new faces, new vertices, a vertex near each, and what
    old vertices become [V]: those that were doubled where two holes touch are one again.

    The patch of a loop has the least area and the shortest edges together, found exactly for up to `LONGEST` corners.
    Where a patch would use an edge or a face that the mesh has already at the same places, a vertex in the middle of
    the loop is added. Loops that are the rim of a sheet are left open.
    """
    edges = edges or Edges.of(faces)
    into = np.arange(len(vertices))
    none = np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros(0, np.int64), into
    if not len(edges.border) or longest <= 0:
        return none
    loops = border_loops(vertices, faces, edges)
    chosen = np.flatnonzero((loops.perimeter <= longest) & (loops.size >= 3))
    if not len(chosen):
        return none
    patches, owner = _triangulate(vertices, loops, chosen, callback)
    area = np.bincount(owner, areas(vertices, patches), len(loops.size))
    number, label = face_components(edges)
    whole = np.bincount(label, areas(vertices, faces), number)[loops.component]
    furthest = np.zeros(number)
    np.maximum.at(furthest, loops.component, loops.perimeter)
    rim = (area >= WHOLE * whole) & (loops.perimeter >= furthest[loops.component])
    meets = np.zeros(len(loops.size), bool)
    meets[owner[_met(vertices, faces, patches, loops)]] = True
    rim[owner[degenerate(vertices, patches)]] = True  # a slit, not a hole
    keep = ~rim[owner] & ~meets[owner]
    fans = chosen[meets[chosen] & ~rim[chosen]]
    faces_out, middles, near = [patches[keep]], [], []
    for i, loop in enumerate(fans):
        ring = loops.vertices[loops.start[loop] : loops.start[loop] + loops.size[loop]]
        middles.append(vertices[ring].mean(0))
        near.append(ring[0])
        center = np.full(len(ring), len(vertices) + i)
        faces_out.append(np.stack([ring, np.roll(ring, -1), center], 1))
    filled = np.zeros(len(loops.size), bool)
    filled[owner[keep]] = filled[fans] = True
    loop_of = np.zeros(len(vertices), np.int64)
    loop_of[loops.vertices] = np.repeat(np.arange(len(loops.size)), loops.size)
    first, second = loops.touching[filled[loop_of[loops.touching]].any(1)].T
    into[second] = first
    added = np.concatenate(faces_out)
    old = added < len(vertices)
    added[old] = into[added[old]]
    return added, np.array(middles).reshape(-1, 3), np.array(near, np.int64), into


def _met(vertices: Array, faces: Array, patches: Array, loops: Loops) -> Array:
    """[P] bool: faces of patches that lie where a face is already, or have an edge within the patch where one is."""
    place = equal_rows(vertices)
    whole = place.take(np.concatenate([faces, patches]))
    found = duplicates(whole)[len(faces) :]
    known = Edges.of(whole)
    directed = known.order[np.repeat(known.crowded, known.count)]
    directed = directed[directed >= 3 * len(faces)] - 3 * len(faces)
    base, ring = len(vertices), loops.vertices
    after = np.roll(ring, -1)
    after[loops.start + loops.size - 1] = ring[loops.start]
    edge = patches.reshape(-1)[directed] * base + heads_of(patches, directed)
    inner = ~np.isin(edge, ring * base + after)  # a patch runs along its loop
    found[directed[inner] // 3] = True
    return found


def _triangulate(vertices: Array, loops: Loops, chosen: Array, callback=None) -> tuple[Array, Array]:
    """The patches of the chosen loops: faces and the loop of each."""
    rings = [(int(loop), loops.vertices[loops.start[loop] : loops.start[loop] + loops.size[loop]]) for loop in chosen
             if loops.size[loop] > LONGEST]  # fmt: skip
    sizes = loops.size[chosen]
    queue: dict[int, list[tuple[int, Array]]] = {}
    while rings:
        loop, ring = rings.pop()
        if len(ring) <= LONGEST:
            queue.setdefault(len(ring), []).append((loop, ring))
        else:
            rings += [(loop, part) for part in _halves(vertices, ring)]
    faces, owner, done = [], [], 0
    for size in np.unique(np.concatenate([sizes[sizes <= LONGEST], np.array(list(queue), np.int64)])):
        same = chosen[sizes == size]
        rows = loops.vertices[loops.start[same][:, None] + np.arange(size)]
        extra = queue.get(int(size), [])
        rows = np.concatenate([rows, np.array([ring for _, ring in extra], np.int64).reshape(-1, size)])
        names = np.concatenate([same, np.array([loop for loop, _ in extra], np.int64)])
        step = max(1, CELLS // int(size) ** 2)
        for begin in range(0, len(rows), step):
            found = _best(vertices, rows[begin : begin + step])
            faces.append(found.reshape(-1, 3))
            owner.append(np.repeat(names[begin : begin + step], int(size) - 2))
        done += len(same)
        if callback is not None:
            callback(done, len(chosen))
    return np.concatenate(faces), np.concatenate(owner)


def _halves(vertices: Array, ring: Array) -> list[Array]:
    """A long loop as two, cut where it comes nearest to itself for the way around."""
    count = len(ring)
    step = max(1, count // 256)
    at = np.arange(0, count, step)
    gap = np.linalg.norm(vertices[ring[at]][:, None] - vertices[ring[at]][None], axis=-1)
    apart = np.abs(at[:, None] - at[None])
    around = np.minimum(apart, count - apart)
    score = np.where(around >= count // 4, gap / np.maximum(around, 1), np.inf)
    i, j = sorted(at[list(np.unravel_index(int(score.argmin()), score.shape))].tolist())
    return [ring[i : j + 1], np.concatenate([ring[j:], ring[: i + 1]])]


def _best(vertices: Array, rings: Array) -> Array:
    """The best triangulation [L, n - 2, 3] of loops [L, n] of the same size (Barequet and Sharir's recursion)."""
    count, n = rings.shape
    if n == 3:
        return rings[:, None]
    place = vertices[rings]
    forbidden = 10 * n * float(np.ptp(place, 1).sum(-1).max(initial=0)) ** 2  # of triangles on a line
    cost = np.zeros((count, n, n))
    split = np.zeros((count, n, n), np.int64)
    for width in range(2, n):
        i = np.arange(n - width)
        k = i[:, None] + np.arange(1, width)
        a, b, c = place[:, i][:, :, None], place[:, k], place[:, i + width][:, :, None]
        area = np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2
        size = ((b - a) ** 2).sum(-1) + ((c - b) ** 2).sum(-1) + ((a - c) ** 2).sum(-1)
        area = np.where(area <= FLAT * 10 * size, forbidden, area)
        total = cost[:, i[:, None], k] + cost[:, k, (i + width)[:, None]] + area + LENGTH_WEIGHT * size / 48**0.5
        best = total.argmin(-1)
        cost[:, i, i + width] = np.take_along_axis(total, best[..., None], -1)[..., 0]
        split[:, i, i + width] = i + 1 + best
    out = np.zeros((count, n - 2, 3), np.int64)
    every = np.arange(count)
    # All loops at once, triangle by triangle: each keeps the spans it has still to divide on a stack of its own.
    stack, top = np.zeros((count, n, 2), np.int64), np.ones(count, np.int64)
    stack[:, 0] = (0, n - 1)
    for turn in range(n - 2):
        top -= 1
        i, j = stack[every, top].T
        k = split[every, i, j]
        out[:, turn] = np.stack([rings[every, i], rings[every, k], rings[every, j]], 1)
        for low, high in ((i, k), (k, j)):
            wide = high - low > 1
            stack[every[wide], top[wide]] = np.stack([low[wide], high[wide]], 1)
            top += wide
    return out
