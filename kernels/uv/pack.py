"""Packing charts into a square: each is dropped, in the better of four rotations, onto the skyline of those below it.

Charts keep their own outlines (not boxes), so that they lie in each other's hollows. The scale is the largest found
with which all fit; it is the same for every chart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...scene.errors import InputError

Progress = Callable[[int, int], None]
ANGLES = 24  # tried over a quarter turn for the smallest box
CELLS = 1024  # columns of the skyline at most
ROUNDS = 6  # scales tried
MANY = 4000  # charts from which fewer scales and rotations are tried


class Packed(NamedTuple):
    """uv [V, 2] in [0, 1], and fill: the share of the square that charts cover."""

    uv: np.ndarray
    fill: float


def uv_areas(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed areas [F] of faces in the plane of u and v, positive where u turns to v the short way."""
    a, b, c = (uv[faces[:, i]] for i in range(3))
    return 0.5 * ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))


def pack_charts(
    uv: np.ndarray,
    chart: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    padding: float,
    progress: Progress | None = None,
) -> Packed:
    """Charts side by side in [0, 1]^2, at least `padding` texels of a texture of `resolution` texels apart.

    uv: [V, 2], any scale and place, one scale for all charts; chart: [V] 0..C-1; faces: [F, 3]. progress(done, total)
    counts charts. Raises InputError where the padding alone fills the texture.
    """
    count = int(chart.max()) + 1
    uv = _upright(uv.astype(np.float64), chart, count)
    outline = _border(uv, faces)
    area = np.abs(uv_areas(uv, faces)).sum()
    cells = min(resolution, CELLS)
    pad = padding / 2 * cells / resolution
    many = count > MANY
    turns = 1 if many else 4
    rounds = 3 if many else ROUNDS
    low, high = uv_boxes(uv, chart, count)
    sides = (high - low).max(1)
    if (2 * pad) ** 2 * count > 0.5 * cells**2:
        raise InputError(
            f"{count} charts with {padding:g} texels between them do not fit into {resolution} texels;"
            " a larger texture, less padding or fewer pieces would work."
        )
    # a chart of area a and its margin need about (sqrt(a) s + 2 pad)^2 cells; start where they fill 0.75 of the square
    root = math.sqrt(area)
    edge = np.sqrt(np.maximum((high - low).prod(1), 1e-30)).sum()
    quarter = 4 * pad * edge
    rest = 4 * pad * pad * count - 0.75 * cells**2
    scale = (-quarter + math.sqrt(max(quarter**2 - 4 * root**2 * rest, 0))) / (2 * root**2) if root > 0 else 1.0
    scale = min(max(scale, 1e-12), (cells - 2 * pad - 2) / max(sides.max(), 1e-30))
    best, done = None, 0

    def tick(number: int) -> None:
        if progress is not None and number % 32 == 0:
            progress(min(done * count + number, rounds * count), rounds * count)

    largest = (cells - 2 * pad - 2) / max(sides.max(), 1e-30)  # of which the longest chart just fits
    least, most = 0.0, math.inf
    while best is None or (done < rounds and most / least > 1.01):
        placed = _drop(outline, chart, count, uv, scale, cells, pad, turns, tick)
        done += 1
        height = placed.height if placed is not None else 1.5 * cells
        guess = scale * math.sqrt(cells / max(height, 1))
        if height <= cells:
            least, best = scale, (placed, scale)
            if scale >= largest:
                break
            wanted = max(guess, scale * 1.01) if math.isinf(most) else math.sqrt(least * most)
        else:
            most = scale
            wanted = min(guess, scale * 0.98) if best is None else math.sqrt(least * most)
        scale = min(wanted, largest)
    placed, scale = best
    out = _rotated(uv - low[chart], high[chart] - low[chart], placed.turn[chart]) * scale + placed.offset[chart]
    return Packed(np.clip(out / cells, 0, 1).astype(np.float32), float(area * scale**2 / cells**2))


def uv_boxes(uv: np.ndarray, chart: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest uv [C, 2] of every chart."""
    order = np.argsort(chart, kind="stable")
    start = np.searchsorted(chart[order], np.arange(count))
    return np.minimum.reduceat(uv[order], start), np.maximum.reduceat(uv[order], start)


def _upright(uv: np.ndarray, chart: np.ndarray, count: int) -> np.ndarray:
    """Every chart turned so that its box is smallest, the longer side along v."""
    angle = np.arange(ANGLES) * (math.pi / 2 / ANGLES)
    order = np.argsort(chart, kind="stable")
    start = np.searchsorted(chart[order], np.arange(count))
    inner = uv[order]
    best, size = np.zeros(count), np.full(count, np.inf)
    for a in angle:
        c, s = math.cos(a), math.sin(a)
        x, y = inner[:, 0] * c - inner[:, 1] * s, inner[:, 0] * s + inner[:, 1] * c
        w = np.maximum.reduceat(x, start) - np.minimum.reduceat(x, start)
        h = np.maximum.reduceat(y, start) - np.minimum.reduceat(y, start)
        better = w * h < size
        size = np.where(better, w * h, size)
        best = np.where(better, np.where(w > h, a + math.pi / 2, a), best)
    c, s = np.cos(best)[chart], np.sin(best)[chart]
    return np.stack([uv[:, 0] * c - uv[:, 1] * s, uv[:, 0] * s + uv[:, 1] * c], 1)


def _border(uv: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Edges [E, 2] (vertices) that belong to one face only: the outlines of charts."""
    n = len(uv)
    a, b = faces.reshape(-1).astype(np.int64), faces[:, [1, 2, 0]].reshape(-1).astype(np.int64)
    key = np.minimum(a, b) * n + np.maximum(a, b)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    fresh = np.ones(len(key) + 1, bool)
    fresh[1:-1] = ordered[1:] != ordered[:-1]
    alone = order[fresh[:-1] & fresh[1:]]
    return np.stack([a[alone], b[alone]], 1)


def _rotated(uv: np.ndarray, size: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """uv [V, 2] in a box from 0 to `size` [V, 2], turned by `turn` [V] quarters; the box still begins at 0."""
    (x, y), (w, h) = uv.T, size.T
    return np.stack(
        [np.choose(turn, [x, h - y, w - x, y]), np.choose(turn, [y, x, h - y, w - x])],
        1,
    )


class _Placed(NamedTuple):
    offset: np.ndarray  # [C, 2] cells
    turn: np.ndarray  # [C] quarters
    height: int


def _profiles(outline, chart, count, uv, low, size, scale, pad, turn):
    """For every chart turned by `turn` quarters: first column [C] in one long list, and per column the lowest and the
    highest cell it needs, margin included."""
    place = _rotated(uv - low[chart], size[chart], np.full(len(chart), turn)) * scale + pad
    extent = size if turn % 2 == 0 else size[:, ::-1]
    widths = np.ceil(extent[:, 0] * scale + 2 * pad).astype(np.int64)
    widths = np.maximum(widths, 1)
    start = np.cumsum(widths) - widths
    total = int(widths.sum())
    bottom, top = np.full(total, np.inf), np.full(total, -np.inf)
    ends = place[outline]  # [E, 2, 2]
    owner = chart[outline[:, 0]]
    swap = ends[:, 0, 0] > ends[:, 1, 0]
    ends[swap] = ends[swap][:, ::-1]
    (x0, y0), (x1, y1) = ends[:, 0].T, ends[:, 1].T
    # the margin widens an edge to both sides
    first = np.floor(x0 - pad).astype(np.int64).clip(0)
    last = np.minimum(np.floor(x1 + pad).astype(np.int64), widths[owner] - 1)
    counts = np.maximum(last - first + 1, 0)
    edge = np.repeat(np.arange(len(first)), counts)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    rise = (y1 - y0) / np.maximum(x1 - x0, 1e-12)
    left = np.clip(column - pad, x0[edge], x1[edge])
    right = np.clip(column + 1 + pad, x0[edge], x1[edge])
    ya = np.where(x1[edge] - x0[edge] < 1e-9, y0[edge], y0[edge] + rise[edge] * (left - x0[edge]))
    yb = np.where(x1[edge] - x0[edge] < 1e-9, y1[edge], y0[edge] + rise[edge] * (right - x0[edge]))
    slot = start[owner[edge]] + column
    order = np.argsort(slot, kind="stable")
    slot, ya, yb = slot[order], ya[order], yb[order]
    if len(slot):
        heads = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
        bottom[slot[heads]] = np.minimum.reduceat(np.minimum(ya, yb), heads) - pad
        top[slot[heads]] = np.maximum.reduceat(np.maximum(ya, yb), heads) + pad
    hole = ~np.isfinite(bottom)  # a column without an outline: take the whole box
    box = np.repeat(extent[:, 1] * scale + 2 * pad, widths)
    bottom[hole], top[hole] = 0, box[hole]
    return start, widths, np.floor(bottom).clip(0).astype(np.int32), np.ceil(top).astype(np.int32)


def _drop(outline, chart, count, uv, scale, cells, pad, turns, tick) -> _Placed | None:
    low, high = uv_boxes(uv, chart, count)
    size = high - low
    profiles = [_profiles(outline, chart, count, uv, low, size, scale, pad, turn) for turn in range(turns)]
    sky = np.zeros(cells, np.int32)
    offset, turned = np.zeros((count, 2)), np.zeros(count, np.int64)
    order = np.argsort(-size.sum(1), kind="stable")
    limit = int(1.5 * cells)
    for number, c in enumerate(order):
        tick(number)
        best = None
        for turn, (start, widths, bottom, top) in enumerate(profiles):
            w = int(widths[c])
            if w > cells:
                continue
            under, over = bottom[start[c] : start[c] + w], top[start[c] : start[c] + w]
            level = np.ndarray((cells - w + 1, w), sky.dtype, sky, strides=2 * sky.strides)  # all windows of w columns
            rest = (level - under).max(1)
            at = int(rest.argmin())
            y = int(rest[at])
            # low down, and with little space lost below
            score = y + float((y + under - level[at]).sum()) / w
            if best is None or score < best[0]:
                best = (score, at, y, turn, over)
        if best is None or best[2] > limit:
            return None
        _, x, y, turn, over = best
        sky[x : x + len(over)] = np.maximum(sky[x : x + len(over)], y + over)
        offset[c], turned[c] = (x + pad, y + pad), turn
    return _Placed(offset, turned, int(sky.max()))
