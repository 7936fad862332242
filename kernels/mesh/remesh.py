"""A new mesh of even triangles around any surface: dual contouring of the distance in a narrow band of a grid.

Meshes are numpy arrays as in `topology`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...scene.errors import InputError
from ..mesh_to_grid import triangle_cells
from .closest_point import ClosestPoint
from .relax import flip_edges
from .topology import Array

LARGEST = 1024
FLIPS = 2


def remesh(
    vertices: Array,
    faces: Array,
    resolution: int,
    *,
    band: float = 1.0,
    project_back: float = 0.0,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Array, Array, Array, Array]:
    """The surface at a distance of `band` cells around a mesh, wound outward: vertices [V', 3], faces [F', 3], and for
    each vertex the closest face [V'] of the input with weights [V', 3].

    resolution: cells along the longest side, 8 to 1024. What the input is like does not matter: open, torn, crossing
    itself. Around a sheet comes one closed shell, around a closed surface an outer and an inner one (see
    `shells.hidden`). project_back: 0 leaves the offset, 1 puts vertices onto the input, between is between.
    Raises InputError for a resolution or band out of range. Source: TRELLIS.2, narrow-band dual contouring.
    """
    if not 8 <= resolution <= LARGEST:
        raise InputError(f"`remesh` is {resolution}; it must lie between 8 and {LARGEST} cells, or be 0 for none.")
    if not 0.5 <= band <= 4:
        raise InputError(f"`band` is {band}; it must lie between 0.5 and 4 cells.")
    low, high = vertices.min(0), vertices.max(0)
    cell = float((high - low).max()) / resolution
    if not cell > 0:
        raise InputError("All vertices of the mesh lie in one point; a mesh with some extent would work.")
    room = int(np.ceil(band)) + 2
    side = resolution + 2 * room + 2  # corners along an axis, the last layer always empty
    origin = (low + high) / 2 - cell * (side - 1) / 2
    index = ClosestPoint(torch.from_numpy(vertices), torch.from_numpy(faces))
    corners = _corners_near(vertices, faces, origin, cell, side, int(np.ceil(band)))
    place = origin + np.stack(np.unravel_index(corners, (side,) * 3), 1) * cell

    def share(start: int) -> Callable[[int, int], None] | None:
        return (lambda done, total: callback(start + 50 * done // total, 100)) if callback is not None else None

    away = index(torch.from_numpy(place), callback=share(0)).squared.double().sqrt().numpy() - band * cell
    del place
    points, quads = _contour(corners, away, side)
    if not len(quads):
        raise InputError(f"The mesh has nothing that {resolution} cells can show; more would work.")
    points = origin + points * cell
    found = index(torch.from_numpy(points), callback=share(50))
    points += project_back * (found.points.double().numpy() - points)
    triangles = _split(points, quads)
    for _ in range(FLIPS):
        triangles, _ = flip_edges(points, triangles)
    return points, triangles, found.face.numpy(), found.barycentric.double().numpy()


def _corners_near(vertices: Array, faces: Array, origin: Array, cell: float, side: int, wide: int) -> Array:
    """Sorted flat indices of the grid corners up to `wide` steps along each axis from cells that triangles cross."""
    near = np.zeros((side,) * 3, bool)
    top = origin + cell * (side - 1)
    for _, cells in triangle_cells(
        torch.from_numpy(vertices).float(), torch.from_numpy(faces), side - 1, aabb=(origin.tolist(), top.tolist())
    ):
        x, y, z = cells.long().numpy().T
        near[x, y, z] = True
    for axis in range(3):
        now = np.moveaxis(near, axis, 0)
        grown = now.copy()
        for step in range(1, wide + 2):  # a cell has corners at its index and the next
            grown[step:] |= now[:-step]
            if step <= wide:
                grown[:-step] |= now[step:]
        near = np.moveaxis(grown, 0, axis)
    return np.flatnonzero(np.ascontiguousarray(near))


def _contour(corners: Array, value: Array, side: int) -> tuple[Array, Array]:
    """Points [P, 3] in cells and quads [Q, 4] between them, where `value` [C] at `corners` [C] changes its sign."""
    strides = (side * side, side, 1)
    cells, points, rings = [], [], []
    for axis, stride in enumerate(strides):
        at = np.searchsorted(corners, corners + stride)
        at[at == len(corners)] = 0
        crossed = np.flatnonzero((corners[at] == corners + stride) & ((value < 0) != (value[at] < 0)))
        first, second = value[crossed], value[at[crossed]]
        base = corners[crossed]
        place = np.stack(np.unravel_index(base, (side,) * 3), 1).astype(np.float64)
        place[:, axis] += first / (first - second)
        u, v = strides[(axis + 1) % 3], strides[(axis + 2) % 3]
        ring = np.stack([base, base - u, base - u - v, base - v], 1)
        # seen from the end of the axis these four go around counterclockwise
        ring = np.where((first < 0)[:, None], ring, ring[:, ::-1])
        cells.append(ring.reshape(-1))
        points.append(np.repeat(place, 4, 0))
        rings.append(len(ring))
    names, number = np.unique(np.concatenate(cells), return_inverse=True)
    points = np.concatenate(points)
    count = np.bincount(number, minlength=len(names))
    middle = np.stack([np.bincount(number, points[:, k], len(names)) for k in range(3)], 1)
    return middle / np.maximum(count, 1)[:, None], number.reshape(-1, 4)


def _split(points: Array, quads: Array) -> Array:
    """Two triangles for each quad, along its shorter diagonal."""
    a, b, c, d = (quads[:, k] for k in range(4))
    first = ((points[a] - points[c]) ** 2).sum(1) <= ((points[b] - points[d]) ** 2).sum(1)
    one = np.where(first[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    two = np.where(first[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    return np.concatenate([one, two])
