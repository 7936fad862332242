"""Softmax attention over dense batches and over items of different lengths, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError, MissingDependency
from . import backends


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None, backend: str = "auto") -> Tensor:
    """softmax(q k^T scale) v per head: [B, Lq, H, Dv].

    q: [B, Lq, H, D], k: [B, Lk, H, D], v: [B, Lk, H, Dv]; scale default D^-0.5. dtype: that of q. float16 on a CPU is
    computed in float32 (half precision products are up to a hundred times slower there).
    backend: "auto" is torch's fused attention, "plain" the definition with the softmax in float32.
    Raises InputError for shapes that do not fit.
    """
    if q.ndim != 4 or k.ndim != 4 or k.shape[:3] != v.shape[:3] or q.shape[::2] != k.shape[::2]:
        raise InputError(
            f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}: attention needs [B, L, H, D] that fit."
        )
    if q.shape[3] != k.shape[3]:
        raise InputError(f"q has head width {q.shape[3]}, k {k.shape[3]}; they must agree.")
    scale = q.shape[3] ** -0.5 if scale is None else scale
    dtype = q.dtype
    if dtype == torch.float16 and q.device.type == "cpu":
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if backend == "plain":
        out = torch.softmax(q.float() @ k.float().mT * scale, -1) @ v.float()
    elif backend == "auto":
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    else:
        raise InputError(f"`backend` is {backend!r}; attention knows 'auto' and 'plain'.")
    return out.transpose(1, 2).to(dtype)


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_seqlens: Sequence[int],
    k_seqlens: Sequence[int],
    *,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attention within each item of a concatenated batch: [Nq, H, Dv].

    q: [Nq, H, D], k: [Nk, H, D], v: [Nk, H, Dv], items one after the other; q_seqlens, k_seqlens: rows of each item,
    summing to Nq and Nk. Items without queries are allowed, queries without keys are not. Items of equal lengths run
    as one batch; otherwise item i gives exactly what it gives alone. scale, backend: as `attention`; besides, "flash"
    is flash-attn's kernel for unequal items, which "auto" takes on a GPU in half precision where it is installed and
    agreed with the definition.
    Raises InputError for lengths that do not fit.
    """
    if len(q_seqlens) != len(k_seqlens):
        raise InputError(f"`q_seqlens` has {len(q_seqlens)} items, `k_seqlens` {len(k_seqlens)}; they must agree.")
    if sum(q_seqlens) != q.shape[0] or sum(k_seqlens) != k.shape[0]:
        raise InputError(
            f"`q_seqlens` and `k_seqlens` sum to {sum(q_seqlens)} and {sum(k_seqlens)}, but there are "
            f"{q.shape[0]} queries and {k.shape[0]} keys."
        )
    if any(nq > 0 and nk == 0 for nq, nk in zip(q_seqlens, k_seqlens)):
        raise InputError(
            "An item has queries but no keys to attend to; every item needs at least one token of context."
        )
    if len(set(q_seqlens)) == 1 and len(set(k_seqlens)) == 1:
        batched = (x.unflatten(0, (len(q_seqlens), -1)) for x in (q, k, v))
        return attention(*batched, scale=scale, backend=backend).flatten(0, 1)
    half = q.dtype in (torch.float16, torch.bfloat16)
    if backend == "flash" or (backend == "auto" and half and q.is_cuda and backends.usable("flash_attn")):
        return _flash(q, k, v, q_seqlens, k_seqlens, scale)
    out = q.new_empty(*q.shape[:2], v.shape[2]) if not torch.is_grad_enabled() else None
    parts, start_q, start_k = [], 0, 0
    for nq, nk in zip(q_seqlens, k_seqlens):
        rows, keys = slice(start_q, start_q + nq), slice(start_k, start_k + nk)
        start_q, start_k = rows.stop, keys.stop
        if nq == 0:
            continue
        part = attention(q[None, rows], k[None, keys], v[None, keys], scale=scale, backend=backend)[0]
        if out is None:
            parts.append(part)
        else:
            out[rows] = part
    return torch.cat(parts) if out is None else out


def _flash(q: Tensor, k: Tensor, v: Tensor, q_seqlens: Sequence[int], k_seqlens: Sequence[int], scale) -> Tensor:
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError as error:
        raise MissingDependency(
            f'flash-attn cannot be imported ({error}); `pip install flash-attn` (CUDA), or use `backend="auto"`.'
        ) from error

    def starts(lengths: Sequence[int]) -> Tensor:
        return torch.tensor([0, *lengths], device=q.device).cumsum(0).to(torch.int32)

    return flash_attn_varlen_func(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        cu_seqlens_q=starts(q_seqlens),
        cu_seqlens_k=starts(k_seqlens),
        max_seqlen_q=max(q_seqlens),
        max_seqlen_k=max(k_seqlens),
        softmax_scale=scale,
    )


def compare_flash(device: torch.device) -> float:
    """The worst error of flash-attn's kernel against the definition, over unequal items and an empty one."""
    generator = torch.Generator().manual_seed(0)
    q_seqlens, k_seqlens = [37, 0, 5, 129], [12, 3, 64, 129]
    q, k, v = (
        torch.randn(sum(lengths), 2, 64, generator=generator).to(device, torch.bfloat16)
        for lengths in (q_seqlens, k_seqlens, k_seqlens)
    )
    with torch.no_grad():
        found = _flash(q, k, v, q_seqlens, k_seqlens, None)
        expected = varlen_attention(q.float(), k.float(), v.float(), q_seqlens, k_seqlens, backend="plain")
    return float((found.float() - expected).abs().max())
