"""Which Gaussian touches which tile of the image: exact lists, front to back."""
from typing import NamedTuple

import torch
from torch import Tensor

from .projection import ALPHA_MIN, Projected


class TileLists(NamedTuple):
    """Every (tile, Gaussian) pair that can matter, tile after tile, each tile front to back.

    Tiles of all images are numbered together: image * (tiles_y * tiles_x) + row * tiles_x + column.
    """

    item: Tensor      # [pairs] int64: index into the flattened [images * N] Gaussians
    start: Tensor     # [tiles] int64: where the list of a tile begins in `item`
    length: Tensor    # [tiles] int64
    tiles_x: int
    tiles_y: int


def expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts [M] return, for each of sum(counts) elements, its owner in 0..M-1 and its place 0..count-1."""
    owner = torch.repeat_interleave(counts)
    first = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(owner.shape[0], device=counts.device) - first[owner]


def tile_lists(projected: Projected, opacities: Tensor, width: int, height: int, tile: int) -> TileLists:
    """List, per tile x tile pixels, the Gaussians whose alpha reaches 1/255 at some pixel center row of the tile.

    projected: [images, N] each; opacities [images, N]. The test is the ellipse alpha >= 1/255 against each row of
    tiles, widened by a little more than the rounding error, so a list never misses a contribution.
    """
    device = projected.x.device
    images, count = projected.x.shape
    tiles_x, tiles_y = -(-width // tile), -(-height // tile)
    tiles = images * tiles_x * tiles_y
    with torch.no_grad():
        keep = projected.visible.reshape(-1).nonzero().squeeze(-1)
        depth = projected.depth.reshape(-1)[keep].float().contiguous()
        # Positive floats order like their bit patterns, and integers sort quicker. Ties stay in index order.
        keep = keep[torch.sort(depth.view(torch.int32), stable=True).indices]
        x, y, xx, xy, yy, det = (t.reshape(-1)[keep] for t in projected[:6])
        level = 2.0 * torch.log(opacities.reshape(-1)[keep] / ALPHA_MIN).clamp(min=0) * 1.0001 + 1e-3

        extent_y = (level * yy).sqrt()
        extent_x = (level * xx).sqrt()
        first, last = _pixel_range(y - extent_y, y + extent_y, height, tile)
        owner, place = expand((last - first + 1).clamp(min=0))
        row = first[owner] + place
        # The band of pixel centers of this row of tiles, relative to the center of the ellipse.
        x, extent_x, extent_y, slope = x[owner], extent_x[owner], extent_y[owner], (xy / yy)[owner]
        top = (row * tile + 0.5 - y[owner]).clamp(min=-extent_y)
        bottom = ((row + 1) * tile - 0.5 - y[owner]).clamp(max=extent_y)
        tangent = (xy / xx)[owner] * extent_x          # the height at which the ellipse is widest to the right
        half = ((det / yy) * level)[owner]             # squared half width at the height of the center
        inv = 1.0 / extent_y.square()
        at = torch.minimum(torch.maximum(tangent, top), bottom)
        right = x + slope * at + (half * (1.0 - at.square() * inv).clamp(min=0)).sqrt()
        at = torch.minimum(torch.maximum(-tangent, top), bottom)
        left = x + slope * at - (half * (1.0 - at.square() * inv).clamp(min=0)).sqrt()
        first, last = _pixel_range(left, right, width, tile)

        counts = (last - first + 1).clamp(min=0)
        image = torch.div(keep, max(count, 1), rounding_mode="floor")[owner]
        base = (image * tiles_y + row) * tiles_x + first
        pair, place = expand(counts)
        key, order = torch.sort((base.to(torch.int32)[pair] + place).to(torch.int32), stable=True)
        item = keep[owner][pair][order]
        bounds = torch.searchsorted(key, torch.arange(tiles + 1, device=device, dtype=torch.int32))
        return TileLists(item, bounds[:-1], bounds[1:] - bounds[:-1], tiles_x, tiles_y)


def _pixel_range(low: Tensor, high: Tensor, size: int, tile: int) -> tuple[Tensor, Tensor]:
    """First and last tile whose pixel centers fall into [low, high], clipped to the image (first > last: none)."""
    slack = 1e-3
    low = torch.ceil(low - 0.5 - slack).clamp(0, size)
    high = torch.floor(high - 0.5 + slack).clamp(-1, size - 1)
    first = torch.div(low.long(), tile, rounding_mode="floor")
    last = torch.div(high.long(), tile, rounding_mode="floor")
    return first, torch.where(high < low, first - 1, last)
