"""Which side of a face is outside: one winding for everything that hangs together, then outward.

Meshes are numpy arrays as in `topology`.
"""

from __future__ import annotations

import numpy as np

from .rays import Rays
from .topology import Array, Edges, areas, cross, face_components, groups, volumes

VOTES = 64  # faces of a component that are asked
ASIDE = 16  # rays of each to either side
DECIDED = 0.1  # part of the votes that must be in excess
FLAT = 0.02  # volume below this part of area^1.5 says nothing


def flipped(vertices: Array, faces: Array, edges: Edges | None = None) -> Array:
    """[F] bool: faces to turn so that neighbors run along their edge in opposite directions.

    Of the two windings of a set of faces the one that more of its area has is kept. Where a surface has only one side
    (a Moebius strip) some neighbors stay in conflict.
    """
    edges = edges or Edges.of(faces)
    found = np.zeros(len(faces), bool)
    if not edges.conflicts.any():
        return found
    first, second = (one // 3 for one in edges.pairs)
    _, label = face_components(edges)
    mixed = np.zeros(len(faces), bool)
    mixed[label[first[edges.conflicts]]] = True
    part = np.flatnonzero(mixed[label])  # components without a conflict are done
    place = np.full(len(faces), -1, np.int64)
    place[part] = np.arange(len(part))
    link = place[first] >= 0
    f, g, turned = place[first[link]], place[second[link]], edges.conflicts[link]
    # Every face twice: as it is (f) and turned (f + n). Linked are states that fit each other.
    n = len(part)
    lead = groups(2 * n, np.concatenate([f, f + n]), np.concatenate([g + n * turned, g + n * ~turned]))
    other = lead[:n] > lead[n:]
    weight = areas(vertices, faces[part])
    lead = np.minimum(lead[:n], lead[n:])
    balance = np.bincount(lead, np.where(other, -weight, weight), 2 * n)
    found[part] = other ^ (balance[lead] < 0)
    return found


def inward(vertices: Array, faces: Array, edges: Edges | None = None) -> Array:
    """[F] bool: faces of components that are inside out; to be called after `flipped`.

    A closed component is judged by its signed volume, unless it lies within another closed one: then it may be the wall
    of a cavity, and stays as it is. An open one is judged by rays: the side from which more of them leave the mesh is
    outside; where both sides are alike, by the volume under it if that is clear, and else it stays.
    """
    edges = edges or Edges.of(faces)
    number, label = face_components(edges)
    volume = volumes(vertices, faces, label, number)
    opened = np.zeros(number, bool)
    opened[label[edges.order[np.repeat(edges.count != 2, edges.count)] // 3]] = True
    turn = ~opened & (volume < 0)
    turn[_enclosed(vertices, faces, label, np.flatnonzero(turn), np.flatnonzero(~opened), volume)] = False
    if opened.any():
        area = np.bincount(label, areas(vertices, faces), number)
        vote = side_votes(vertices, faces, label, np.flatnonzero(opened))
        clear = np.abs(volume) > FLAT * area**1.5
        by_rays = np.abs(vote) > DECIDED
        turn |= opened & np.where(by_rays, vote < 0, clear & (volume < 0))
    return turn[label]


def _enclosed(vertices: Array, faces: Array, label: Array, asked: Array, closed: Array, volume: Array) -> Array:
    """Those of the components `asked` that lie within another one of the `closed`."""
    if not len(asked):
        return asked
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(label[order], np.arange(len(volume)))
    stop = np.append(start[1:], len(order))
    corners = vertices[faces[order]]
    low, high = (
        func.reduceat(one, start) for func, one in ((np.minimum, corners.min(1)), (np.maximum, corners.max(1)))
    )
    found = []
    for one in asked:
        around = closed[(low[closed] <= low[one]).all(1) & (high[closed] >= high[one]).all(1)]
        around = around[(np.abs(volume[around]) > abs(volume[one]))]
        own = corners[start[one] : stop[one]].reshape(-1, 3)
        points = own[np.linspace(0, len(own) - 1, 8).astype(np.int64)]
        for other in around:
            wall = corners[start[other] : stop[other]]
            if all(abs(_winding_number(wall, point)) > 0.5 for point in points):
                found.append(one)
                break
    return np.array(found, np.int64)


def _winding_number(corners: Array, point: Array) -> float:
    """How often closed triangles [F, 3, 3] go around a point (van Oosterom and Strackee's solid angles)."""
    a, b, c = (corners[:, k] - point for k in range(3))
    la, lb, lc = (np.linalg.norm(one, axis=1) for one in (a, b, c))
    dot = lambda x, y: np.einsum("fc,fc->f", x, y)  # noqa: E731
    above = dot(a, np.cross(b, c))
    below = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
    return float(np.arctan2(above, below).sum() / (2 * np.pi))


def side_votes(vertices: Array, faces: Array, label: Array, which: Array) -> Array:
    """[components] how many more rays leave the mesh from the front of the faces than from their back, -1 to 1.

    which: the components that are asked; others get 0.
    """
    chosen = sample_faces(vertices, faces, label, which, VOTES)
    rays = Rays(vertices, faces)
    normal = cross(vertices, faces[chosen])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    origin = vertices[faces[chosen]].mean(1)
    free = [rays.escapes(origin, sign * normal, ASIDE).mean(1) for sign in (1, -1)]
    number = int(label.max()) + 1
    total = np.bincount(label[chosen], free[0] - free[1], number)
    return total / np.maximum(np.bincount(label[chosen], minlength=number), 1)


def sample_faces(vertices: Array, faces: Array, label: Array, which: Array, count: int) -> Array:
    """Up to `count` faces of each of the components `which`, evenly spread over their area, in a fixed choice."""
    asked = np.zeros(int(label.max()) + 1, bool)
    asked[which] = True
    rows = np.flatnonzero(asked[label])
    rows = rows[np.argsort(label[rows], kind="stable")]
    area = areas(vertices, faces[rows])
    total = np.bincount(label[rows], area)
    share = np.cumsum(area)
    share -= (np.cumsum(total) - total)[label[rows]]
    slot = np.ceil(share / np.maximum(total[label[rows]], 1e-300) * count - 1e-9).astype(np.int64)
    fresh = np.concatenate([[True], (slot[1:] != slot[:-1]) | (label[rows][1:] != label[rows][:-1])])
    return rows[fresh]
