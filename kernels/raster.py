"""Triangles to pixels: which face covers each pixel center, and where on it.

Pixels: (0, 0) is the top-left corner of the picture, the center of pixel (row i, column j) is (j + 0.5, i + 0.5).
A pixel belongs to every triangle that holds its center, borders included, in either winding; so two triangles that
share an edge never leave a gap. `rasterize_dense`, which tries every pixel, is the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..scene.errors import InputError
from . import backends

CHUNK = 1 << 20  # pixels tried at once
MAX_SIDE = 32768
Progress = Callable[[int, int], None]


class Fragments(NamedTuple):
    """What covers each pixel: face [H, W] int64 (-1: none) and weights [H, W, 3] of its corners, linear in the picture
    (0 where none)."""

    face: Tensor
    weights: Tensor


def rasterize(
    corners: Tensor,
    size: tuple[int, int],
    nearness: Tensor | None = None,
    *,
    backend: str = "auto",
    progress: Progress | None = None,
) -> Fragments:
    """The face at every pixel: the nearest, and of several the one that comes first.

    corners: [F, 3, 2] float, pixels; faces without area and corners that are not finite are left out. size: height,
    width. nearness: [F, 3], larger is nearer, linear in the picture (such as 1 / depth); None: all are equal. backend:
    "torch" (only the pixels of each row between the edges of a face), "nvdiffrast", or "auto" = the latter on CUDA
    where it is installed and agreed with the former. Weights have the dtype of `corners`. Raises InputError for other
    shapes.
    """
    height, width = _check(corners, size, nearness)
    if backend not in ("auto", "torch", "nvdiffrast"):
        raise InputError(f"`backend` is {backend!r}; rasterize knows 'auto', 'torch' and 'nvdiffrast'.")
    wanted = backend == "nvdiffrast" or (backend == "auto" and corners.is_cuda and nearness is None)
    if wanted and max(size) <= 2048 and backends.usable("nvdiffrast"):
        from .nvdiffrast_backend import rasterize_nvdiffrast

        return rasterize_nvdiffrast(corners, size)
    face = torch.full((height * width,), -1, dtype=torch.int64, device=corners.device)
    best = None if nearness is None else corners.new_full((height * width,), -torch.inf)
    kept = _usable_faces(corners, height, width)
    done, total = 0, len(kept)
    for part in _portions(corners, kept, height):
        for pixel, owner in _spans(corners, part, height, width):
            _deposit(corners, nearness, width, pixel, owner, face, best)
        done += len(part)
        if progress is not None:
            progress(done, total)
    return _finish(corners, face, height, width)


def rasterize_dense(corners: Tensor, size: tuple[int, int], nearness: Tensor | None = None) -> Fragments:
    """`rasterize` by trying every face at every pixel: the definition."""
    height, width = _check(corners, size, nearness)
    face = torch.full((height * width,), -1, dtype=torch.int64, device=corners.device)
    best = None if nearness is None else corners.new_full((height * width,), -torch.inf)
    pixels = torch.arange(height * width, device=corners.device)
    for number in range(len(corners)):
        if torch.isfinite(corners[number]).all():
            _deposit(corners, nearness, width, pixels, torch.full_like(pixels, number), face, best)
    return _finish(corners, face, height, width)


def _check(corners: Tensor, size: tuple[int, int], nearness: Tensor | None) -> tuple[int, int]:
    if corners.ndim != 3 or corners.shape[1:] != (3, 2) or not corners.is_floating_point():
        raise InputError(f"`corners` is {corners.dtype} {list(corners.shape)}; triangles are floats [F, 3, 2].")
    if nearness is not None and nearness.shape != corners.shape[:2]:
        raise InputError(f"`nearness` has shape {list(nearness.shape)}; it must be {list(corners.shape[:2])}.")
    height, width = size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"A picture of {width}x{height} pixels was asked for; a side has 1 to {MAX_SIDE}.")
    return height, width


def _usable_faces(corners: Tensor, height: int, width: int) -> Tensor:
    low, high = corners.amin(1), corners.amax(1)
    # a triangle that passes between all rows or all columns of pixel centers covers none
    first, last = (low - 0.5).ceil().clamp(min=0), (high - 0.5).floor()
    last = torch.minimum(last, last.new_tensor([width - 1, height - 1]))
    return torch.nonzero((first <= last).all(1) & torch.isfinite(low + high).all(1)).squeeze(1)


def _portions(corners: Tensor, kept: Tensor, height: int):
    """Faces in order, so many at a time that they cross about CHUNK rows of pixels."""
    low, high = corners[kept, :, 1].amin(1), corners[kept, :, 1].amax(1)
    rows = (high.clamp(max=height) - low.clamp(min=0) + 1).cumsum(0) / CHUNK
    at = rows.floor()
    edges = torch.nonzero(at[1:] != at[:-1]).squeeze(1) + 1 if len(at) else at
    return kept.tensor_split(edges.cpu()) if len(edges) else (kept,)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts [N]: the item [sum] each of its elements belongs to, and the number of the element in it."""
    item = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    start = counts.cumsum(0) - counts
    return item, torch.arange(len(item), device=counts.device) - start[item]


def _spans(corners: Tensor, part: Tensor, height: int, width: int):
    """Pixels that may be covered, as pairs (pixel, face): on each row those between the edges, one more at each end
    where rounding leaves it open."""
    shape = corners[part]
    y = shape[..., 1]
    first = (y.amin(1) - 0.5).ceil().clamp(min=0)
    last = (y.amax(1) - 0.5).floor().clamp(max=height - 1)
    face, step = _expand((last - first + 1).clamp(min=0).long())
    if not len(face):
        return
    row = first[face].long() + step
    level = row.to(shape.dtype) + 0.5
    left = torch.full_like(level, torch.inf)
    right = torch.full_like(level, -torch.inf)
    slack = 4 * max(width, height) * torch.finfo(shape.dtype).eps
    for i in range(3):
        (ax, ay), (bx, by) = shape[face, i].unbind(1), shape[face, (i + 1) % 3].unbind(1)
        rise = by - ay
        t = ((level - ay) / torch.where(rise == 0, 1.0, rise)).clamp(0, 1)
        x = ax + t * (bx - ax)
        touches = (torch.minimum(ay, by) <= level) & (level <= torch.maximum(ay, by))
        left = torch.where(touches, torch.minimum(left, torch.where(rise == 0, torch.minimum(ax, bx), x)), left)
        right = torch.where(touches, torch.maximum(right, torch.where(rise == 0, torch.maximum(ax, bx), x)), right)
    first = (left - 0.5 - slack).ceil().clamp(0, width)
    last = (right - 0.5 + slack).floor().clamp(-1, width - 1)
    counts = (last - first + 1).clamp(min=0).long()
    ends = counts.cumsum(0)
    start = 0
    while start < len(counts):  # a few rows of huge triangles at a time
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, before + 4 * CHUNK, right=True)))
        span, step = _expand(counts[start:stop])
        span = span + start
        yield row[span] * width + first[span].long() + step, part[face[span]]
        start = stop


def _edges(corners: Tensor, pixel: Tensor, owner: Tensor, width: int) -> Tensor:
    """Twice the areas [P, 3] of pixel center and the edges opposite to corners 0, 1, 2.

    The products are arranged so that an edge gives exactly the opposite number in the other direction: a center on the
    edge of one triangle is never lost between the two.
    """
    x = (pixel % width).to(corners.dtype) + 0.5
    y = torch.div(pixel, width, rounding_mode="floor").to(corners.dtype) + 0.5
    shape = corners[owner]
    dx, dy = shape[..., 0] - x[:, None], shape[..., 1] - y[:, None]
    return torch.stack([dx[:, i] * dy[:, j] - dy[:, i] * dx[:, j] for i, j in ((1, 2), (2, 0), (0, 1))], 1)


def _deposit(corners, nearness, width, pixel, owner, face, best) -> None:
    """Put the covered ones of the pairs (pixel, owner) into `face`, where they are nearer than `best`."""
    areas = _edges(corners, pixel, owner, width)
    total = areas.sum(1)
    covered = ((areas >= 0).all(1) | (areas <= 0).all(1)) & (total != 0)
    pixel, owner = pixel[covered], owner[covered]
    last = torch.iinfo(torch.int64).max
    if best is None:
        taken = torch.where(face[pixel] < 0, last, face[pixel])
        face[pixel] = taken
        face.scatter_reduce_(0, pixel, owner, "amin")
        return
    weights = areas[covered] / total[covered, None]
    near = (weights * nearness[owner].to(weights.dtype)).sum(1)
    most = best.scatter_reduce(0, pixel, near, "amax")
    face[most > best] = last
    best.copy_(most)
    winner = (near == most[pixel]) & (near > -torch.inf)
    face.scatter_reduce_(0, pixel[winner], owner[winner], "amin")


def _finish(corners: Tensor, face: Tensor, height: int, width: int) -> Fragments:
    weights = corners.new_zeros(height * width, 3)
    for part in torch.nonzero(face >= 0).squeeze(1).split(CHUNK):
        areas = _edges(corners, part, face[part], width)
        weights[part] = areas / areas.sum(1, keepdim=True)
    return Fragments(face.view(height, width), weights.view(height, width, 3))
