"""A single block of FLUX with SeeThrough3D's condition tokens: split attention beside the dense mask.

The official code is imported from the checkout at $SEETHROUGH3D_PATH; where there is none, "dense mask" has its form.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from . import opponents
from .op import Contender, Missing, Op

OBJECTS, WORDS = 4, 5  # boxes, and tokens of each description
RANK = 128
SIZES = {
    "S": dict(width=256, text=128, image=24, condition=16),
    "M": dict(width=512, text=512, image=64, condition=32),  # 1024 pixels at a sixth of FLUX's width
    "L": dict(width=1024, text=512, image=64, condition=32),
}


def conditions(case: dict):
    """A condition of some boxes with a description each; its tokens are zeros."""
    import torch

    from ...models.seethrough3d.tokens import Condition

    side = case["condition"]
    cells = torch.rand(OBJECTS, side, side, generator=torch.Generator().manual_seed(1)) > 0.7
    spans = tuple(tuple(range(4 + k * (WORDS + 1), 4 + k * (WORDS + 1) + WORDS)) for k in range(OBJECTS))
    return Condition(torch.zeros(side * side, 64), (side, side), spans, cells)


def official_seethrough3d(width: int):
    """The modules `layers` and `transformer_flux` of the checkout at $SEETHROUGH3D_PATH, for blocks of this width.

    The official code has FLUX's width, 3072, written into two functions; theirs is replaced by `width` in their
    constants.
    """
    folder = os.environ.get("SEETHROUGH3D_PATH")
    if not folder or not (Path(folder) / "train" / "src" / "layers.py").is_file():
        found = f"SEETHROUGH3D_PATH is {folder}, which has no train/src/layers.py" if folder else "not found"
        raise Missing(f"{found}; set SEETHROUGH3D_PATH to a checkout of github.com/va1bhavagrawal/seethrough3d")
    opponents.library("diffusers")
    sys.path.insert(0, folder)
    try:
        from train.src import layers, transformer_flux
    except ImportError as error:
        raise Missing(f"the checkout at {folder} cannot be imported: {error}") from error
    finally:
        sys.path.remove(folder)
    for kind, name in ((layers.LoRALinearLayer, "forward"), (layers.MultiDoubleStreamBlockLoraProcessor, "__call__")):
        code = getattr(kind, name).__code__
        constants = tuple(width if c == 3072 else c for c in code.co_consts)
        setattr(kind, name, types.FunctionType(code.replace(co_consts=constants), vars(layers)))
    return layers, transformer_flux


def _inputs(case: dict):
    """Layers named as diffusers', tokens [1, T + N + C, D], two modulation vectors, positions, condition, LoRA."""
    from types import SimpleNamespace

    import torch
    from torch import nn

    from ...models.seethrough3d.lora import ConditionLora, LoraShape
    from ...models.seethrough3d.tokens import condition_ids, image_ids

    torch.manual_seed(0)
    width, heads = case["width"], case["width"] // 128
    attn = SimpleNamespace(heads=heads, norm_q=nn.RMSNorm(128, eps=1e-6), norm_k=nn.RMSNorm(128, eps=1e-6))
    for name in ("to_q", "to_k", "to_v"):
        setattr(attn, name, nn.Linear(width, width))
    norm = SimpleNamespace(linear=nn.Linear(width, 3 * width), norm=nn.LayerNorm(width, 1e-6, elementwise_affine=False))
    block = SimpleNamespace(
        attn=attn, norm=norm, proj_mlp=nn.Linear(width, 4 * width), act_mlp=nn.GELU(approximate="tanh"),
        proj_out=nn.Linear(5 * width, width),
    )  # fmt: skip
    parts = (attn.norm_q, attn.norm_k, attn.to_q, attn.to_k, attn.to_v, norm.linear, block.proj_mlp, block.proj_out)
    for part in parts:
        part.to(case["device"]).requires_grad_(False)
    lora = ConditionLora(LoraShape(0, 1, width, (RANK,))).requires_grad_(False)
    for value in lora.parameters():
        value.normal_(std=0.02)
    text, image, side = case["text"], case["image"], case["condition"]
    grid = (side, side)
    ids = torch.cat([torch.zeros(text, 3), image_ids(image, image), condition_ids(grid, (image, image))])
    angles = []
    for axis, size in enumerate((16, 56, 56)):
        frequency = 10000 ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles.append((ids[:, axis, None].double() * frequency).repeat_interleave(2, dim=1))
    angle = torch.cat(angles, dim=1)
    positions = angle.cos().float().to(case["device"]), angle.sin().float().to(case["device"])
    x = torch.randn(1, text + image * image + side * side, width)
    vec, zero = torch.randn(2, 1, width)
    return block, [t.to(case["device"]) for t in (x, vec, zero)], positions, conditions(case), lora.to(case["device"])


def _ours(case):
    import torch

    from ...models.seethrough3d.blocks import Branch, single_block
    from ...models.seethrough3d.diffusers_flux import DiffusersSingle, narrow, rotary, rotate
    from ...models.seethrough3d.lora import Adapter
    from ...models.seethrough3d.tokens import text_links

    block, (x, vec, zero), positions, condition, lora = _inputs(case)
    links = text_links([[condition]], case["device"])
    branch, positions = Branch(links, (Adapter(lora),), zero, rotate, narrow, cache={}), rotary(*positions)

    def step():
        with torch.no_grad():
            return {"tokens": single_block(DiffusersSingle(block), 0, x, vec, positions, branch)}

    return step


def _dense(kept: bool):
    def prepare(case):
        import torch
        import torch.nn.functional as F

        from ...kernels.split_attention import FORBIDDEN
        from ...models.seethrough3d.tokens import text_links

        block, (x, vec, zero), (cos, sin), condition, lora = _inputs(case)
        links = text_links([[condition]], case["device"])
        base, attn = x.shape[1] - links.total, block.attn

        def build():
            mask = torch.ones(x.shape[1], x.shape[1], device=x.device)
            mask[:base] = 0
            mask[base:, base:] = 0
            mask = mask[None, None].repeat(len(x), 1, 1, 1)
            mask[0, 0, base:, links.columns] = (~links.allowed[0][0]).float()
            return mask * FORBIDDEN

        def low(layer, y):  # over all tokens, of which only the condition's are not zero
            region = torch.ones_like(y)
            region[:, :base] = 0
            return layer(region * y)

        def rotate(y):
            real, imaginary = y.reshape(*y.shape[:-1], -1, 2).unbind(-1)
            return y.float() * cos + torch.stack([-imaginary, real], dim=-1).flatten(3).float() * sin

        stored = build() if kept else None

        def step():
            with torch.no_grad():
                mods = [block.norm.linear(F.silu(v))[:, None].chunk(3, dim=-1) for v in (vec, zero)]
                parts = zip((x[:, :base], x[:, base:]), mods)
                h = torch.cat([block.norm.norm(y) * (1 + scale) + shift for y, (shift, scale, _) in parts], dim=1)
                layers = zip("qkv", (attn.to_q, attn.to_k, attn.to_v))
                q, k, v = (layer(h) + low(lora.layer("single", 0, name, 0), h) for name, layer in layers)
                q, k, v = (y.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for y in (q, k, v))
                q, k = rotate(attn.norm_q(q)), rotate(attn.norm_k(k))
                mask = stored if kept else build()
                rows = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
                out = block.proj_out(torch.cat([rows, block.act_mlp(block.proj_mlp(h))], dim=2))
                return {"tokens": torch.cat([x[:, :base] + mods[0][2] * out[:, :base],
                                             x[:, base:] + mods[1][2] * out[:, base:]], dim=1)}  # fmt: skip

        return step

    return prepare


def _official(case):
    import torch

    layers, blocks = official_seethrough3d(case["width"])
    made, (x, vec, zero), positions, condition, lora = _inputs(case)
    base, width, pixels = x.shape[1] - len(condition.tokens), case["width"], case["condition"] * 16
    block = blocks.FluxSingleTransformerBlock(width, width // 128, 128).requires_grad_(False)
    block.attn.set_processor(
        layers.MultiSingleStreamBlockLoraProcessor(
            width, ranks=[RANK], network_alphas=[RANK], lora_weights=[1.0], cond_width=pixels, cond_height=pixels
        )
    )
    state = {f"attn.{name}": getattr(made.attn, name) for name in ("norm_q", "norm_k", "to_q", "to_k", "to_v")}
    state |= {"norm.linear": made.norm.linear, "proj_mlp": made.proj_mlp, "proj_out": made.proj_out}
    low = lora.single_transformer_blocks[0].state_dict()
    block.load_state_dict({f"{k}.{n}": v for k, part in state.items() for n, v in part.state_dict().items()} | low)
    block.to(case["device"])
    bound = dict(call_ids=[list(map(list, condition.spans))], cuboids_segmasks=[condition.cells])

    def step():
        with torch.no_grad():
            return {"tokens": torch.cat(block(x[:, :base], x[:, base:], vec, zero, positions, bound), dim=1)}

    return step


OPS = [
    Op(
        "flux_block",
        "a single block of FLUX with condition tokens, float32",
        SIZES,
        (
            Contender("ours", _ours),
            Contender("official code", _official, note="of $SEETHROUGH3D_PATH, at this width"),
            Contender(
                "dense mask", _dense(False), note="the official form: built in every block, LoRA over all tokens"
            ),
            Contender("dense mask, kept", _dense(True), note="the same, the mask built once"),
        ),
    )
]
