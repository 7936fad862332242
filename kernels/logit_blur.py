"""Gaussian blur of attention logits along the queries and along the keys, without the logits.

Blurring the logit matrix along its queries is multiplication by a matrix from the left, along its keys from the right,
so for any linear blur of each axis A_q (Q K^T) A_k^T = (A_q Q) (A_k K)^T exactly: blur Q and K along the tokens, then
attend as ever. No matrix of queries by keys is formed. `materialised_attention` is the definition with all matrices.
Source: RelaxFlow, attention-logit low-pass; the factorisation is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError

PADDINGS = ("zero", "reflect", "replicate", "renormalised")
WHERE = ("cross", "self", "both")
MAX_SIGMA = 50.0
ROWS = 64  # tokens blurred by one product with a banded block


@dataclass(frozen=True)
class LogitBlur:
    """What is blurred, how much, and where.

    sigma_q, sigma_k: standard deviations along the queries and the keys in tokens, each in 0..50; 0 leaves an axis as
        it is. padding: what lies beyond the ends of an axis: "zero" (the released code: logits at the ends are pulled
        toward 0), "reflect", "replicate", or "renormalised" (zero, divided by the share of the kernel that is inside).
    where: "cross", "self" or "both" kinds of attention.
    slots: one flag per item of the batch; items that are off stay as they are. None: all on.
    segments: lengths of the parts (priors) of the keys in cross-attention; the blur does not cross from one to the
        next. special: so many tokens at the start of every part (CLS, registers) are neither blurred nor blurred into
        others. grid_k: the (height, width) of the patches behind them, blurred along both axes instead of row after
        row. grid_q: blur the queries (in self-attention the keys, too) along the true axes of their (x, y, z) grid;
        with `coords` given to `blur_qk`, along the axes of those voxels.
    Raises InputError for values out of range.
    """

    sigma_q: float = 1.0
    sigma_k: float = 1.0
    padding: str = "zero"
    where: str = "cross"
    slots: tuple[bool, ...] | None = None
    segments: tuple[int, ...] | None = None
    special: int = 0
    grid_q: tuple[int, ...] | None = None
    grid_k: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("sigma_q", "sigma_k"):
            check_sigma(getattr(self, name), name)
        if self.padding not in PADDINGS:
            raise InputError(f"`padding` is {self.padding!r}; one of {', '.join(PADDINGS)} would work.")
        if self.where not in WHERE:
            raise InputError(f"`where` is {self.where!r}; one of {', '.join(WHERE)} would work.")
        if self.special < 0:
            raise InputError(f"`special` is {self.special}; it counts tokens and cannot be negative.")

    @property
    def active(self) -> bool:
        return self.sigma_q > 0 or self.sigma_k > 0

    def touches(self, kind: str) -> bool:
        """Whether attention of this kind ("self" or "cross") is blurred."""
        return self.active and self.where in ("both", kind)

    def for_slots(self, slots: Sequence[bool] | None) -> LogitBlur:
        return replace(self, slots=None if slots is None else tuple(bool(s) for s in slots))


def check_sigma(sigma: float, name: str = "sigma") -> float:
    """`sigma` itself; raises InputError unless it is a number in 0..50."""
    if not isinstance(sigma, (int, float)) or not math.isfinite(sigma) or not 0 <= sigma <= MAX_SIGMA:
        raise InputError(f"`{name}` is {sigma}; a number of tokens from 0 (no blur) to {MAX_SIGMA:g} would work.")
    return float(sigma)


def gaussian_taps(sigma: float, device: torch.device | str | None = None) -> Tensor:
    """Normalized kernel [2 round(3 sigma) + 1] float32, halves rounded to even as the released code does."""
    size = int(2 * round(3 * check_sigma(sigma)) + 1)
    if size == 1:
        return torch.ones(1, device=device)
    x = torch.arange(size, device=device) - size // 2
    taps = torch.exp(-(x**2) / (2 * sigma**2))
    return taps / taps.sum()


def _source(index: Tensor, length: int, padding: str) -> Tensor:
    """The token that stands at positions beyond the ends."""
    if padding == "replicate" or length == 1:
        return index.clamp(0, length - 1)
    period = 2 * (length - 1)
    index = index.remainder(period)
    return torch.where(index < length, index, period - index)


def blur_tokens(x: Tensor, sigma: float, padding: str = "zero") -> Tensor:
    """Blur along axis 1 of x [B, L, ...]; computed in float32 (float64 for float64), returned in the dtype of x."""
    if sigma == 0 or x.shape[1] == 0:
        return x
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    taps = gaussian_taps(sigma, x.device).to(dtype)
    radius, length = taps.shape[0] // 2, x.shape[1]
    if radius == 0:
        return x
    flat = x.to(dtype).flatten(2) if x.ndim > 2 else x.to(dtype)[..., None]
    block = min(length, max(ROWS, 2 * radius))
    blocks = -(-length // block)
    beyond = blocks * block - length
    if padding in ("zero", "renormalised"):
        padded = F.pad(flat, (0, 0, radius, radius + beyond))
    else:
        index = _source(torch.arange(-radius, length + radius, device=x.device), length, padding)
        padded = F.pad(flat.index_select(1, index), (0, 0, 0, beyond))
    band = taps.new_zeros(block, block + 2 * radius)
    for tap in range(taps.shape[0]):
        band.diagonal(tap).copy_(taps[tap].expand(block))
    windows = padded.unfold(1, block + 2 * radius, block).transpose(-1, -2)  # [B, blocks, block + 2 radius, C]
    out = torch.matmul(band, windows).flatten(1, 2)[:, :length]
    if padding == "renormalised":
        out = out / _share(length, taps)[:, None]
    return out.reshape(x.shape).to(x.dtype)


def _share(length: int, taps: Tensor) -> Tensor:
    """[L], the part of the kernel around every token that lies inside."""
    radius = taps.shape[0] // 2
    total = F.pad(taps.cumsum(0), (1, 0))
    at = torch.arange(length, device=taps.device)
    return total[(length + radius - at).clamp(max=taps.shape[0])] - total[(radius - at).clamp(min=0)]


def _blur_grid(x: Tensor, grid: Sequence[int], sigma: float, padding: str) -> Tensor:
    """Blur along every axis of tokens [B, prod(grid), ...] that lie on a grid, the last axis fastest."""
    if math.prod(grid) != x.shape[1]:
        raise InputError(f"{x.shape[1]} tokens do not fill a grid of {'x'.join(map(str, grid))}.")
    shape, before, after = x.shape, x.shape[0], math.prod(grid)
    for size in grid:
        after //= size
        x = blur_tokens(x.reshape(before, size, after, -1), sigma, padding).reshape(shape)
        before *= size
    return x


def _blur_voxels(x: Tensor, coords: Tensor, sigma: float, padding: str) -> Tensor:
    """Blur x [N, ...] along the x, then y, then z axis of the voxels that exist; coords [N, 3] integers."""
    if padding not in ("zero", "renormalised"):
        raise InputError(f"`padding` {padding!r} has no meaning between voxels; 'zero' or 'renormalised' would work.")
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    taps = gaussian_taps(sigma, x.device).to(dtype)
    radius = taps.shape[0] // 2
    shifted = coords.long() - coords.amin(0).long() + radius
    size = int(shifted.max()) + radius + 1
    steps = (size * size, size, 1)
    keys = sum(shifted[:, axis] * steps[axis] for axis in range(3))
    ordered, order = torch.sort(keys)
    out = x.to(dtype).flatten(1)
    for step in steps:
        total, share = torch.zeros_like(out), out.new_zeros(out.shape[0], 1)
        for tap in range(taps.shape[0]):
            wanted = keys + (tap - radius) * step
            place = torch.searchsorted(ordered, wanted).clamp(max=len(keys) - 1)
            rows = torch.nonzero(ordered[place] == wanted).squeeze(1)
            total.index_add_(0, rows, out[order[place[rows]]] * taps[tap])
            share[rows] += taps[tap]
        out = total / share if padding == "renormalised" else total
    return out.reshape(x.shape).to(x.dtype)


def _blur_parts(x: Tensor, blur: LogitBlur, sigma: float, lengths: Sequence[int]) -> Tensor:
    """Blur every part of x [B, L, ...] by itself, its special tokens left alone."""
    if sum(lengths) != x.shape[1]:
        raise InputError(f"`segments` add up to {sum(lengths)} tokens, but there are {x.shape[1]} keys.")
    out = []
    for part in x.split(list(lengths), 1):
        head, body = part[:, : blur.special], part[:, blur.special :]
        if blur.grid_k:
            body = _blur_grid(body, blur.grid_k, sigma, blur.padding)
        else:
            body = blur_tokens(body, sigma, blur.padding)
        out.append(torch.cat([head, body], 1) if blur.special else body)
    return out[0] if len(out) == 1 else torch.cat(out, 1)


def _queries(x: Tensor, blur: LogitBlur, sigma: float) -> Tensor:
    if blur.grid_q:
        return _blur_grid(x, blur.grid_q, sigma, blur.padding)
    return blur_tokens(x, sigma, blur.padding)


def _keys(x: Tensor, blur: LogitBlur, kind: str) -> Tensor:
    if kind == "self":
        return _queries(x, blur, blur.sigma_k)
    if blur.segments or blur.special or blur.grid_k:
        return _blur_parts(x, blur, blur.sigma_k, blur.segments or (x.shape[1],))
    return blur_tokens(x, blur.sigma_k, blur.padding)


def blur_qk(
    q: Tensor,
    k: Tensor,
    blur: LogitBlur | None,
    kind: str,
    q_seqlens: Sequence[int] | None = None,
    k_seqlens: Sequence[int] | None = None,
    coords: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Queries and keys whose plain attention has the blurred logits.

    q [B, Lq, H, D], k [B, Lk, H, D], after norms and rotations; with `q_seqlens` and `k_seqlens` [N, H, D], the items
    one after the other, each blurred by itself. kind: "self" or "cross". coords: [N, 3] integers of the queries; with
    them (sparse tokens, `grid_q` set to anything) the blur follows the voxels' axes. Raises InputError for what does
    not fit.
    """
    if blur is None or not blur.touches(kind):
        return q, k
    if q_seqlens is None:
        if blur.slots is None:
            return _once(q, k, blur, kind)
        _check_slots(blur, q.shape[0])
        on = [i for i, slot in enumerate(blur.slots) if slot]
        if not on:
            return q, k
        q_new, k_new = _once(q[on], k[on], blur, kind)
        q, k = q.clone(), k.clone()
        q[on], k[on] = q_new, k_new
        return q, k
    items = list(zip(q.split(list(q_seqlens)), k.split(list(k_seqlens)), strict=True))
    if blur.slots is not None:
        _check_slots(blur, len(items))
    places = [None] * len(items) if coords is None else coords.split(list(q_seqlens))
    out = []
    for index, ((a, b), place) in enumerate(zip(items, places)):
        if blur.slots is None or blur.slots[index]:
            a, b = _item(a, b, blur, kind, place)
        out.append((a, b))
    return torch.cat([a for a, _ in out]), torch.cat([b for _, b in out])


def _once(q: Tensor, k: Tensor, blur: LogitBlur, kind: str) -> tuple[Tensor, Tensor]:
    return _queries(q, blur, blur.sigma_q), _keys(k, blur, kind)


def _item(q: Tensor, k: Tensor, blur: LogitBlur, kind: str, coords: Tensor | None) -> tuple[Tensor, Tensor]:
    if coords is None or not blur.grid_q:
        plain = replace(blur, grid_q=None)
        q, k = _once(q[None], k[None], plain, kind)
        return q[0], k[0]
    if blur.sigma_q:
        q = _blur_voxels(q, coords, blur.sigma_q, blur.padding)
    if kind == "self":
        return q, _blur_voxels(k, coords, blur.sigma_k, blur.padding) if blur.sigma_k else k
    return q, _keys(k[None], blur, kind)[0]


def _check_slots(blur: LogitBlur, items: int) -> None:
    if len(blur.slots) != items:
        raise InputError(f"`slots` has {len(blur.slots)} flags, but the batch has {items} items.")


def blur_matrix(length: int, sigma: float, padding: str = "zero") -> Tensor:
    """[L, L] float64, the blur of one axis written out: row i holds what token i takes from every token."""
    matrix = torch.zeros(length, length, dtype=torch.float64)
    taps = gaussian_taps(sigma).double()
    rows = torch.arange(length)
    for tap in range(taps.shape[0]):
        columns = rows + tap - taps.shape[0] // 2
        if padding in ("reflect", "replicate"):
            columns = _source(columns, length, padding)
        inside = (columns >= 0) & (columns < length)
        matrix[rows[inside], columns[inside]] += taps[tap]
    return matrix / matrix.sum(1, keepdim=True) if padding == "renormalised" else matrix


def query_matrix(blur: LogitBlur, length: int, sigma: float) -> Tensor:
    """The blur of `length` queries as one float64 matrix; on a grid, the Kronecker product over its axes."""
    if not blur.grid_q:
        return blur_matrix(length, sigma, blur.padding)
    out = torch.ones(1, 1, dtype=torch.float64)
    for size in blur.grid_q:
        out = torch.kron(out, blur_matrix(size, sigma, blur.padding))
    return out


def key_matrix(blur: LogitBlur, length: int, kind: str) -> Tensor:
    """The blur of `length` keys as one float64 matrix; block-diagonal over the parts."""
    if kind == "self":
        return query_matrix(blur, length, blur.sigma_k)
    blocks = []
    for part in blur.segments or (length,):
        if blur.special:
            blocks.append(torch.eye(min(blur.special, part), dtype=torch.float64))
        body = part - blur.special
        if body > 0:
            grid = replace(blur, grid_q=blur.grid_k)
            blocks.append(query_matrix(grid, body, blur.sigma_k))
    return torch.block_diag(*blocks)


def materialised_logits(q: Tensor, k: Tensor, blur: LogitBlur, kind: str = "cross") -> Tensor:
    """The definition: logits [B, H, Lq, Lk] of q [B, Lq, H, D] and k [B, Lk, H, D], blurred along both axes."""
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    if not blur.touches(kind):
        return logits
    a_q = query_matrix(blur, q.shape[1], blur.sigma_q).to(logits)
    a_k = key_matrix(blur, k.shape[1], kind).to(logits)
    blurred = a_q @ logits @ a_k.mT
    if blur.slots is None:
        return blurred
    on = torch.tensor(blur.slots, device=q.device)[:, None, None, None]
    return torch.where(on, blurred, logits)


def materialised_attention(q: Tensor, k: Tensor, v: Tensor, blur: LogitBlur, kind: str = "cross") -> Tensor:
    """The definition of blurred attention, [B, Lq, H, Dv]; memory grows with queries times keys."""
    weights = torch.softmax(materialised_logits(q, k, blur, kind), -1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)
