"""A room as overlapping cubes that share one lattice: where they stand and which of them hold something.

World frame: Z up, floor horizontal, the unit that of the points (meters, roughly). Chunk i is the cube
[-0.5, 0.5]^3 in its own frame; the frame of chunk 0 is the joint frame of a scene. All strides are multiples of a
sixteenth of the chunk size, so that the grids of 16, 32, 64 and 512 voxels of all chunks coincide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from .errors import InputError

LATTICE = 16  # strides and overlaps are counted in these parts of a chunk
PADDING = 3.5 / 16
MAX_CHUNKS = 1024
LEAST_POINTS = 10  # to find a room
CROWDED = 5  # points so near to a camera that it stands in what they show


@dataclass(frozen=True)
class RoomBox:
    """Extent of a room in the world, Z up: [low, high] of x, y and z."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]

    @property
    def height(self) -> float:
        return self.z[1] - self.z[0]


@dataclass(frozen=True, eq=False)
class ChunkLayout:
    """K chunks: centers [K, 3] float64 in the world, one size for all.

    names: the index each chunk had among all places, dropped ones counted. counts: points inside each, None where they
    were not counted. layered: whether chunks also stand above each other.
    """

    centers: np.ndarray
    size: float
    names: tuple[int, ...] = ()
    counts: tuple[int, ...] | None = None
    layered: bool = False

    def __len__(self) -> int:
        return len(self.centers)

    @property
    def relative(self) -> np.ndarray:
        """[K, 3] float64: where each chunk stands relative to chunk 0, in chunk sizes; multiples of 1/16."""
        return (self.centers - self.centers[0]) / self.size

    @property
    def world_to_chunk(self) -> np.ndarray:
        """[K, 4, 4] float64: world -> frame of each chunk, whose cube is [-0.5, 0.5]^3."""
        scale = 1 / self.size
        matrices = np.tile(np.diag([scale, scale, scale, 1.0]), (len(self), 1, 1))
        matrices[:, :3, 3] = -scale * self.centers
        return matrices

    @property
    def chunk_to_world(self) -> np.ndarray:
        """[K, 4, 4] float64: the inverse."""
        matrices = np.tile(np.diag([self.size, self.size, self.size, 1.0]), (len(self), 1, 1))
        matrices[:, :3, 3] = self.centers
        return matrices

    def to_json(self) -> str:
        """The text of chunk_transforms.json."""
        chunks = [
            {
                "index": i,
                "crop_center": self.centers[i].tolist(),
                "M_original_to_chunk": self.world_to_chunk[i].tolist(),
                "M_chunk_to_original": self.chunk_to_world[i].tolist(),
                "relative_translation": self.relative[i].tolist(),
            }
            for i in range(len(self))
        ]
        return json.dumps({"chunks": chunks}, indent=1)


def parse_numbers(text: str | None, name: str, counts: tuple[int, ...]) -> list[float] | None:
    """Numbers with commas between them, such as bounds; None where nothing is written.

    name: of what was given, for the message. Raises InputError for anything else than `counts` finite numbers.
    """
    if text is None or not text.strip():
        return None
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts or not all(map(math.isfinite, found)):
        raise InputError(f"{name} is {text!r}; give {' or '.join(map(str, counts))} numbers with commas between them.")
    return found


def room_box(
    points: np.ndarray,
    bounds: Sequence[Sequence[float]] | None = None,
    across: tuple[float, float] = (0.5, 99.5),
    upright: tuple[float, float] = (0.2, 99.97),
) -> RoomBox:
    """The room around points [P, 3], Z up, between percentiles of each axis.

    bounds: [[x low, x high], [y low, y high]] and optionally [z low, z high], given instead. Raises InputError for too
    few points and a room without height. Source: GenRecon, specification 8.2.
    """
    if bounds is not None:
        bounds = [tuple(float(v) for v in axis) for axis in bounds]
        if len(bounds) not in (2, 3) or any(len(axis) != 2 or not axis[0] < axis[1] for axis in bounds):
            raise InputError(f"The bounds are {bounds}; give low and high of x and y (and z), low below high.")
    if len(points) < LEAST_POINTS and (bounds is None or len(bounds) < 3):
        raise InputError(
            f"There are {len(points)} points after cleaning; at least {LEAST_POINTS} are needed to find the room: "
            "relax the point filters, or give the bounds of the room."
        )
    found = [np.percentile(points[:, axis], range_) for axis, range_ in enumerate((across, across, upright))] if len(
        points) else [None] * 3  # fmt: skip
    sides = [tuple(float(v) for v in (bounds[i] if bounds and i < len(bounds) else found[i])) for i in range(3)]
    box = RoomBox(*sides)
    if not box.height > 1e-6:
        raise InputError("The points of the room have no height; is the world Z up (alignment: auto)?")
    return box


def cameras_in_walls(eyes: np.ndarray, points: np.ndarray, box: RoomBox) -> np.ndarray:
    """Indices of the cameras at eyes [N, 3] that no one can have stood at: outside of the room's box, or with points
    [P, 3] of the model around them within a twentieth of its height."""
    low, high = (np.array(side) for side in zip(box.x, box.y, box.z))
    margin = box.height / 20
    walled = ((eyes < low - margin) | (eyes > high + margin)).any(1)
    if len(points):
        walled |= cKDTree(points).query_ball_point(eyes, margin, return_length=True) >= CROWDED
    return np.flatnonzero(walled)


def axis_centers(length: float, size: float, overlap: float = 4 / LATTICE) -> list[float]:
    """Centers of chunks of `size` along an axis of `length`, from 0, at least `overlap` of a chunk shared by neighbors.

    Source: GenRecon, specification 8.5.
    """
    if length <= size:
        return [length / 2]
    if not 0 <= overlap < 1:
        raise InputError(f"The overlap is {overlap:g} of a chunk; it must lie from 0 to below 1.")
    step, count = size / LATTICE, 1
    while True:
        count += 1
        stride = max(1, math.ceil((length - size) / (count - 1) / step - 1e-9)) * step
        if stride <= size * (1 - overlap) + 1e-9:
            start = length / 2 - (count - 1) * stride / 2
            return [start + i * stride for i in range(count)]
        if count > 100_000:
            raise InputError(f"A room of {length:g} cannot be covered by chunks of {size:g}; choose larger chunks.")


def place_chunks(
    box: RoomBox,
    size_factor: float = 1.11,
    overlap_factor: float = 4,
    extra: float = 0.0,
    max_size: float | None = None,
) -> ChunkLayout:
    """All chunks of a room, y-major, then x; before empty ones are dropped.

    size_factor: chunk size in room heights (extra: added to it, in world units). overlap_factor: least overlap in
    sixteenths of a chunk. max_size: chunks no larger than this, in several layers where the room is taller; without it
    one layer reaches from the floor beyond the ceiling. Raises InputError for more than `MAX_CHUNKS` chunks.
    Source: GenRecon, specification 8.3 to 8.6 (one layer).
    """
    if not 0.1 <= size_factor <= 100:
        raise InputError(f"The chunk size is {size_factor:g} room heights; a number from 0.1 to 100 would work.")
    size, layered = box.height * size_factor + extra, False
    heights = [box.z[0] + size / 2]
    if max_size is not None:
        if not max_size > 0:
            raise InputError(f"The largest chunk size is {max_size:g}; it must be above 0.")
        if size > max_size:
            heights = [box.z[0] + z for z in axis_centers(size, max_size, overlap_factor / LATTICE)]
            size, layered = max_size, len(heights) > 1
    lines = []
    for low, high in (box.x, box.y):
        low, high = low - PADDING * size, high + PADDING * size
        if (high - low) / size > MAX_CHUNKS:
            raise InputError(_too_many(f"about {(high - low) / size:.0f} along one side", size))
        lines.append([low + c for c in axis_centers(high - low, size, overlap_factor / LATTICE)])
    count = len(lines[0]) * len(lines[1]) * len(heights)
    if count > MAX_CHUNKS:
        raise InputError(_too_many(str(count), size))
    centers = [(x, y, z) for z in heights for y in lines[1] for x in lines[0]]
    return ChunkLayout(np.array(centers), size, tuple(range(count)), None, layered)


def _too_many(count: str, size: float) -> str:
    return (
        f"The room needs {count} chunks of {size:.3g}; at most {MAX_CHUNKS} are made: give its bounds, larger chunks, "
        "or check the scale of the model (meters)."
    )


def drop_empty(layout: ChunkLayout, points: np.ndarray, least: int = 500) -> ChunkLayout:
    """The chunks with at least `least` points [P, 3] inside their closed cube.

    Raises InputError where none has. Source: GenRecon, specification 8.7.
    """
    half = layout.size / 2
    counts = [int((np.abs(points - center) <= half).all(1).sum()) for center in layout.centers]
    kept = [i for i, count in enumerate(counts) if count >= least]
    if not kept:
        raise InputError(
            f"No chunk holds {least} points (the fullest of {len(layout)} has {max(counts)}); lower the least number "
            "of points per chunk, or relax the point filters."
        )
    return replace(
        layout,
        centers=layout.centers[kept],
        names=tuple(layout.names[i] for i in kept),
        counts=tuple(counts[i] for i in kept),
    )


def single_chunk(center: Sequence[float], size: float) -> ChunkLayout:
    """One cube around an object."""
    if not size > 0:
        raise InputError(f"The size of the cube is {size:g}; it must be above 0.")
    return ChunkLayout(np.asarray(center, dtype=np.float64).reshape(1, 3), float(size), (0,))


def layout_from_json(text: str) -> ChunkLayout:
    """The layout of a chunk_transforms.json; raises InputError where it is none."""
    try:
        chunks = json.loads(text)["chunks"]
        centers = np.array([chunk["crop_center"] for chunk in chunks], dtype=np.float64).reshape(-1, 3)
        size = float(chunks[0]["M_chunk_to_original"][0][0])
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError("This is no chunk_transforms.json; write one with the Chunk Planner.") from None
    if not (np.isfinite(centers).all() and size > 0 and 0 < len(centers) <= MAX_CHUNKS):
        raise InputError("The chunk layout has a size that is not above 0 or numbers that are not finite.")
    layered = bool(np.ptp(centers[:, 2]) > 1e-9)
    return ChunkLayout(centers, size, tuple(range(len(centers))), None, layered)
