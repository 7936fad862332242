"""The tile-culled, differentiable splat rasteriser in torch: CPU, CUDA and MPS, no compiled code.

The images of all scenes and views are cut into tiles together. The depth-sorted lists of the tiles are walked front to
back in chunks of Gaussians; tiles whose pixels are all saturated drop out. Within a chunk everything is a dense block
[pixels of a tile, tiles, Gaussians of the chunk], small enough to stay in the cache, and the two sums (over Gaussians
for the color, over pixels for the gradients) are matrix products.

The exponent is written in base 2 and as a sum of squares,
    log2(alpha) = e - (p*dx + q*dy)^2 - r*dy^2,
which neither cancels nor becomes positive: p = sqrt(k*xx_inv), q/p = -xy/yy, r = k/yy with k = log2(e)/2.
"""
import math

import torch
from torch import Tensor

from .projection import ALPHA_MAX, ALPHA_MIN, T_STOP, Projected
from .tiles import tile_lists

_K = 0.5 * math.log2(math.e)
_LN2 = math.log(2.0)
_GEOMETRY = 6                       # rows of the table before the features: x, y, p, q, r, e
_NOTHING = -1e4                     # log2 of the opacity of a padding entry
_SAVE_BYTES = 256 << 20             # weights are kept for the backward pass up to here, recomputed beyond


def rasterize_tiled(projected: Projected, opacities: Tensor, features: Tensor, width: int, height: int,
                    tile: int | None = None, chunk: int | None = None, block: int | None = None
                    ) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians front to back, tile by tile; same result as `rasterize_dense`.

    projected: [..., V, N]; opacities [..., N]; features [..., V, N, C]. Returns blended features [..., V, H, W, C],
    premultiplied, and alpha [..., V, H, W]. Differentiable with an analytic backward pass.
    """
    lead = projected.x.shape[:-1]
    count, channels = projected.x.shape[-1], features.shape[-1]
    images = lead.numel()
    opacity = opacities.unsqueeze(-2).expand(*lead, count).reshape(images, count)
    flat = Projected(*(t.reshape(images, count) for t in projected))
    on_cpu = flat.x.device.type == "cpu"
    tile = tile or (8 if on_cpu else 16)
    lists = tile_lists(flat, opacity, width, height, tile)

    yy, det = flat.yy, flat.det
    p = (_K * yy / det).sqrt()
    exponent = torch.log2(opacity.clamp(min=ALPHA_MIN))
    table = torch.stack([flat.x, flat.y, p, -p * flat.xy / yy, _K / yy, exponent])
    table = torch.cat([table.reshape(_GEOMETRY, -1), features.reshape(images * count, channels).t()])
    padding = table.new_zeros(table.shape[0], 1)
    padding[_GEOMETRY - 1] = _NOTHING
    table = torch.cat([table, padding], 1)                           # the last column is the padding entry

    chunk = chunk or 32
    block = block or (1 << 17 if on_cpu else 1 << 24)
    blended = _Blend.apply(table, lists, tile, chunk, max(1, block // (tile * tile * chunk)))
    blended = blended.reshape(images, lists.tiles_y, lists.tiles_x, channels + 1, tile, tile)
    blended = blended.permute(0, 1, 4, 2, 5, 3).reshape(images, lists.tiles_y * tile, lists.tiles_x * tile, channels + 1)
    blended = blended[:, :height, :width].reshape(*lead, height, width, channels + 1)
    return blended[..., :-1], blended[..., -1]


class _Scratch:
    """The work arrays of one pass, allocated once and cut to the size of each block."""

    def __init__(self, table: Tensor, names: int):
        self.table, self.buffers = table, [None] * names

    def get(self, name: int, *shape: int) -> Tensor:
        size = math.prod(shape)
        buffer = self.buffers[name]
        if buffer is None or buffer.numel() < size:
            buffer = self.buffers[name] = self.table.new_empty(size)
        return buffer[:size].view(shape)


class _Grid:
    """Tile geometry: the origin of every tile and the pixel centers within one."""

    def __init__(self, table: Tensor, lists, tile: int):
        index = torch.arange(lists.start.shape[0], device=table.device)
        index = index % (lists.tiles_x * lists.tiles_y)
        row = torch.div(index, lists.tiles_x, rounding_mode="floor")
        half = 0.5 * tile
        # Coordinates are relative to the center of the tile, where float32 has digits to spare.
        self.center_x = (index - row * lists.tiles_x).to(table.dtype) * tile + half
        self.center_y = row.to(table.dtype) * tile + half
        self.offset = torch.arange(tile, device=table.device, dtype=table.dtype) + (0.5 - half)


def _gather(table: Tensor, lists, grid: _Grid, tiles: Tensor, first: int, chunk: int):
    """The Gaussians first..first+chunk of each tile's list: (indices [M], table columns [F, M], tile-relative x, y)."""
    place = torch.arange(first, first + chunk, device=table.device)
    index = lists.start[tiles, None] + place
    index = lists.item[index.clamp_(max=lists.item.shape[0] - 1)]
    index = torch.where(place < lists.length[tiles, None], index, table.shape[1] - 1).reshape(-1)
    columns = table.index_select(1, index)
    shape = (tiles.shape[0], chunk)
    x = (columns[0].view(shape) - grid.center_x[tiles, None]).reshape(-1)
    y = (columns[1].view(shape) - grid.center_y[tiles, None]).reshape(-1)
    return index, columns, x, y


def _weights(columns: Tensor, x: Tensor, y: Tensor, offset: Tensor, light: Tensor, chunk: int, clamp: bool,
             scratch: _Scratch, ratio: Tensor, weight: Tensor) -> Tensor:
    """Blend weights of one block.

    columns [F, M] table entries, x, y [M] tile-relative centers, light [P, tiles] what reaches the first Gaussian.
    Writes ratio = alpha / (1 - alpha) and weight = alpha * T, both [P, M]; returns the light left, [P, tiles].
    """
    side, size = offset.shape[0], x.shape[0]
    p, q, r, e = columns[2:_GEOMETRY]
    dx = torch.sub(offset[:, None], x, out=scratch.get(2, side, size)).mul_(p)
    dy = torch.sub(offset[:, None], y, out=scratch.get(3, side, size))
    down = torch.mul(dy, q, out=scratch.get(4, side, size))
    top = dy.square_().mul_(r).neg_().add_(e)
    alpha = ratio.view(side, side, size)
    torch.add(down[:, None], dx[None], out=alpha)
    torch.addcmul(top[:, None], alpha, alpha, value=-1, out=alpha)
    alpha.exp2_()
    if clamp:
        alpha.clamp_(max=ALPHA_MAX)
    torch.nn.functional.threshold_(alpha, _BELOW_ALPHA_MIN, 0.0)
    through = torch.sub(_ONE, ratio, out=scratch.get(7, *ratio.shape))
    ratio.div_(through)
    by_tile = through.view(side * side, -1, chunk)
    by_tile[:, :, 0].mul_(light)
    after = torch.cumprod(by_tile, -1, out=by_tile)
    left = after[:, :, -1].clone()
    if float(left.min()) <= T_STOP:
        live = torch.sub(through, T_STOP, out=weight).mul_(1e30).clamp_(0, 1)
        ratio.mul_(live)
    torch.mul(ratio, through, out=weight)
    return left


_ONE = torch.tensor(1.0)
_BELOW_ALPHA_MIN = float(torch.nextafter(torch.tensor(ALPHA_MIN), torch.tensor(0.0)))


class _Blend(torch.autograd.Function):
    """table [6 + C, items + 1] -> blended features and alpha [tiles, C + 1, tile * tile]."""

    @staticmethod
    def forward(ctx, table, lists, tile, chunk, step):
        tiles, channels = lists.start.shape[0], table.shape[0] - _GEOMETRY
        pixels = tile * tile
        grid = _Grid(table, lists, tile)
        out = table.new_zeros(tiles, channels + 1, pixels)
        light = table.new_ones(pixels, tiles)
        clamp = bool((table[_GEOMETRY - 1] > math.log2(ALPHA_MAX)).any())
        saved, budget = [], _SAVE_BYTES // 4 if ctx.needs_input_grad[0] else 0
        scratch = _Scratch(table, 8)
        length, active = torch.sort(lists.length, descending=True)
        first = 0
        while True:
            active = active[length > first]
            if first:
                active = active[(light > T_STOP).any(0)[active]]
            length = lists.length[active]
            if active.shape[0] == 0:
                break
            for group in active.split(step):
                index, columns, x, y = _gather(table, lists, grid, group, first, chunk)
                size = pixels * index.shape[0]
                if 2 * size <= budget:
                    ratio, weight = table.new_empty(pixels, index.shape[0]), table.new_empty(pixels, index.shape[0])
                else:
                    ratio = scratch.get(0, pixels, index.shape[0])
                    weight = scratch.get(1, pixels, index.shape[0])
                before = light[:, group]
                left = _weights(columns, x, y, grid.offset, before, chunk, clamp, scratch, ratio, weight)
                light[:, group] = left
                feature = torch.ones(group.shape[0], channels + 1, chunk, device=table.device, dtype=table.dtype)
                feature[:, :channels] = columns[_GEOMETRY:].view(channels, -1, chunk).transpose(0, 1)
                out.index_add_(0, group, feature @ weight.view(pixels, -1, chunk).permute(1, 2, 0))
                if ctx.needs_input_grad[0]:
                    if 2 * size <= budget:
                        budget -= 2 * size
                        saved.append((first, group, index, columns, x, y, feature, None, ratio, weight))
                    else:
                        saved.append((first, group, None, None, None, None, None, before, None, None))
            first += chunk
        ctx.args = lists, grid, tile, chunk, clamp, saved
        ctx.save_for_backward(table)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        (table,) = ctx.saved_tensors
        lists, grid, tile, chunk, clamp, saved = ctx.args
        tiles, channels = lists.start.shape[0], table.shape[0] - _GEOMETRY
        pixels = tile * tile
        grad = torch.zeros_like(table)
        grad_out = grad_out.contiguous()
        behind = table.new_zeros(pixels, tiles)      # sum of weight * (feature . grad) over what lies behind
        scratch = _Scratch(table, 8)
        strict = torch.ones(chunk, chunk, device=table.device, dtype=table.dtype).tril(-1)
        px, py = grid.offset.repeat(tile), grid.offset.repeat_interleave(tile)
        basis = torch.stack([torch.ones_like(px), px, py, px * px, px * py, py * py])
        edge = ALPHA_MAX / (1.0 - ALPHA_MAX) * (1 - 1e-6)
        for first, group, index, columns, x, y, feature, before, ratio, weight in reversed(saved):
            if index is None:
                index, columns, x, y = _gather(table, lists, grid, group, first, chunk)
                ratio = scratch.get(0, pixels, index.shape[0])
                weight = scratch.get(1, pixels, index.shape[0])
                _weights(columns, x, y, grid.offset, before, chunk, clamp, scratch, ratio, weight)
                feature = torch.ones(group.shape[0], channels + 1, chunk, device=table.device, dtype=table.dtype)
                feature[:, :channels] = columns[_GEOMETRY:].view(channels, -1, chunk).transpose(0, 1)
            size = index.shape[0]
            grad_pixels = grad_out[group]                                            # [tiles, C + 1, P]
            gain = torch.bmm(grad_pixels.transpose(1, 2), feature)                   # [tiles, P, chunk]
            along = scratch.get(5, pixels, size)
            by_tile = weight.view(pixels, -1, chunk)
            torch.mul(by_tile, gain.transpose(0, 1), out=along.view(pixels, -1, chunk))
            rest = torch.mm(along.view(-1, chunk), strict, out=scratch.get(6, pixels * group.shape[0], chunk))
            rest = rest.view(pixels, -1, chunk)
            carried = behind[:, group]
            rest.add_(carried[:, :, None])
            behind[:, group] = rest[:, :, 0] + along.view(pixels, -1, chunk)[:, :, 0]
            slope = torch.addcmul(along, ratio, rest.view(pixels, size), value=-1, out=along)
            if clamp:
                slope.mul_(ratio < edge)
            moments = basis @ slope                                                  # [6, M]
            part = torch.empty_like(columns)
            part[_GEOMETRY:] = torch.bmm(grad_pixels[:, :channels], by_tile.transpose(0, 1)).transpose(0, 1).reshape(channels, -1)
            _geometry_gradient(moments, columns, x, y, part)
            grad.index_add_(1, index, part)
        grad[:, -1] = 0
        return grad, None, None, None, None


def _geometry_gradient(moments: Tensor, columns: Tensor, x: Tensor, y: Tensor, out: Tensor) -> None:
    """Turn the pixel moments [6, M] of d loss / d log2(alpha) / ln 2 into gradients of x, y, p, q, r, e (out[:6])."""
    p, q, r = columns[2:5]
    m0, mx, my, mxx, mxy, myy = (moments * _LN2).unbind(0)
    dx, dy = mx - x * m0, my - y * m0
    dxx = mxx - x * (mx + dx)
    dxy = mxy - x * my - y * dx
    dyy = myy - y * (my + dy)
    u = p * dx + q * dy
    out[0] = 2 * p * u
    out[1] = 2 * (q * u + r * dy)
    out[2] = -2 * (p * dxx + q * dxy)
    out[3] = -2 * (p * dxy + q * dyy)
    out[4] = -dyy
    out[5] = m0
