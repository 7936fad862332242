"""The two kinds of FLUX block with a condition branch, over any implementation of their layers.

The image stream of a double block is [image | conditions], a single block's stream [text | image | conditions].
Condition tokens use the image stream's layers, modulated as at time zero, plus the LoRA; they are read by all, and read
themselves and the words of the objects they show. Nothing is changed in place, so gradients and checkpointing work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ...kernels.split_attention import Attend, TextLinks, fused, split_attention
from .lora import DOUBLE, SINGLE, Adapter

TEXT, IMAGE = "text", "image"


class Modulation(Protocol):
    """Shift, scale and gate of a stream, each [B, 1, D]."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


class DoubleLayers(Protocol):
    """The layers of a double block; stream is TEXT or IMAGE, place 0 = before attention, 1 = before the MLP."""

    heads: int

    def modulation(self, stream: str, vec: Tensor) -> tuple[Modulation, Modulation]: ...
    def norm(self, stream: str, place: int, x: Tensor) -> Tensor: ...
    def qkv(self, stream: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
    def qk_norm(self, stream: str, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]: ...
    def proj(self, stream: str, x: Tensor) -> Tensor: ...
    def mlp(self, stream: str, x: Tensor) -> Tensor: ...


class SingleLayers(Protocol):
    """The layers of a single block.

    `enter` gives q, k, v and whatever `leave` needs for the MLP, both only of the first `rows` rows but for k and v.
    """

    heads: int

    def modulation(self, vec: Tensor) -> Modulation: ...
    def norm(self, x: Tensor) -> Tensor: ...
    def enter(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def qk_norm(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]: ...
    def leave(self, attended: Tensor, rest: Tensor) -> Tensor: ...


@dataclass(eq=False)
class Branch:
    """What the condition branch of one forward pass needs, the same in all blocks.

    adapters: one per condition, None for none; vec [B, D]: the embedding of time zero (same guidance, same pooled
    text); rotate(x [B, H, L, d], positions), narrow(positions, start, length): rotary embedding as the model has it;
    cache: kept between the steps of one generation: modulations and the first block's condition q, k, v (None: compute
    all every time, as training needs). edit(q, k, v, positions) -> (q, k, v, positions, mask [.., base rows, L] or
    None) and edit_output(rows) let a host's patches see what they would see in its own blocks.
    """

    links: TextLinks
    adapters: tuple[Adapter | None, ...]
    vec: Tensor
    rotate: Callable[[Tensor, Any], Tensor]
    narrow: Callable[[Any, int, int], Any]
    attend: Attend = fused
    cache: dict | None = None
    edit: Callable | None = None
    edit_output: Callable[[Tensor], Tensor] | None = None

    def modulation(self, key: tuple, make: Callable[[Tensor], Any]) -> Any:
        """The condition rows' modulation in a block."""
        if self.cache is None:
            return make(self.vec)
        if key not in self.cache:
            self.cache[key] = make(self.vec)
        return self.cache[key]

    def added(self, kind: str, block: int, name: str, y: Tensor, x: Tensor, start: int) -> Tensor:
        """y [B, start (+ C), D] plus the LoRA's terms of the condition rows of x [B, start + C, D]."""
        if y.shape[1] == start:
            return y
        terms, first = [], start
        for size, adapter in zip(self.links.sizes, self.adapters):
            rows = slice(first, first + size)
            first += size
            terms.append((rows, None if adapter is None else adapter.term(kind, block, name, x[:, rows])))
        if all(term is None for _, term in terms):
            return y
        if torch.is_grad_enabled():
            sums = [y[:, rows] if term is None else y[:, rows] + term for rows, term in terms]
            return torch.cat([y[:, :start], *sums], dim=1)
        # `y` is a layer's own output, which nobody else reads
        for rows, term in terms:
            if term is not None:
                y[:, rows] += term
        return y

    def attention(self, q: Tensor, k: Tensor, v: Tensor, positions: Any, first: bool) -> Tensor:
        """[B, H, L, d] of all rows, or (first block, cached) of text and image alone -> [B, rows of q, H d]."""
        mask, length = None, k.shape[2]
        if self.edit is not None:
            q, k, v, positions, mask = self.edit(q, k, v, positions)
        kept = self.kept if first else None
        here = self.narrow(positions, 0, length)
        if kept is not None:
            q, k = self.rotate(q, here), self.rotate(k, here)
            q, k, v = (torch.cat([mine, theirs], dim=2) for mine, theirs in zip((q, k, v), kept))
        else:
            q, k = self.rotate(q, self.narrow(positions, 0, q.shape[2])), self.rotate(k, here)
            if first and self.keeps:
                base = length - self.links.total
                self.cache["qkv"] = tuple(x[:, :, base:].clone() for x in (q, k, v))
        out = split_attention(q, k, v, self.links, self.attend, mask)
        return out if self.edit_output is None else self.edit_output(out)

    @property
    def keeps(self) -> bool:
        """Whether the first block's condition q, k, v are kept."""
        return self.cache is not None and self.edit is None

    @property
    def kept(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The first block's condition q, k, v, rotated, [B, H, C, d] each, once they are known."""
        return self.cache.get("qkv") if self.keeps else None


def _modulate(x: Tensor, mod: Modulation) -> Tensor:
    return torch.addcmul(mod.shift, x, 1 + mod.scale)


def _add_product(x: Tensor, a: Tensor, b: Tensor, start: int, x2: Tensor, a2: Tensor, b2: Tensor) -> Tensor:
    """x + a b for the rows before `start`, x2 + a2 b2 for the others, in one tensor; a and a2 are whole [B, L, D].

    x and b are [B, 1, D] or whole; without gradients each part is written where it belongs.
    """
    parts = (x, a[:, :start], b), (x2, a2[:, start:], b2)
    if torch.is_grad_enabled():
        return torch.cat([torch.addcmul(*part) for part in parts], dim=1)
    out = torch.empty_like(a)
    torch.addcmul(*parts[0], out=out[:, :start])
    torch.addcmul(*parts[1], out=out[:, start:])
    return out


def _by_region(x: Tensor, start: int, mod: Modulation, condition: Modulation) -> Tensor:
    """Modulate the rows before `start` and the condition rows from there on, each with its own."""
    if x.shape[1] == start:
        return _modulate(x, mod)
    return _add_product(mod.shift, x, 1 + mod.scale, start, condition.shift, x, 1 + condition.scale)


def _gated(x: Tensor, y: Tensor, start: int, gate: Tensor, condition: Tensor) -> Tensor:
    """x + gate y, by region."""
    if x.shape[1] == start:
        return torch.addcmul(x, gate, y)
    return _add_product(x[:, :start], y, gate, start, x[:, start:], y, condition)


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _finite(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=0.0, posinf=65504, neginf=-65504) if x.dtype == torch.float16 else x


def double_block(
    layers: DoubleLayers, index: int, text: Tensor, hidden: Tensor, vec: Tensor, positions: Any, branch: Branch
) -> tuple[Tensor, Tensor]:
    """A double block: text [B, T, D] and [image | conditions] [B, N + C, D], vec [B, D] -> both.

    positions: rotary positions of [text | image | conditions]; index: number of the block. Source: spec sections 6-9.
    """
    start, words = hidden.shape[1] - branch.links.total, text.shape[1]
    image1, image2 = layers.modulation(IMAGE, vec)
    text1, text2 = layers.modulation(TEXT, vec)
    cond1, cond2 = branch.modulation((DOUBLE, index), lambda at_zero: layers.modulation(IMAGE, at_zero))

    known = index == 0 and branch.kept is not None
    x = layers.norm(IMAGE, 0, hidden[:, :start] if known else hidden)
    x = _by_region(x, start, image1, cond1)
    q, k, v = layers.qkv(IMAGE, x)
    q, k, v = (branch.added(DOUBLE, index, name, y, x, start) for name, y in zip("qkv", (q, k, v)))
    q, k, v = (_heads(y, layers.heads) for y in (q, k, v))
    q, k = layers.qk_norm(IMAGE, q, k, v)
    own = [_heads(y, layers.heads) for y in layers.qkv(TEXT, _modulate(layers.norm(TEXT, 0, text), text1))]
    own[:2] = layers.qk_norm(TEXT, *own)
    q, k, v = (torch.cat(pair, dim=2) for pair in zip(own, (q, k, v)))
    rows = branch.attention(q, k, v, positions, first=index == 0)
    del q, k, v

    out = layers.proj(IMAGE, rows[:, words:])
    out = branch.added(DOUBLE, index, "proj", out, out, start)  # sequential: its input is the projection's output
    hidden = _gated(hidden, out, start, image1.gate, cond1.gate)
    out = layers.mlp(IMAGE, _by_region(layers.norm(IMAGE, 1, hidden), start, image2, cond2))
    hidden = _gated(hidden, out, start, image2.gate, cond2.gate)

    text = torch.addcmul(text, text1.gate, layers.proj(TEXT, rows[:, :words]))
    out = layers.mlp(TEXT, _modulate(layers.norm(TEXT, 1, text), text2))
    return _finite(torch.addcmul(text, text2.gate, out)), _finite(hidden)


def single_block(
    layers: SingleLayers, index: int, hidden: Tensor, vec: Tensor, positions: Any, branch: Branch, last: bool = False
) -> Tensor:
    """A single block: [text | image | conditions] [B, L, D] -> the same, or [text | image] of the `last` block.

    In the last block condition rows give keys and values only, since nothing reads them afterwards.
    """
    start = hidden.shape[1] - branch.links.total
    last = last and branch.edit is None and branch.edit_output is None
    mod = layers.modulation(vec)
    cond = branch.modulation((SINGLE, index), layers.modulation)
    x = _by_region(layers.norm(hidden), start, mod, cond)
    q, k, v, rest = layers.enter(x, start if last else hidden.shape[1])
    q, k, v = (branch.added(SINGLE, index, name, y, x, start) for name, y in zip("qkv", (q, k, v)))
    q, k, v = (_heads(y, layers.heads) for y in (q, k, v))
    q, k = layers.qk_norm(q, k, v)
    del x
    rows = branch.attention(q, k, v, positions, first=False)
    del q, k, v
    out = layers.leave(rows, rest)
    del rows, rest
    if last:
        return _finite(torch.addcmul(hidden[:, :start], mod.gate, out))
    return _finite(_gated(hidden, out, start, mod.gate, cond.gate))
