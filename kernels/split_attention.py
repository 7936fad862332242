"""Joint attention in which extra condition tokens may be read by all, but read only themselves and some text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError

# (q, k, v [B, H, L, d], additive mask [B, 1, Lq, Lk] or None) -> [B, Lq, H d]
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
FORBIDDEN = -1e20  # what a forbidden key's logit is lowered by (the official value; in float16 its lowest number)


@dataclass(frozen=True, eq=False)
class TextLinks:
    """Which text tokens each condition token may read.

    sizes: tokens of each condition; columns: [U] int64, text positions that any of them reads; allowed: for each
    condition bool [B, C_j, U]. Rows of condition j read condition j and the allowed columns, nothing else; text and
    image rows read everything.
    """

    sizes: tuple[int, ...]
    columns: Tensor
    allowed: tuple[Tensor, ...]
    _biases: dict = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        found = [tuple(a.shape[1:]) for a in self.allowed]
        if found != [(size, len(self.columns)) for size in self.sizes]:
            raise InputError(f"`allowed` is of {found}; conditions of {self.sizes} tokens read {len(self.columns)}.")

    @classmethod
    def none(cls, sizes: Sequence[int], batch: int = 1, device=None) -> TextLinks:
        """Conditions that read no text at all."""
        allowed = tuple(torch.zeros(batch, size, 0, dtype=torch.bool, device=device) for size in sizes)
        return cls(tuple(sizes), torch.zeros(0, dtype=torch.int64, device=device), allowed)

    @property
    def total(self) -> int:
        """All condition tokens."""
        return sum(self.sizes)

    def to(self, device) -> TextLinks:
        """The same on another device."""
        return TextLinks(self.sizes, self.columns.to(device), tuple(a.to(device) for a in self.allowed))

    def bias(self, index: int, dtype: torch.dtype) -> Tensor | None:
        """Additive mask [B, 1, C_j, U + C_j] of condition `index`; None where it reads no text."""
        if not len(self.columns):
            return None
        key = (index, dtype)
        if key not in self._biases:
            allowed = self.allowed[index]
            batch, size, count = allowed.shape
            bias = torch.zeros(batch, 1, size, count + size, dtype=dtype, device=allowed.device)
            lowest = max(FORBIDDEN, torch.finfo(dtype).min)
            bias[:, 0, :, :count].masked_fill_(~allowed, lowest)
            self._biases[key] = bias
        return self._biases[key]


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Torch's fused attention: q, k, v [B, H, L, d], additive mask or None -> [B, Lq, H d]."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def split_attention(
    q: Tensor, k: Tensor, v: Tensor, links: TextLinks, attend: Attend = fused, mask: Tensor | None = None
) -> Tensor:
    """Attention over [text | image | conditions] in one unmasked and one small masked call per condition.

    q: [B, H, L, d] with all L rows, or only the text and image rows (the conditions' are then not computed);
    k, v: [B, H, L, d]; mask: what a host wants masked in the text and image rows, None for nothing. Returns
    [B, rows of q, H d]. The full L x L mask never exists: condition rows never read
    image keys, so their call has U + C_j keys. Raises InputError for rows that do not fit.
    Source: SeeThrough3D (arXiv 2602.23359), attention mask; the definition is `dense_attention`.
    """
    base = k.shape[2] - links.total
    if base < 0 or q.shape[2] not in (base, k.shape[2]):
        raise InputError(f"q has {q.shape[2]} rows, k {k.shape[2]}; with {links.total} condition tokens they must fit.")
    out = [attend(q[:, :, :base], k, v, mask)]
    start = base
    for index, size in enumerate(links.sizes if q.shape[2] > base else ()):
        rows = slice(start, start + size)
        start += size
        keys, values = k[:, :, rows], v[:, :, rows]
        if len(links.columns):
            keys = torch.cat([k.index_select(2, links.columns), keys], dim=2)
            values = torch.cat([v.index_select(2, links.columns), values], dim=2)
        out.append(attend(q[:, :, rows], keys, values, links.bias(index, q.dtype)))
    return torch.cat(out, dim=1) if len(out) > 1 else out[0]


def dense_mask(links: TextLinks, base: int) -> Tensor:
    """bool [B, 1, L, L], True = may read; text and image are the first `base` rows."""
    batch, length = links.allowed[0].shape[0], base + links.total
    mask = torch.zeros(batch, 1, length, length, dtype=torch.bool, device=links.columns.device)
    mask[:, :, :base] = True
    start = base
    for size, allowed in zip(links.sizes, links.allowed):
        rows = slice(start, start + size)
        mask[:, :, rows, rows] = True
        mask[:, 0, rows, links.columns] = allowed
        start += size
    return mask


def dense_attention(q: Tensor, k: Tensor, v: Tensor, links: TextLinks) -> Tensor:
    """The definition of `split_attention`, for all rows, with the whole mask."""
    bias = torch.zeros(1, dtype=q.dtype, device=q.device).masked_fill(
        ~dense_mask(links, k.shape[2] - links.total), max(FORBIDDEN, torch.finfo(q.dtype).min)
    )
    logits = q @ k.mT * q.shape[3] ** -0.5 + bias
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
