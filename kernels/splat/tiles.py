"""Which Gaussian touches which tile of the image: exact lists, front to back.

A Gaussian matters where its alpha reaches 1/255: inside an ellipse. For every row of tiles the ellipse crosses, the
columns of tiles it covers there follow in closed form, so the lists hold no pair for the empty corners of a bounding
box. Where an image has more pairs than memory should hold, it is cut into bands of tile rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .projection import ALPHA_MIN, Projected

_SLACK = 1e-3  # pixels by which the ellipses are widened: more than rounding takes away


class Footprints(NamedTuple):
    """The visible Gaussians of all images [M], nearest first, as ellipses; tile rows count through all images."""

    item: Tensor  # int64: index into the flattened [images * N] Gaussians
    x: Tensor  # center, pixels
    y: Tensor
    slope: Tensor  # how far the middle of the ellipse moves right for each pixel down
    extent_y: Tensor  # half height
    tangent: Tensor  # height, from the center, at which the ellipse is farthest right
    half: Tensor  # squared half width at the height of the center
    origin: Tensor  # int64: number of the first tile row of its image
    first: Tensor  # int64: first and last tile row within the image
    last: Tensor
    columns: Tensor  # int64: tile columns of the bounding box


class TileLists(NamedTuple):
    """Every (tile, Gaussian) pair that can matter, tile after tile, each tile nearest first."""

    item: Tensor  # [pairs] int64: index into the flattened [images * N] Gaussians
    start: Tensor  # [tiles] int64: where the list of a tile begins in `item`
    length: Tensor  # [tiles] int64


def footprints(projected: Projected, opacities: Tensor, width: int, height: int, tile: int) -> Footprints:
    """Ellipses of the visible Gaussians; projected and opacities are [images, N] each."""
    count = projected.x.shape[1]
    item = projected.visible.reshape(-1).nonzero().squeeze(-1)
    depth = projected.depth.reshape(-1)[item]
    if depth.dtype == torch.float32:
        depth = depth.view(torch.int32)  # positive floats order like their bit patterns; integers sort quicker
    item = item[torch.sort(depth, stable=True).indices]  # ties stay in index order
    x, y, xx, xy, yy, det = (t.reshape(-1)[item] for t in projected[:6])
    level = 2.0 * torch.log(opacities.reshape(-1)[item] / ALPHA_MIN).clamp(min=0) * 1.0001 + 1e-3
    extent_x, extent_y = (level * xx).sqrt(), (level * yy).sqrt()
    first, last = _covered(y - extent_y, y + extent_y, height, tile)
    left, right = _covered(x - extent_x, x + extent_x, width, tile)
    image = torch.div(item, max(count, 1), rounding_mode="floor")
    return Footprints(
        item,
        x,
        y,
        xy / yy,
        extent_y,
        xy / xx * extent_x,
        det / yy * level,
        image * tile_count(height, tile),
        first,
        last,
        (right - left + 1).clamp(min=0),
    )


def tile_count(size: int, tile: int) -> int:
    """Tiles needed to cover `size` pixels."""
    return -(-size // tile)


def bands(prints: Footprints, rows: int, limit: int) -> list[tuple[int, int]]:
    """Cut all tile rows of all images into runs of at most `limit` pairs (a run is at least one row)."""
    steps = prints.columns.new_zeros(rows + 1)
    count = prints.columns * (prints.last >= prints.first)
    steps.index_add_(0, prints.origin + prints.first, count)
    steps.index_add_(0, prints.origin + prints.last + 1, -count)
    found, begin, total = [], 0, 0
    for row, pairs in enumerate(torch.cumsum(steps[:rows], 0).tolist()):
        if total and total + pairs > limit:
            found.append((begin, row))
            begin, total = row, 0
        total += pairs
    return [*found, (begin, rows)]


def tile_lists(prints: Footprints, band: tuple[int, int], width: int, tile: int) -> TileLists:
    """The lists of the tiles in the tile rows [band[0], band[1]), row by row."""
    columns = tile_count(width, tile)
    first = torch.maximum(prints.origin + prints.first, prints.origin.new_tensor(band[0]))
    last = torch.minimum(prints.origin + prints.last, prints.origin.new_tensor(band[1] - 1))
    owner, place = _expand((last - first + 1).clamp(min=0))
    row = first[owner] + place
    x, y, slope, extent_y, tangent, half, origin = (t[owner] for t in prints[1:8])
    # The pixel centers of this row of tiles, relative to the center of the ellipse.
    top = (row - origin) * tile + 0.5 - y
    bottom = torch.minimum(top + (tile - 1), extent_y)
    top = torch.maximum(top, -extent_y)
    middle, squeeze = x, 1.0 / extent_y.square()
    at = torch.minimum(torch.maximum(tangent, top), bottom)
    right = middle + slope * at + (half * (1.0 - at.square() * squeeze).clamp(min=0)).sqrt()
    at = torch.minimum(torch.maximum(-tangent, top), bottom)
    left = middle + slope * at - (half * (1.0 - at.square() * squeeze).clamp(min=0)).sqrt()
    first, last = _covered(left, right, width, tile)

    owner_of, place = _expand((last - first + 1).clamp(min=0))
    key = ((row - band[0]) * columns + first)[owner_of] + place
    key, order = torch.sort(key.to(torch.int32), stable=True)
    item = prints.item[owner][owner_of][order]
    length = torch.bincount(key, minlength=(band[1] - band[0]) * columns)
    return TileLists(item, torch.cumsum(length, 0) - length, length)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts [M] return, for each of sum(counts) elements, its owner in 0..M-1 and its place 0..count-1."""
    owner = torch.repeat_interleave(counts)
    first = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(owner.shape[0], device=counts.device) - first[owner]


def _covered(low: Tensor, high: Tensor, size: int, tile: int) -> tuple[Tensor, Tensor]:
    """First and last tile with pixel centers in [low, high], clipped to the image (last < first: none)."""
    low = torch.ceil(low - (0.5 + _SLACK)).clamp(0, size)
    high = torch.floor(high - (0.5 - _SLACK)).clamp(-1, size - 1)
    first = torch.div(low, tile, rounding_mode="floor").long()
    last = torch.div(high, tile, rounding_mode="floor").long()
    return first, torch.where(high < low, first - 1, last)
