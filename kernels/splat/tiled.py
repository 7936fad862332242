"""The tile-culled, differentiable splat rasteriser in torch: CPU, CUDA and MPS, no compiled code.

The images of all scenes and views are cut into tiles together. The depth-sorted lists of the tiles (`tiles.py`) are
walked front to back in chunks of Gaussians (`blend.py`); tiles whose pixels are all saturated drop out.
"""

import torch
from torch import Tensor

from .blend import CHUNK, EXPONENT_SCALE, GEOMETRY, NOTHING, Blend, Plan
from .projection import ALPHA_MIN, Projected
from .tiles import bands, footprints, tile_count, tile_lists


def rasterize_tiled(
    projected: Projected,
    opacities: Tensor,
    features: Tensor,
    width: int,
    height: int,
    tile: int | None = None,
    pairs: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians front to back, tile by tile; same result as `rasterize_dense`.

    projected: [..., V, N]; opacities [..., N]; features [..., V, N, C]. `tile`: side in pixels; `pairs`: the most
    (tile, Gaussian) pairs held at once (both None: what suits the device). Returns blended features [..., V, H, W, C],
    premultiplied, and alpha [..., V, H, W]. Differentiable with an analytic backward pass.
    """
    lead = projected.x.shape[:-1]
    count, channels = projected.x.shape[-1], features.shape[-1]
    images = lead.numel()
    opacity = opacities.unsqueeze(-2).expand(*lead, count).reshape(images, count)
    flat = Projected(*(t.reshape(images, count) for t in projected))
    on_cpu = flat.x.device.type == "cpu"
    tile = tile or (8 if on_cpu else 16)
    pairs = pairs or (1 << 22 if on_cpu else 1 << 25)
    step = max(1, (1 << 18 if on_cpu else 1 << 24) // (tile * tile * CHUNK))  # tiles in a block

    det, yy = flat.det, flat.yy
    p = (EXPONENT_SCALE * yy / det).sqrt()
    exponent = torch.log2(opacity.clamp(min=ALPHA_MIN))
    table = torch.stack([flat.x, flat.y, p, -p * flat.xy / yy, EXPONENT_SCALE / yy, exponent])
    table = torch.cat([table.reshape(GEOMETRY, -1), features.reshape(images * count, channels).t()])
    padding = table.new_zeros(table.shape[0], 1)
    padding[GEOMETRY - 1] = NOTHING
    table = torch.cat([table, padding], 1)  # the last column is the padding entry

    tiles_x, tiles_y = tile_count(width, tile), tile_count(height, tile)
    with torch.no_grad():
        prints = footprints(flat, opacity, width, height, tile)
        cuts = bands(prints, images * tiles_y, pairs)
    save = len(cuts) == 1  # what takes several bands is too large to keep weights for
    blended = []
    for band in cuts:
        with torch.no_grad():
            lists = tile_lists(prints, band, width, tile)
            plan = Plan(lists, band, (tiles_x, tiles_y), tile, images * count, step, save, table.dtype)
        blended.append(Blend.apply(table, plan))
    blended = torch.cat(blended).reshape(images, tiles_y, tiles_x, channels + 1, tile, tile)
    blended = blended.permute(0, 1, 4, 2, 5, 3).reshape(images, tiles_y * tile, tiles_x * tile, channels + 1)
    blended = blended[:, :height, :width].reshape(*lead, height, width, channels + 1)
    return blended[..., :-1], blended[..., -1]
