"""NAF's neighborhood attention: feature maps raised to picture resolution, whole or only at the pixels that are read.

Every target pixel attends to a kernel x kernel window of cells of the low-resolution map around its own cell; at the
borders the window is moved inwards, so that it always holds kernel^2 cells. (The released code runs a dilated
neighborhood attention on keys and values repeated to the target size, which is the same.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError
from .projection import bilinear_corners

CHUNK_BYTES = 1 << 24  # working memory of the attention at points


@dataclass(frozen=True)
class PointQueries:
    """What attention at some pixels needs of the image encoder's output.

    pixels: [U] int64 row-major target pixels, ascending; vectors: [U, D] their queries; keys: [h, w, D], the mean
    query of every cell; target: (height, width) of the query map.
    """

    pixels: Tensor
    vectors: Tensor
    keys: Tensor
    target: tuple[int, int]


def check_maps(target: tuple[int, int], cells: tuple[int, int], kernel: int) -> None:
    """Raise InputError unless a map of `cells` (h, w) can be raised to `target` (height, width) with this kernel."""
    for side, count in zip(target, cells):
        if side % count:
            raise InputError(f"The NAF target {side} is no multiple of the {count} cells of the feature map.")
        if count < kernel:
            raise InputError(
                f"The feature map has {count} cells on a side, NAF's window needs {kernel}; use a larger picture size."
            )


def window_start(cell: Tensor, count: int, kernel: int) -> Tensor:
    """First cell of the window of the pixels in `cell`, on an axis of `count` cells; moved inwards at the borders."""
    return (cell - kernel // 2).clamp(0, count - kernel)


def upsample_map(queries: Tensor, features: Tensor, heads: int, kernel: int = 9) -> Tensor:
    """The whole raised map [B, C, H, W]: the definition.

    queries: [B, D, H, W], rotated; D / heads is the query width. features: [B, C, h, w], C a multiple of heads, H and
    W multiples of h and w. Raises InputError for sizes that do not fit. Source: NAF; NATTEN's border rule.
    """
    b, d, height, width = queries.shape
    c, h, w = features.shape[1:]
    check_maps((height, width), (h, w), kernel)
    _check_heads(d, c, heads)
    keys = F.adaptive_avg_pool2d(queries, (h, w)).view(b, heads, d // heads, h, w)
    values = features.view(b, heads, c // heads, h, w)
    split = queries.view(b, heads, d // heads, height, width)
    rows = window_start(torch.arange(height, device=queries.device) // (height // h), h, kernel)
    columns = window_start(torch.arange(width, device=queries.device) // (width // w), w, kernel)
    places = [((rows + i)[:, None], (columns + j)[None]) for i in range(kernel) for j in range(kernel)]
    logits = torch.stack([(split * keys[..., r, s]).sum(2) for r, s in places])
    weights = torch.softmax(logits * (d // heads) ** -0.5, 0)  # [kernel^2, B, heads, H, W]
    out = sum(weight[:, :, None] * values[..., r, s] for weight, (r, s) in zip(weights, places))
    return out.reshape(b, c, height, width)


def pixels_read(uv: Tensor, size: tuple[int, int] | int, target: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The target pixels that bilinear reads at uv [N, 2] touch.

    size: the picture's (width, height) in the pixels of uv; target: (height, width) of the raised map. Returns the
    distinct row-major pixels [U] int64 ascending, every point's four as indices [N, 4] into them, and weights [N, 4].
    """
    width_height = (size, size) if isinstance(size, int) else size
    index, weight = bilinear_corners(uv, width_height, target[1], target[0])
    pixels, corner = torch.unique(index, sorted=True, return_inverse=True)
    return pixels, corner, weight


def gather_queries(queries: Tensor, pixels: Tensor, cells: tuple[int, int]) -> PointQueries:
    """The queries [D, H, W] of one picture reduced to `pixels` [U] and the mean query of each of `cells` (h, w)."""
    d, height, width = queries.shape
    keys = F.adaptive_avg_pool2d(queries[None], cells)[0].permute(1, 2, 0)
    return PointQueries(pixels, queries.reshape(d, -1)[:, pixels].T, keys, (height, width))


def upsample_points(
    queries: PointQueries, features: Tensor, corner: Tensor, weight: Tensor, heads: int, kernel: int = 9
) -> Tensor:
    """The raised map read at N points, without the map: [N, C].

    features: [C, h, w]. corner: [N, K] int64 indices into the queries' pixels, weight: [N, K] (from `pixels_read`).
    Equals reading `upsample_map` bilinearly. Reads are sorted by their window of cells, and as many windows as fit
    CHUNK_BYTES are attended together.
    """
    c, h, w = features.shape
    height, width = queries.target
    d = queries.vectors.shape[1]
    check_maps((height, width), (h, w), kernel)
    _check_heads(d, c, heads)
    n, corners = corner.shape
    row = window_start(queries.pixels // width // (height // h), h, kernel)
    column = window_start(queries.pixels % width // (width // w), w, kernel)
    columns = w - kernel + 1
    corner, weight = corner.flatten(), weight.flatten()
    window = (row * columns + column).index_select(0, corner)  # of every read
    order = torch.argsort(window)
    names, counts = torch.unique_consecutive(window.index_select(0, order), return_counts=True)
    by_size = torch.argsort(counts)  # windows with alike numbers of reads are padded to the same length
    names, counts, starts = names[by_size], counts[by_size], (counts.cumsum(0) - counts)[by_size]
    shift = torch.arange(kernel, device=corner.device)
    cells = (names // columns * w + names % columns)[:, None] + (shift[:, None] * w + shift).flatten()  # [G, kernel^2]
    keys = _head_major(queries.keys.reshape(h * w, d), heads)
    values = _head_major(features.reshape(c, h * w).T.to(keys.dtype), heads)
    out = values.new_zeros(n, c)
    for begin, end, length in _groups(counts.tolist(), kernel * kernel, c, d):
        lane = torch.arange(length, device=corner.device)
        used = lane < counts[begin:end, None]  # [g, length]
        read = order[(starts[begin:end, None] + lane).clamp(max=order.shape[0] - 1)]
        query = _head_major(queries.vectors.index_select(0, corner[read].flatten()), heads).unflatten(1, read.shape)
        chosen = cells[begin:end]
        logits = query @ _cells(keys, chosen).mT * (d // heads) ** -0.5
        attended = torch.softmax(logits, -1) @ _cells(values, chosen)  # [heads, g, length, C / heads]
        taken = read[used]
        rows = attended[:, used].transpose(0, 1).reshape(-1, c) * weight[taken][:, None].to(values.dtype)
        out.index_add_(0, taken // corners, rows)
    return out.to(features.dtype)


def _groups(counts: list[int], cells: int, c: int, d: int):
    """Runs [begin, end) of ascending counts whose padded attention fits CHUNK_BYTES, with the padded length."""
    begin = 0
    while begin < len(counts):
        end = begin + 1
        while end < len(counts):
            per_window = 4 * (cells * (c + d) + counts[end] * (3 * c + d))
            if (end + 1 - begin) * per_window > CHUNK_BYTES:
                break
            end += 1
        yield begin, end, counts[end - 1]
        begin = end


def _head_major(rows: Tensor, heads: int) -> Tensor:
    """[M, heads * E] -> [heads, M, E], contiguous."""
    return rows.unflatten(1, (heads, -1)).transpose(0, 1).contiguous()


def _cells(rows: Tensor, chosen: Tensor) -> Tensor:
    """[heads, M, E] at cells [g, K] -> [heads, g, K, E]."""
    return rows.index_select(1, chosen.flatten()).unflatten(1, chosen.shape)


def _check_heads(d: int, c: int, heads: int) -> None:
    if d % heads or c % heads:
        raise InputError(f"Queries of width {d} and features of width {c} cannot be split into {heads} heads.")
