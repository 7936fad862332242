"""One block of the flow transformer: self-attention over the 16^3 structure tokens, cross-attention, feed-forward."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op

CONTEXT = 1029  # image tokens at 512 pixels


def _inputs(case: dict):
    """Our block with random weights, tokens [1, R^3, C], modulation [1, 6C], context [1, M, 1024], positions."""
    import torch

    from ...models.trellis2.blocks import ModulatedBlock

    width, side = case["width"], case["side"]
    torch.manual_seed(0)
    block = ModulatedBlock(
        width, 1024, width // 128, 5.3334, share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True
    ).eval()
    x, mod = torch.randn(1, side**3, width), 0.1 * torch.randn(1, 6 * width)
    context = torch.randn(1, CONTEXT, 1024)
    coords = torch.cartesian_prod(*[torch.arange(side)] * 3)
    return block.to(case["device"]), [tensor.to(case["device"]) for tensor in (x, mod, context, coords)]


def _ours(case):
    import torch

    from ...models.trellis2.blocks import Context, rope_phases

    block, (x, mod, context, coords) = _inputs(case)
    phases = rope_phases(coords, 128)

    def step():
        with torch.no_grad():
            return {"tokens": block(x, mod, Context(context), phases)}

    return step


def _core(fused: bool):
    def prepare(case):
        import torch

        model = opponents.comfyui("comfy.ldm.trellis2.model", case["device"])
        operations = opponents.comfyui("comfy.ops", case["device"]).disable_weight_init
        if fused:
            attention = opponents.comfyui("comfy.ldm.modules.attention", case["device"])
            model.optimized_attention = attention.attention_pytorch
        block, (x, mod, context, coords) = _inputs(case)
        width = case["width"]
        theirs = model.ModulatedTransformerCrossBlock(
            width,
            1024,
            width // 128,
            5.3334,
            qk_rms_norm=True,
            qk_rms_norm_cross=True,
            share_mod=True,
            operations=operations,
        ).eval()
        theirs.load_state_dict(block.state_dict())
        theirs.to(case["device"])
        phases = model.RotaryPositionEmbedder(128)(coords).to(case["device"])

        def step():
            with torch.no_grad():
                return {"tokens": theirs(x, mod, context, phases)}

        return step

    return prepare


OPS = [
    Op(
        "dit_block",
        "a block of the sparse structure flow, float32",
        {
            "S": dict(width=512, side=12),
            "M": dict(width=512, side=16),
            "L": dict(width=1536, side=16),  # the published width
        },
        (
            Contender("ours", _ours),
            Contender("core, fused attention", _core(True), note="with --use-pytorch-cross-attention"),
            Contender("core", _core(False), note="its default on a CPU: sub-quadratic attention"),
        ),
    )
]
