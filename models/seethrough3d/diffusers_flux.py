"""The condition branch on a FLUX transformer with diffusers' layers (`FluxTransformer2DModel`), whose weights it uses.

Nothing of diffusers is imported: a transformer is handed in, and its layers are called by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpointed

from ...kernels.split_attention import Attend, fused
from ...scene.errors import InputError
from .blocks import IMAGE, Branch, double_block, single_block
from .lora import Adapter, LoraShape
from .tokens import Condition, condition_ids, image_ids, text_links

CPU_ROWS = 1024  # tokens whose MLP is computed at once on a CPU: its four times wider states then stay in the cache


def by_rows(layer: Callable[..., Tensor], *streams: Tensor) -> Tensor:
    """layer(*streams), streams [B, L, D] of tokens that do not meet in it; in pieces where that is quicker."""
    length = streams[0].shape[1]
    if streams[0].device.type != "cpu" or torch.is_grad_enabled() or length <= CPU_ROWS:
        return layer(*streams)
    out = None
    for start in range(0, length, CPU_ROWS):
        piece = layer(*(x[:, start : start + CPU_ROWS] for x in streams))
        if out is None:
            out = piece.new_empty(piece.shape[0], length, piece.shape[2])
        out[:, start : start + CPU_ROWS] = piece
    return out


class Mod(NamedTuple):
    """Shift, scale and gate, [B, 1, D] each."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


def _mods(linear, vec: Tensor, count: int) -> list[Mod]:
    parts = linear(F.silu(vec))[:, None].chunk(3 * count, dim=-1)
    return [Mod(*parts[3 * i : 3 * i + 3]) for i in range(count)]


class DiffusersDouble:
    """`DoubleLayers` of a `FluxTransformerBlock`."""

    def __init__(self, block: Any) -> None:
        self.block, self.heads = block, block.attn.heads

    def modulation(self, stream: str, vec: Tensor) -> tuple[Mod, Mod]:
        norm = self.block.norm1 if stream == IMAGE else self.block.norm1_context
        first, second = _mods(norm.linear, vec, 2)
        return first, second

    def norm(self, stream: str, place: int, x: Tensor) -> Tensor:
        block = self.block
        if place == 0:
            return (block.norm1 if stream == IMAGE else block.norm1_context).norm(x)
        return (block.norm2 if stream == IMAGE else block.norm2_context)(x)

    def qkv(self, stream: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attn = self.block.attn
        if stream == IMAGE:
            return attn.to_q(x), attn.to_k(x), attn.to_v(x)
        return attn.add_q_proj(x), attn.add_k_proj(x), attn.add_v_proj(x)

    def qk_norm(self, stream: str, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        attn = self.block.attn
        if stream == IMAGE:
            return attn.norm_q(q), attn.norm_k(k)
        return attn.norm_added_q(q), attn.norm_added_k(k)

    def proj(self, stream: str, x: Tensor) -> Tensor:
        return self.block.attn.to_out[0](x) if stream == IMAGE else self.block.attn.to_add_out(x)

    def mlp(self, stream: str, x: Tensor) -> Tensor:
        return by_rows(self.block.ff if stream == IMAGE else self.block.ff_context, x)


class DiffusersSingle:
    """`SingleLayers` of a `FluxSingleTransformerBlock`."""

    def __init__(self, block: Any) -> None:
        self.block, self.heads = block, block.attn.heads

    def modulation(self, vec: Tensor) -> Mod:
        return _mods(self.block.norm.linear, vec, 1)[0]

    def norm(self, x: Tensor) -> Tensor:
        return self.block.norm.norm(x)

    def enter(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        attn, read = self.block.attn, x[:, :rows]
        return attn.to_q(read), attn.to_k(x), attn.to_v(x), read

    def qk_norm(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.block.attn.norm_q(q), self.block.attn.norm_k(k)

    def leave(self, attended: Tensor, rest: Tensor) -> Tensor:
        block = self.block

        def both(rows: Tensor, x: Tensor) -> Tensor:
            return block.proj_out(torch.cat([rows, block.act_mlp(block.proj_mlp(x))], dim=2))

        return by_rows(both, attended, rest)


def rotary(cos: Tensor, sin: Tensor) -> Tensor:
    """diffusers' (cos, sin) [L, d], each value twice, as turns of neighbouring pairs: complex [L, d / 2]."""
    return torch.complex(cos[:, ::2].contiguous(), sin[:, ::2].contiguous())


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding of neighbouring pairs of x [B, H, L, d] by `rotary` positions, computed in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * positions).flatten(3).to(x.dtype)


def narrow(positions: Tensor, start: int, length: int) -> Tensor:
    """Some rows of `rotary` positions."""
    return positions[start : start + length]


def transformer_shape(transformer: Any) -> LoraShape:
    """What a LoRA for this transformer must fit; InputError for one that is not FLUX.1's."""
    names = ("x_embedder", "context_embedder", "time_text_embed", "transformer_blocks", "single_transformer_blocks")
    missing = [name for name in names if not hasattr(transformer, name)]
    if missing or not len(transformer.transformer_blocks):
        raise InputError(f"A {type(transformer).__name__} is no FLUX.1 transformer of diffusers; load FLUX.1-dev.")
    width = transformer.x_embedder.out_features
    return LoraShape(len(transformer.transformer_blocks), len(transformer.single_transformer_blocks), width, ())


def embed_time(transformer: Any, timestep: Tensor, guidance: Tensor | None, pooled: Tensor) -> Tensor:
    """The modulation vector [B, D]; timestep in 0..1, guidance as given, both times 1000 inside."""
    if getattr(transformer.config, "guidance_embeds", True):
        if guidance is None:
            raise InputError("This FLUX reads the guidance as an input (it is FLUX.1-dev); give one, usually 3.5.")
        return transformer.time_text_embed(timestep * 1000, guidance * 1000, pooled)
    return transformer.time_text_embed(timestep * 1000, pooled)


def chosen(rows: Sequence[Sequence[Condition]], adapters: Sequence[Adapter]) -> tuple[Adapter | None, ...]:
    """The adapter of each condition; all None without a LoRA. InputError for one that the LoRA has not."""
    wanted = [condition.adapter for condition in rows[0]]
    if any([condition.adapter for condition in row] != wanted for row in rows):
        raise InputError("Pictures of one batch need the same adapters; sample them one after the other.")
    if adapters and max(wanted) >= len(adapters):
        raise InputError(f"A condition wants adapter {max(wanted) + 1} and the LoRA has {len(adapters)}.")
    return tuple(adapters[index] if adapters else None for index in wanted)


def velocity(
    transformer: Any,
    image: Tensor,
    text: Tensor,
    pooled: Tensor,
    timestep: Tensor,
    guidance: Tensor | None,
    grid: tuple[int, int],
    rows: Sequence[Sequence[Condition]],
    adapters: Sequence[Adapter] = (),
    *,
    cache: dict | None = None,
    attend: Attend = fused,
    checkpoint: bool = False,
    ids_dtype: torch.dtype = torch.float32,
    observe: Callable[[str, int, dict[str, Tensor]], None] | None = None,
) -> Tensor:
    """FLUX's velocity with condition tokens: [B, N, 4c].

    image: [B, N, 4c] packed noisy latents on `grid` = (rows, columns) of tokens; text: [B, T, E] T5 states; pooled:
    [B, P]; timestep [B] in 0..1, guidance [B] or None; rows: the conditions of each picture of the batch, with one
    adapter of `adapters` each (none: the base weights alone). cache: a dict kept over the steps of one generation (same
    conditions, guidance, pooled text); leave it out when training. checkpoint: keep no activations inside blocks.
    ids_dtype: what positions are rounded to; the official inference rounds them to bfloat16, which only matters where
    the picture is no multiple of the condition's size. observe(kind, block, {name: tokens}) sees each block's output.
    Raises InputError for what does not fit.
    """
    chosen_adapters = chosen(rows, adapters)
    reach = max((position for row in rows for c in row for span in c.spans for position in span), default=-1)
    if reach >= text.shape[1]:
        raise InputError(f"A description reaches token {reach} and the text has {text.shape[1]}; encode it with 512.")
    hidden, dtype = transformer.x_embedder(image), image.dtype
    own = {} if cache is None else cache
    if "links" not in own:
        own["links"] = text_links(rows, image.device)
        tokens = torch.cat([torch.stack([row[i].tokens for row in rows]) for i in range(len(rows[0]))], dim=1)
        own["tokens"] = transformer.x_embedder(tokens.to(image.device, dtype))
        ids = [torch.zeros(text.shape[1], 3), image_ids(*grid), *(condition_ids(c.grid, grid) for c in rows[0])]
        own["positions"] = rotary(*transformer.pos_embed(torch.cat(ids).to(image.device, ids_dtype)))
        own["vec"] = embed_time(transformer, torch.zeros_like(timestep), guidance, pooled)
    links, positions = own["links"], own["positions"]
    branch = Branch(links, chosen_adapters, own["vec"], rotate, narrow, attend, cache)
    vec = embed_time(transformer, timestep, guidance, pooled)
    hidden, text = torch.cat([hidden, own["tokens"]], dim=1), transformer.context_embedder(text)
    start = image.shape[1]

    def run(block: Callable, *arguments):
        if checkpoint and torch.is_grad_enabled():
            return checkpointed(block, *arguments, use_reentrant=False)
        return block(*arguments)

    for index, block in enumerate(transformer.transformer_blocks):
        text, hidden = run(double_block, DiffusersDouble(block), index, text, hidden, vec, positions, branch)
        if observe is not None:
            observe("double", index, {"txt": text, "img": hidden[:, :start], "cond": hidden[:, start:]})
    words, start = text.shape[1], start + text.shape[1]
    hidden = torch.cat([text, hidden], dim=1)
    count = len(transformer.single_transformer_blocks)
    for index, block in enumerate(transformer.single_transformer_blocks):
        last = index == count - 1
        hidden = run(single_block, DiffusersSingle(block), index, hidden, vec, positions, branch, last)
        if observe is not None:
            observe("single", index, {"txt_img": hidden[:, :start], "cond": hidden[:, start:]})
    return transformer.proj_out(transformer.norm_out(hidden[:, words:start], vec))
