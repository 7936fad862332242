"""Writes a MoGe of core's own, tiny, that sees a wall in every picture: x and y of the view plane at one depth.

Run inside ComfyUI: ``python native_moge.py COMFYUI_TREE BASE_FOLDER``; answers with the name of the file.
"""

import math
import sys
from pathlib import Path

from inside_comfyui import answer, enter

NAME, DEPTH, SLOPE = "moge-tiny-wall.safetensors", 2.0, 0.8
WIDTH, LEVELS = 8, 5


def stack(channels_in, channels_out):
    """Sizes of one of MoGe's convolution stacks."""
    return {
        "dim_in": channels_in, "dim_out": channels_out,
        "dim_res_blocks": [WIDTH] * LEVELS, "num_res_blocks": [1] * LEVELS,
        "resamplers": ["bilinear"] * (LEVELS - 1),
    }  # fmt: skip


def wall():
    """The weights: everything zero but the way from the finest view-plane coordinates to the points."""
    import torch
    from comfy.ldm.moge.model import MoGeModelV2

    dino = {
        "hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 4, "layer_norm_eps": 1e-6,
        "use_swiglu_ffn": False,
    }  # fmt: skip
    inner = [WIDTH] * LEVELS
    model = MoGeModelV2(
        encoder={"backbone": dino, "intermediate_layers": [0, 1, 2, 3], "dim_out": 6},
        neck=stack([8, 2, 2, 2, 2], inner), points_head=stack(inner, [None] * 4 + [3]),
        mask_head=stack(inner, [None] * 4 + [1]), scale_head={"dims": [64, 8, 1]}, dtype=torch.float32,
    )  # fmt: skip
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    weights["encoder.image_std"] += 1
    for name in ("neck.input_blocks.4", "neck.output_blocks.4", "points_head.input_blocks.4"):
        for channel in range(2):
            weights[f"{name}.weight"][channel, channel] = 1
    for channel in range(2):
        weights["points_head.output_blocks.4.weight"][channel, channel] = SLOPE
    weights["points_head.output_blocks.4.bias"][2] = math.log(DEPTH)
    weights["mask_head.output_blocks.4.bias"] += 5
    return weights


if __name__ == "__main__":
    folder = Path(sys.argv[2]) / "models" / "geometry_estimation"
    enter()
    try:
        import comfy.ldm.moge.model  # noqa: F401
    except ImportError:
        answer({"absent": "MoGe"})
    else:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(wall(), folder / NAME)
        answer({"file": NAME})
