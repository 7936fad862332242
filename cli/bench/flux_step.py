"""One step of a FLUX of three blocks with SeeThrough3D's condition tokens: ours beside the official code.

FLUX has 19 double and 38 single blocks; one and two of them, narrower, show their ratio. What only the first and the
last block save weighs more here than in the whole model: about 2 % of this step, 0.1 % of FLUX's.
"""

from __future__ import annotations

from . import opponents
from .flux_block import RANK, SIZES, conditions, official_seethrough3d
from .op import Contender, Op

TEXT_WIDTH, POOLED = 256, 64


def _network(case: dict, kind=None):
    """A transformer of random weights (`kind`: diffusers' class unless given), its LoRA, and one step's input."""
    import torch

    from ...models.seethrough3d.lora import ConditionLora, LoraShape

    kind = kind or opponents.library("diffusers").FluxTransformer2DModel
    heads, width = case["width"] // 128, case["width"]
    config = dict(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=2, attention_head_dim=128,
        num_attention_heads=heads, joint_attention_dim=TEXT_WIDTH, pooled_projection_dim=POOLED, guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )  # fmt: skip
    network = kind(**config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, value in sorted(network.named_parameters()):  # two classes of the same names
        if value.ndim > 1 or name.endswith("bias"):
            value.normal_(std=value.shape[-1] ** -0.5, generator=generator)
    lora = ConditionLora(LoraShape(1, 2, width, (RANK,))).requires_grad_(False)
    for value in lora.parameters():
        value.normal_(std=0.02, generator=generator)
    condition = conditions(case)
    given = {
        "image": torch.randn(1, case["image"] ** 2, 64, generator=generator),
        "tokens": torch.randn(*condition.tokens.shape[:1], 64, generator=generator),
        "text": torch.randn(1, case["text"], TEXT_WIDTH, generator=generator),
        "pooled": torch.randn(1, POOLED, generator=generator),
        "time": torch.tensor([0.7]),
        "guidance": torch.tensor([3.5]),
    }
    return network.to(case["device"]), lora.to(case["device"]), condition, {
        name: value.to(case["device"]) for name, value in given.items()
    }  # fmt: skip


def _ours(case):
    from dataclasses import replace

    import torch

    from ...models.seethrough3d.diffusers_flux import velocity
    from ...models.seethrough3d.lora import adapters

    network, lora, condition, given = _network(case)
    row, grid, cache = [replace(condition, tokens=given["tokens"])], (case["image"], case["image"]), {}

    def step():
        with torch.no_grad():
            return {
                "velocity": velocity(
                    network, given["image"], given["text"], given["pooled"], given["time"], given["guidance"], grid,
                    [row], adapters(lora), cache=cache,
                )
            }  # fmt: skip

    step()  # a first step, which fills what is kept for the others
    return step


def _official(case):
    import torch

    from ...models.seethrough3d.tokens import condition_ids, image_ids

    layers, blocks = official_seethrough3d(case["width"])
    network, lora, condition, given = _network(case, blocks.FluxTransformer2DModel)
    pixels = case["condition"] * 16
    options = dict(
        ranks=[RANK], network_alphas=[RANK], lora_weights=[1.0], cond_width=pixels, cond_height=pixels, n_loras=1
    )
    processors = (
        (network.transformer_blocks, layers.MultiDoubleStreamBlockLoraProcessor),
        (network.single_transformer_blocks, layers.MultiSingleStreamBlockLoraProcessor),
    )
    for parts, processor in processors:
        for block in parts:
            block.attn.set_processor(processor(case["width"], **options).to(case["device"]))
    unknown = network.load_state_dict(lora.state_dict(), strict=False).unexpected_keys
    assert not unknown, unknown
    grid = (case["image"], case["image"])
    ids = torch.cat([image_ids(*grid), condition_ids(condition.grid, grid)]).to(case["device"])

    def step():
        with torch.no_grad():
            (found,) = network(
                hidden_states=given["image"], cond_hidden_states=given["tokens"][None],
                encoder_hidden_states=given["text"], pooled_projections=given["pooled"], timestep=given["time"],
                guidance=given["guidance"], img_ids=ids, txt_ids=torch.zeros(case["text"], 3, device=case["device"]),
                call_ids=[list(map(list, condition.spans))], cuboids_segmasks=[condition.cells], return_dict=False,
            )  # fmt: skip
            return {"velocity": found[:, : given["image"].shape[1]]}

    return step


OPS = [
    Op(
        "flux_step",
        "a step of FLUX with condition tokens, one double and two single blocks, float32",
        SIZES,
        (Contender("ours", _ours), Contender("official code", _official, note="of $SEETHROUGH3D_PATH, at this width")),
    )
]
