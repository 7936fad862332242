"""Front-to-back blending of tile lists, forward and backward: what `tiled.py` is built on.

Within a chunk of every list, everything is a dense block [pixels of a tile, tiles * Gaussians of the chunk], small
enough to stay in the cache; the two sums (over Gaussians for the color, over pixels for the gradients) are matrix
products. The exponent is written in base 2 and as a sum of squares,

    log2(alpha) = e - (p*dx + q*dy)^2 - r*dy^2,

which neither cancels nor becomes positive: p = sqrt(k*xx_inv), q/p = -xy/yy, r = k/yy with k = log2(e)/2.
"""

import contextlib
import math

import torch
from torch import Tensor

from .projection import ALPHA_MAX, ALPHA_MIN, T_STOP
from .tiles import TileLists

GEOMETRY = 6  # rows of the table before the features: x, y, p, q, r, e
CHUNK = 32  # Gaussians of a list worked on at once
EXPONENT_SCALE = 0.5 * math.log2(math.e)  # k
NOTHING = -1e4  # log2 of the opacity of a padding entry
_LN2 = math.log(2.0)
_BELOW_ALPHA_MIN = float(torch.nextafter(torch.tensor(ALPHA_MIN), torch.tensor(0.0)))  # threshold_ keeps what is above
_SAVE_BYTES = 256 << 20  # weights are kept for the backward pass up to here, recomputed beyond
_arenas: list[Tensor] = []  # at most one such memory, kept from step to step: fresh pages cost more than the work


@contextlib.contextmanager
def full_precision(device_type: str):
    """No autocast and no TF32 or bfloat16 matrix products within: blending needs all of float32."""
    known = getattr(torch.amp, "is_autocast_available", lambda kind: kind in ("cpu", "cuda"))
    newer = None
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set by the newer switches, one for each library
        before, newer = "highest", torch.backends.cuda.matmul.fp32_precision
    with torch.autocast(device_type, enabled=False) if known(device_type) else contextlib.nullcontext():
        try:
            if before != "highest":
                torch.set_float32_matmul_precision("highest")
            if newer is not None:
                torch.backends.cuda.matmul.fp32_precision = "ieee"
            yield
        finally:
            if before != "highest":
                torch.set_float32_matmul_precision(before)
            if newer is not None:
                torch.backends.cuda.matmul.fp32_precision = newer


def release_memory() -> None:
    """Give back the memory that training steps hand on to each other."""
    _arenas.clear()


class _Scratch:
    """The work arrays of one pass, allocated once and cut to the size of each block."""

    def __init__(self, like: Tensor):
        self.like, self.buffers = like, {}

    def get(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        buffer = self.buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self.buffers[name] = self.like.new_empty(size)
        return buffer[:size].view(shape)


def _take_arena(like: Tensor, size: int) -> Tensor:
    """Memory for `size` weights, or for as many as are allowed; what a finished step left behind, if large enough."""
    size = min(size, _SAVE_BYTES // like.element_size())
    if not size:
        return like.new_empty(0)
    try:
        arena = _arenas.pop()
    except IndexError:
        arena = None
    if arena is None or arena.numel() < size or arena.dtype != like.dtype or arena.device != like.device:
        arena = like.new_empty(min(size + size // 4, _SAVE_BYTES // like.element_size()))
    return arena


def _give_arena(arena: Tensor | None) -> None:
    cacheable = arena is not None and arena.numel() and arena.device.type == "cpu"  # accelerators cache by themselves
    if cacheable and not _arenas:
        _arenas.append(arena)


class Plan:
    """Everything about one band that is not differentiated: padded tile lists and tile geometry."""

    def __init__(
        self,
        lists: TileLists,
        band: tuple[int, int],
        grid: tuple[int, int],
        tile: int,
        padding: int,
        step: int,
        save: bool,
        dtype: torch.dtype,
    ):
        """Tile lists of the tile rows `band` of images of `grid` = (columns, rows) tiles of `tile` pixels.

        padding: the table's entry that draws nothing; step: tiles in a block; save: keep the weights for the backward
        pass where they fit.
        """
        device = lists.item.device
        self.tile, self.step, self.save, self.pixels = tile, step, save, tile * tile
        self.tiles = lists.start.shape[0]
        self.one = torch.ones((), dtype=dtype, device=device)
        # Lists are padded to whole chunks with the index of the padding entry, one row of `index` for each chunk.
        rows = torch.div(lists.length + CHUNK - 1, CHUNK, rounding_mode="floor")
        self.first_row = torch.cumsum(rows, 0) - rows
        total = int(rows.sum())
        self.index = torch.full((total * CHUNK,), padding, dtype=torch.int64, device=device)
        shift = torch.repeat_interleave(self.first_row * CHUNK - lists.start, lists.length)
        self.index[shift + torch.arange(shift.shape[0], device=device)] = lists.item
        self.index = self.index.view(total, CHUNK)
        self.order = torch.sort(rows, descending=True).indices
        self.counts = torch.bincount(rows).flip(0).cumsum(0).flip(0)[1:].tolist()  # tiles with more than c chunks
        # Coordinates are relative to the center of the tile, where float32 has digits to spare.
        self.offset = torch.arange(tile, device=device, dtype=dtype) + (0.5 - 0.5 * tile)
        row = torch.arange(*band, device=device).remainder(grid[1]).to(dtype)
        column = torch.arange(grid[0], device=device, dtype=dtype)
        self.center_x = ((column + 0.5) * tile).repeat(band[1] - band[0])
        self.center_y = ((row + 0.5) * tile).repeat_interleave(grid[0])

    def gather(self, table: Tensor, group: Tensor, number: int):
        """Chunk `number` of some tiles: indices [M], table columns [F, M], tile-relative x and y [M], features."""
        index = self.index.index_select(0, self.first_row.index_select(0, group) + number).view(-1)
        columns = table.index_select(1, index)
        shape = (group.shape[0], CHUNK)
        x = torch.sub(columns[0].view(shape), self.center_x.index_select(0, group)[:, None]).view(-1)
        y = torch.sub(columns[1].view(shape), self.center_y.index_select(0, group)[:, None]).view(-1)
        channels = table.shape[0] - GEOMETRY
        feature = table.new_ones(group.shape[0], channels + 1, CHUNK)
        feature[:, :channels] = columns[GEOMETRY:].view(channels, -1, CHUNK).transpose(0, 1)
        return index, columns, x, y, feature


def _weights(
    plan: Plan,
    columns: Tensor,
    x: Tensor,
    y: Tensor,
    light: Tensor,
    clamp: bool,
    scratch: _Scratch,
    ratio: Tensor,
    weight: Tensor,
) -> Tensor:
    """Blend weights of one block.

    columns [F, M] table entries, x, y [M] tile-relative centers, light [tiles, P] what reaches the first Gaussian.
    Writes ratio = alpha / (1 - alpha) and weight = alpha * T, both [P, M]; returns the light left, [tiles, P], 0 where
    the pixel is finished. Beyond its stop a pixel has weight 0, so `ratio` may say anything there.
    """
    side, size = plan.tile, x.shape[0]
    p, q, r, e = columns[2], columns[3], columns[4], columns[5]
    dx = torch.sub(plan.offset[:, None], x, out=scratch.get("dx", side, size)).mul_(p)
    dy = torch.sub(plan.offset[:, None], y, out=scratch.get("dy", side, size))
    down = torch.mul(dy, q, out=scratch.get("down", side, size))
    top = torch.addcmul(e, dy.square_(), r, value=-1, out=scratch.get("top", side, size))
    alpha = ratio.view(side, side, size)
    torch.add(down[:, None], dx[None], out=alpha)
    torch.addcmul(top[:, None], alpha, alpha, value=-1, out=alpha)
    alpha.exp2_()
    if clamp:
        alpha.clamp_(max=ALPHA_MAX)
    torch.threshold_(alpha, _BELOW_ALPHA_MIN, 0.0)
    through = torch.sub(plan.one, ratio, out=scratch.get("through", plan.pixels, size))
    ratio.div_(through)
    by_tile = through.view(plan.pixels, -1, CHUNK)
    by_tile[:, :, 0].mul_(light.t())
    torch.cumprod(by_tile, -1, out=by_tile)
    torch.threshold_(through, T_STOP, 0.0)
    torch.mul(ratio, through, out=weight)
    return by_tile[:, :, -1].t().contiguous()


class Blend(torch.autograd.Function):
    """table [6 + C, items + 1] -> blended features and alpha [tiles, C + 1, tile * tile]."""

    @staticmethod
    def forward(ctx, table: Tensor, plan: Plan):
        differentiable = ctx.needs_input_grad[0]
        channels, pixels = table.shape[0] - GEOMETRY, plan.pixels
        out = table.new_zeros(plan.tiles, channels + 1, pixels)
        light = table.new_ones(plan.tiles, pixels)
        clamp = bool((table[GEOMETRY - 1] > math.log2(ALPHA_MAX)).any())
        scratch, saved = _Scratch(table), []
        arena = _take_arena(table, 2 * pixels * plan.index.numel() if differentiable and plan.save else 0)
        used = 0
        for number in range(len(plan.counts)):
            active = plan.order[: plan.counts[number]]
            if number:
                active = active[(light.index_select(0, active) > 0).any(1)]
                if active.shape[0] == 0:
                    break
            for group in active.split(plan.step):
                block = plan.gather(table, group, number)
                index, columns, x, y, feature = block
                size = pixels * index.shape[0]
                keep = used + 2 * size <= arena.numel()
                if keep:
                    ratio, weight = arena[used : used + 2 * size].view(2, pixels, -1).unbind(0)
                    used += 2 * size
                else:
                    ratio, weight = (scratch.get(name, pixels, index.shape[0]) for name in ("ratio", "weight"))
                before = light.index_select(0, group)
                after = _weights(plan, columns, x, y, before, clamp, scratch, ratio, weight)
                light.index_copy_(0, group, after)
                blended = torch.bmm(feature, weight.view(pixels, -1, CHUNK).permute(1, 2, 0))
                out.index_add_(0, group, blended)
                if differentiable:
                    saved.append(
                        (group, number, before, block, ratio, weight)
                        if keep
                        else (group, number, before, None, None, None)
                    )
        ctx.plan, ctx.clamp, ctx.saved, ctx.arena = plan, clamp, saved, arena
        ctx.save_for_backward(table)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        with full_precision(grad_out.device.type):
            return Blend._backward(ctx, grad_out), None

    @staticmethod
    def _backward(ctx, grad_out: Tensor) -> Tensor:
        (table,) = ctx.saved_tensors
        plan, clamp = ctx.plan, ctx.clamp
        pixels, chunk = plan.pixels, CHUNK
        channels = table.shape[0] - GEOMETRY
        grad = torch.zeros_like(table)
        grad_out = grad_out.contiguous()
        behind = table.new_zeros(plan.tiles, pixels)  # sum of weight * (feature . grad) over what lies behind
        scratch = _Scratch(table)
        later = torch.ones(chunk, chunk, device=table.device, dtype=table.dtype).tril(-1)
        px, py = plan.offset.repeat(plan.tile), plan.offset.repeat_interleave(plan.tile)
        basis = torch.stack([torch.ones_like(px), px, py, px * px, px * py, py * py])
        clamped = ALPHA_MAX / (1.0 - ALPHA_MAX) * (1 - 1e-6)
        for group, number, before, block, ratio, weight in reversed(ctx.saved):
            if block is None:
                block = plan.gather(table, group, number)
                ratio, weight = (scratch.get(name, pixels, block[0].shape[0]) for name in ("ratio", "weight"))
                _weights(plan, *block[1:4], before, clamp, scratch, ratio, weight)
            index, columns, x, y, feature = block
            size = index.shape[0]
            grad_pixels = grad_out.index_select(0, group)  # [tiles, C + 1, P]
            gain = torch.bmm(grad_pixels.transpose(1, 2), feature)  # [tiles, P, chunk]
            by_tile = weight.view(pixels, -1, chunk)
            along = scratch.get("along", pixels, size)
            along_tile = along.view(pixels, -1, chunk)
            torch.mul(by_tile, gain.transpose(0, 1), out=along_tile)
            rest = torch.mm(along.view(-1, chunk), later, out=scratch.get("rest", size * pixels // chunk, chunk))
            rest = rest.view(pixels, -1, chunk)
            rest.add_(behind.index_select(0, group).t()[:, :, None])
            behind.index_copy_(0, group, (rest[:, :, 0] + along_tile[:, :, 0]).t())
            # alpha * d loss / d alpha = weight * gain - alpha / (1 - alpha) * (the same, of all that lies behind)
            slope = torch.addcmul(along, ratio, rest.view(pixels, size), value=-1, out=along)
            if clamp:
                slope.mul_(ratio < clamped)
            part = torch.empty_like(columns)
            part[GEOMETRY:].view(channels, -1, chunk).copy_(
                torch.bmm(grad_pixels[:, :channels], by_tile.transpose(0, 1)).transpose(0, 1)
            )
            _geometry_gradient(basis @ slope, columns, x, y, part)
            grad.index_add_(1, index, part)
        grad[:, -1] = 0
        # The memory goes to the next step; should this graph be walked again, the weights are computed again.
        ctx.saved = [(*entry[:3], None, None, None) for entry in ctx.saved]
        _give_arena(ctx.arena)
        ctx.arena = None
        return grad


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
