"""How many voxels of each chunk the surface of a room will cross, told from its box and its points, before any network.

Floor, ceiling and walls are counted as areas of the box inside a chunk: photos may not show them, but a chunk is made
with them. What stands in the room is counted from its points: a sparse model hits only some voxels of a surface, so
that blocks of voxels are looked at, and each is given the likeliest number for so many points in so many voxels.
"""

from __future__ import annotations

import numpy as np

from .chunk_layout import ChunkLayout, RoomBox

BLOCK = 4  # voxels along a side of a block
PLANE, SPREAD = 16.0, 6.0  # voxels of a block that one plane crosses, and how far that is believed
NEAR = 1.5  # voxels from the box within which a point belongs to floor, ceiling or a wall
STRIP = 4  # parts of a chunk in which a wall is looked for
FURNISHED = 1.2  # all voxels of a room by those of its box, where there are no points


def expected_cells(points: np.ndarray, layout: ChunkLayout, resolution: int, box: RoomBox) -> np.ndarray:
    """Expected number [K] of occupied voxels of every chunk, on a grid of resolution^3.

    points: [P, 3] cleaned points of the world, possibly none; box: of the room.
    """
    cell = layout.size / resolution
    low, high = (np.array(side) for side in zip(box.x, box.y, box.z))
    inside = ((points - low > NEAR * cell) & (high - points > NEAR * cell)).all(1)
    counts = []
    for center in layout.centers:
        shell = _shell(points, center, layout.size, low, high) / cell**2
        inner = _inner(points[inside], center, layout.size, resolution) if len(points) else (FURNISHED - 1) * shell
        counts.append(min(shell + inner, resolution**3))
    return np.array(counts)


def _shell(points: np.ndarray, center: np.ndarray, size: float, low: np.ndarray, high: np.ndarray) -> float:
    """Area of the box's faces inside a chunk; of a wall only the strips with points near it, where there are points."""
    begin, end = np.maximum(center - size / 2, low), np.minimum(center + size / 2, high)
    extent = np.maximum(end - begin, 0)
    area = 0.0
    for axis in range(3):
        for face in (low[axis], high[axis]):
            if not abs(face - center[axis]) <= size / 2 + 1e-9:
                continue
            if axis == 2:
                area += extent[0] * extent[1]
                continue
            along, share = 1 - axis, 1.0
            if len(points):
                near = np.abs(points[:, axis] - face) < size / (2 * STRIP)
                place = (points[near, along] - begin[along]) / (size / STRIP)
                strips = int(np.ceil(extent[along] / (size / STRIP) - 1e-9))
                found = np.unique(np.floor(place[(place >= 0) & (place < strips)]))
                share = len(found) / strips if strips else 0.0
            area += share * extent[along] * extent[2]
    return area


def _inner(points: np.ndarray, center: np.ndarray, size: float, resolution: int) -> float:
    """Expected voxels of what stands in the room, inside a chunk."""
    cells = np.floor(((points - center) / size + 0.5) * resolution).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < resolution)).all(1)]
    if not len(cells):
        return 0.0
    strides = np.array([resolution**2, resolution, 1])
    blocks, block, count = np.unique((cells // BLOCK) @ strides, return_inverse=True, return_counts=True)
    _, first = np.unique(cells @ strides, return_index=True)
    hit = np.bincount(block[first], minlength=len(blocks))
    # n points spread evenly over m voxels hit m (1 - (1 - 1/m)^n) of them; m is weighed by how well that fits
    m = np.arange(1, BLOCK**3 + 1, dtype=np.float64)[None]
    missed = (1 - 1 / m) ** count[:, None]
    variance = np.maximum(m * missed * (1 - missed), 0.3)
    fit = -((hit[:, None] - m * (1 - missed)) ** 2) / variance - np.log(variance) - ((m - PLANE) / SPREAD) ** 2
    fit = np.where(m >= hit[:, None], fit / 2, -np.inf)
    weight = np.exp(fit - fit.max(1, keepdims=True))
    return float(((weight * m).sum(1) / weight.sum(1)).sum())
