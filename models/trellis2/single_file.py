"""ComfyUI's own files of TRELLIS.2 and Pixal3D: several networks in one file, their sizes told by the shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from .checkpoint import assign_weights, build_model, infer_args
from .safetensors_file import SafetensorsFile

ROLES = {
    "structure_model": ("sparse_structure_flow_model", "SparseStructureFlowModel"),
    "img2shape_512": ("shape_slat_flow_model_512", "SLatFlowModel"),
    "img2shape": ("shape_slat_flow_model_1024", "SLatFlowModel"),
    "shape2txt": ("tex_slat_flow_model_1024", "SLatFlowModel"),
    "struct_dec": ("sparse_structure_decoder", "SparseStructureDecoder"),
    "shape_dec": ("shape_slat_decoder", "FlexiDualGridVaeDecoder"),
    "txt_dec": ("tex_slat_decoder", "SparseUnetVaeDecoder"),
}
OUTER = "model.diffusion_model."
PLAIN = (torch.float32, torch.bfloat16, torch.float16)
# grid sides no shape shows; only the dense structure flow depends on its own
GRIDS = {"structure_model": 16, "img2shape_512": 32, "img2shape": 64, "shape2txt": 64}


def load_single_file(
    weights: Mapping[str, Tensor], *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None
) -> dict[str, nn.Module]:
    """The networks of one such file by their published roles; see `networks_of`."""
    return {role: load() for role, load in networks_of(weights, device=device, dtype=dtype).items()}


def networks_of(
    weights: Mapping[str, Tensor], *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None
) -> dict[str, Callable[[], nn.Module]]:
    """For every network of one such file its published role and a function that builds it with its weights.

    weights: its tensors by name, float32, bfloat16 or float16; a leading `model.diffusion_model.` is passed over.
    dtype: of the torso, that of the file where it is None. Raises InputError where no network is in it and for
    quantized weights at once, where a network does not fit when it is built.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in weights:
        prefix, _, key = name.removeprefix(OUTER).partition(".")
        if prefix in ROLES:
            parts.setdefault(prefix, {})[key] = name
    if not parts:
        raise InputError(f"The file holds no network of TRELLIS.2 or Pixal3D; it has none of {', '.join(ROLES)}.")
    for prefix, names in parts.items():
        for key, name in names.items():
            if weights[name].dtype not in PLAIN:
                raise InputError(
                    f"{prefix}.{key} is {weights[name].dtype}, the file is quantized; let ComfyUI's own loader and "
                    "sampler run it, or choose the published weights."
                )

    def loader(prefix: str, names: Mapping[str, str]) -> Callable[[], nn.Module]:
        return lambda: _build(prefix, {key: weights[name] for key, name in names.items()}, weights, device, dtype)

    return {ROLES[prefix][0]: loader(prefix, names) for prefix, names in parts.items()}


def _build(prefix: str, state: dict[str, Tensor], weights: Mapping[str, Tensor], device, dtype) -> nn.Module:
    kind = ROLES[prefix][1]
    try:
        args = _flow_args(state, GRIDS[prefix]) if prefix in GRIDS else _decoder_args(state)
    except KeyError as missing:
        raise InputError(f"The file has no {prefix}.{missing.args[0]}; it is no complete {kind}.") from None
    torso = dtype or next(v.dtype for k, v in state.items() if k.startswith("blocks.0.") and v.ndim > 1)
    if isinstance(weights, SafetensorsFile):  # its tensors are views of the file
        state = {key: value.clone() for key, value in state.items()}
    return assign_weights(build_model(kind, args, torso), state, prefix, device=device)


def _flow_args(state: Mapping[str, Tensor], resolution: int) -> dict[str, Any]:
    channels, in_channels = state["input_layer.weight"].shape
    self_norm, inner = "blocks.0.self_attn.q_rms_norm.gamma", "blocks.0.cross_attn."
    if inner + "cross_attn_block.to_kv.weight" in state:
        inner += "cross_attn_block."
    args = {
        "resolution": resolution,
        "in_channels": in_channels,
        "out_channels": state["out_layer.weight"].shape[0],
        "model_channels": channels,
        "cond_channels": state[inner + "to_kv.weight"].shape[1],
        "num_blocks": _count(state, "blocks.{}.norm2.weight"),
        "num_heads": state[self_norm].shape[0],
        "mlp_ratio": (state["blocks.0.mlp.mlp.0.weight"].shape[0] + 0.5) / channels,
        "pe_mode": "rope",
        "share_mod": "blocks.0.modulation" in state,
        "qk_rms_norm": True,
        "qk_rms_norm_cross": inner + "q_rms_norm.gamma" in state,
    }
    return infer_args(args, state)


def _decoder_args(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return _sparse_decoder_args(state) if "from_latent.weight" in state else _structure_decoder_args(state)


def _sparse_decoder_args(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths, latent = [state["from_latent.weight"].shape[0]], state["from_latent.weight"].shape[1]
    counts = [_count(state, "blocks.0.{}.conv.weight")]
    while (up := f"blocks.{len(counts) - 1}.{counts[-1]}.conv2.weight") in state:
        widths.append(state[up].shape[0])
        counts.append(_count(state, f"blocks.{len(counts)}.{{}}.conv.weight"))
    return {
        "model_channels": widths,
        "latent_channels": latent,
        "num_blocks": counts,
        "out_channels": state["output_layer.weight"].shape[0],
        "pred_subdiv": f"blocks.0.{counts[0]}.to_subdiv.weight" in state,
    }


def _structure_decoder_args(state: Mapping[str, Tensor]) -> dict[str, Any]:
    widths, latent = [state["input_layer.weight"].shape[0]], state["input_layer.weight"].shape[1]
    count = _count(state, "blocks.{}.conv1.weight")
    while (up := f"blocks.{len(widths) * (count + 1) - 1}.conv.weight") in state:
        widths.append(state[up].shape[0] // 8)
    return {
        "latent_channels": latent,
        "num_res_blocks": count,
        "num_res_blocks_middle": _count(state, "middle_block.{}.conv1.weight"),
        "channels": widths,
        "out_channels": state["out_layer.2.weight"].shape[0],
    }


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count
