"""Which part of SAM 3D Objects a file holds, and how large its networks are, read from names and shapes of its tensors.

The published `.yaml` files then add only what no shape shows (dtype, resolution); a checkpoint without them loads too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ...scene.errors import InputError
from ..trellis1.gaussians import hammersley

GENERATOR = "_base_models.generator.reverse_fn.backbone."
EMBEDDER = "_base_models.condition_embedder."
HEAD, POINT_HEAD = 64, 32  # channels of an attention head in every published network; in the point map's
Shapes = Mapping[str, tuple[int, ...]]


def parts_in(names: Collection[str], shapes: Shapes | None = None) -> list[str]:
    """The parts a checkpoint holds, told by its keys; empty where it is none of SAM 3D's.

    shapes: tells the decoder of 4 Gaussians a voxel from that of 32.
    """
    found = []
    if GENERATOR + "latent_mapping.shape.out_layer.weight" in names:
        found.append("ss_generator")
    elif GENERATOR + "input_blocks.0.norm1.weight" in names:
        found.append("slat_generator")
    if EMBEDDER + "idx_emb" in names:
        points = EMBEDDER + "module_list.2.invalid_xyz_token" in names
        stage = found[0].split("_")[0] if found else ("ss" if points else "slat")
        found.append(f"{stage}_condition_embedder")
    if "offset_perturbation" in names:
        few = shapes is not None and shapes["offset_perturbation"][0] < 32
        found.append("slat_decoder_gs_4" if few else "slat_decoder_gs")
    elif "upsample.0.out_layers.0.conv.weight" in names:
        found.append("slat_decoder_mesh")
    elif "middle_block.0.conv1.weight" in names and "out_layer.2.weight" in names:
        found.append("ss_decoder")
    return found


def sizes(part: str, shapes: Shapes) -> dict[str, Any]:
    """Constructor arguments of a part as far as the shapes of its tensors (prefix taken off) show them.

    Raises InputError where the tensors are those of another network.
    """
    try:
        return _SIZES[part](shapes)
    except (KeyError, IndexError, StopIteration, ZeroDivisionError) as error:
        raise InputError(f"These tensors are not those of SAM 3D's {part} ({error} is not among them).") from None


def count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number that stands at `#` in the names."""
    expression = re.compile(re.escape(pattern).replace("\\#", r"(\d+)"))
    return max((int(m[1]) + 1 for m in map(expression.match, shapes) if m), default=0)


def _heads(shapes: Shapes, gamma: str, width: int) -> int:
    return shapes[gamma][0] if gamma in shapes else max(width // HEAD, 1)


def structure_flow(shapes: Shapes) -> dict[str, Any]:
    width = shapes["t_embedder.mlp.2.weight"][0]
    gamma = "blocks.0.self_attn.q_rms_norm.shape.gamma"
    args = {
        "model_channels": width,
        "cond_channels": shapes["blocks.0.cross_attn.shape.to_kv.weight"][1],
        "in_channels": shapes["latent_mapping.shape.input_layer.weight"][1],
        "num_blocks": count(shapes, "blocks.#."),
        "num_heads": _heads(shapes, gamma, width),
        "mlp_ratio": shapes["blocks.0.mlp.shape.mlp.0.weight"][0] / width,
        "qk_rms_norm": gamma in shapes,
        "is_shortcut_model": "d_embedder.mlp.0.weight" in shapes,
        "share_mod": "adaLN_modulation.1.weight" in shapes,
    }
    if "latent_mapping.shape.pos_emb" in shapes:
        args["resolution"] = round(shapes["latent_mapping.shape.pos_emb"][0] ** (1 / 3))
    return args


def latent_flow(shapes: Shapes) -> dict[str, Any]:
    width = shapes["t_embedder.mlp.2.weight"][0]
    gamma = "blocks.0.self_attn.q_rms_norm.gamma"
    io = shapes["input_layer.weight"][0]
    return {
        "model_channels": width,
        "cond_channels": shapes["blocks.0.cross_attn.to_kv.weight"][1],
        "in_channels": shapes["input_layer.weight"][1],
        "out_channels": shapes["out_layer.weight"][0],
        "num_blocks": count(shapes, "blocks.#."),
        "num_heads": _heads(shapes, gamma, width),
        "mlp_ratio": shapes["blocks.0.mlp.mlp.0.weight"][0] / width,
        "qk_rms_norm": gamma in shapes,
        "io_block_channels": [io],
        "num_io_res_blocks": count(shapes, "input_blocks.#."),
        "use_skip_connection": shapes["out_blocks.0.norm1.weight"][0] == 2 * width,
        "is_shortcut_model": "d_embedder.mlp.0.weight" in shapes,
        "share_mod": "adaLN_modulation.1.weight" in shapes,
    }


def structure_decoder(shapes: Shapes) -> dict[str, Any]:
    channels, plain, first = [shapes["input_layer.weight"][0]], 0, None
    for index in range(count(shapes, "blocks.#.")):
        if f"blocks.{index}.conv.weight" in shapes:  # one that doubles the grid
            channels.append(shapes[f"blocks.{index}.conv.weight"][0] // 8)
            first = plain if first is None else first
        plain += 1
    return {
        "latent_channels": shapes["input_layer.weight"][1],
        "out_channels": shapes["out_layer.2.weight"][0],
        "channels": channels,
        "num_res_blocks": plain if first is None else first,
        "num_res_blocks_middle": count(shapes, "middle_block.#."),
    }


def latent_decoder(shapes: Shapes) -> dict[str, Any]:
    width, latent = shapes["input_layer.weight"]
    args: dict[str, Any] = {
        "model_channels": width,
        "latent_channels": latent,
        "num_blocks": count(shapes, "blocks.#."),
        "num_heads": max(width // HEAD, 1),
        "mlp_ratio": shapes["blocks.0.mlp.mlp.0.weight"][0] / width,
        "qk_rms_norm": "blocks.0.attn.q_rms_norm.gamma" in shapes,
    }
    if "offset_perturbation" in shapes:
        args["representation_config"] = {"num_gaussians": shapes["offset_perturbation"][0]}
    elif "upsample.0.out_layers.0.conv.weight" in shapes:
        args["representation_config"] = {"use_color": shapes["out_layer.weight"][0] > 53}
    else:
        raise KeyError("offset_perturbation")
    return args


def embedder(shapes: Shapes) -> dict[str, Any]:
    """{"dino": of `DinoV2Config`, "points": of `PointPatchEmbed` where there is one}."""
    at = "module_list.0.backbone."
    width, patch = shapes[at + "patch_embed.proj.weight"][0], shapes[at + "patch_embed.proj.weight"][-1]
    found: dict[str, Any] = {
        "dino": {
            "embed_dim": width,
            "depth": count(shapes, at + "blocks.#."),
            "num_heads": max(width // HEAD, 1),
            "mlp_ratio": shapes[at + "blocks.0.mlp.fc1.weight"][0] / width,
            "img_size": patch * math.isqrt(shapes[at + "pos_embed"][1] - 1),
            "patch_size": patch,
            "num_register_tokens": shapes[at + "register_tokens"][1],
        }
    }
    at = "module_list.2."
    if at + "invalid_xyz_token" in shapes:
        width, patch = shapes[at + "invalid_xyz_token"][0], math.isqrt(shapes[at + "pos_embed_window"][1] - 1)
        side = shapes[at + "pos_embed"][-1]
        found["points"] = {
            "input_size": side * patch, "patch_size": patch, "embed_dim": width, "heads": max(width // POINT_HEAD, 1),
        }  # fmt: skip
    return found


_SIZES = {
    "ss_generator": structure_flow,
    "slat_generator": latent_flow,
    "ss_decoder": structure_decoder,
    "slat_decoder_gs": latent_decoder,
    "slat_decoder_gs_4": latent_decoder,
    "slat_decoder_mesh": latent_decoder,
    "ss_condition_embedder": embedder,
    "slat_condition_embedder": embedder,
}


def gaussian_reach(perturbation) -> float | None:
    """The `voxel_size` of a Gaussian decoder, from its table of offsets [n, 3] (atanh of points over that size).

    Copies of the published configuration disagree on it (1.5 or 0.5); the table was made with the right one. None where
    the table is not of this kind.
    """
    points = [[2 * value - 1 for value in hammersley(i, len(perturbation))] for i in range(len(perturbation))]
    found = [
        point / math.tanh(float(value))
        for row, values in zip(points, perturbation)
        for point, value in zip(row, values)
        if abs(point) > 0.05 and abs(float(value)) > 1e-3
    ]
    if not found or max(found) - min(found) > 1e-2 * max(abs(v) for v in found):
        return None
    return round(sum(found) / len(found), 3)
