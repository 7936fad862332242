"""Loading the published checkpoints: a `.json` with class and arguments beside a `.safetensors` with the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from .config import FlowConfig, SparseVaeConfig, StructureVaeConfig, parse_dtype
from .safetensors_file import SafetensorsFile
from .sc_vae import ShapeDecoder, ShapeEncoder, SparseVaeDecoder, SparseVaeEncoder
from .slat_flow import StructuredLatentFlow
from .sparse_structure_flow import SparseStructureFlow
from .sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from .tiny_encoder import TinyEncoderConfig, TinyImageEncoder

CLASSES: dict[str, tuple[type[nn.Module], Any]] = {
    "SparseStructureFlowModel": (SparseStructureFlow, FlowConfig),
    "SLatFlowModel": (StructuredLatentFlow, FlowConfig),
    "ElasticSLatFlowModel": (StructuredLatentFlow, FlowConfig),
    "SparseStructureDecoder": (SparseStructureDecoder, StructureVaeConfig),
    "SparseStructureEncoder": (SparseStructureEncoder, StructureVaeConfig),
    "FlexiDualGridVaeDecoder": (ShapeDecoder, SparseVaeConfig),
    "FlexiDualGridVaeEncoder": (ShapeEncoder, SparseVaeConfig),
    "SparseUnetVaeDecoder": (SparseVaeDecoder, SparseVaeConfig),
    "SparseUnetVaeEncoder": (SparseVaeEncoder, SparseVaeConfig),
    "TinyImageEncoder": (TinyImageEncoder, TinyEncoderConfig),
}
PROJECTION_KEY = "blocks.0.cross_attn.proj_linear.weight"
COMPUTED = ("rope_phases",)  # follows from the configuration; the file's copy is not even read


def infer_args(args: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Completes the arguments with what the weights show: the projecting attention of Pixal3D and its input width.

    Some copies of the published `.json` files leave `image_attn_mode` and `proj_in_channels` out.
    """
    args = dict(args)
    if PROJECTION_KEY not in weights:
        if args.get("image_attn_mode", "global") != "global":
            raise InputError(
                f"The configuration asks for image_attn_mode {args['image_attn_mode']!r}, but the weights have no "
                f"{PROJECTION_KEY}: they belong to another model."
            )
        return args
    if args.get("image_attn_mode", "global") == "global":
        args["image_attn_mode"] = "proj"
    if args.get("proj_in_channels") is None:
        width = int(weights[PROJECTION_KEY].shape[1])
        if args["image_attn_mode"] == "gated_proj":
            width -= args.get("vae_in_channels") or 16
        args["proj_in_channels"] = width
    return args


def build_model(name: str, args: Mapping[str, Any], dtype: torch.dtype | str | None = None) -> nn.Module:
    """An uninitialized network on the meta device; `dtype` overrides the torso dtype of the arguments.

    name: the published class name, one of `CLASSES`. Raises InputError for an unknown class or unusable arguments.
    """
    if name not in CLASSES:
        raise InputError(f"The model class {name!r} is unknown; known are {', '.join(CLASSES)}.")
    model_class, config_class = CLASSES[name]
    args = dict(args)
    if dtype is not None:
        args.update(dtype=parse_dtype(dtype), use_fp16=False)
    with torch.device("meta"):
        return model_class(config_class.from_args(args))


def assign_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    source: str = "the weights",
    *,
    device: torch.device | str = "cpu",
    check_finite: bool = True,
) -> nn.Module:
    """Puts `weights` into a network built on the meta device, each cast once to the dtype the network holds.

    Every key must be there with the right shape and no other may be; `rope_phases` is computed, `pos_emb` too where it
    is missing. Raises InputError naming every missing, foreign and misshapen key, and any weight that is not finite.
    """
    expected = model.state_dict()
    computed = model.computed_buffers() if hasattr(model, "computed_buffers") else {}
    mapped = isinstance(weights, SafetensorsFile)
    shapes = {k: tuple(weights.shape(k) if mapped else weights[k].shape) for k in weights if k not in COMPUTED}
    missing = [k for k in expected if k not in shapes and k not in computed]
    foreign = [k for k in shapes if k not in expected]
    misshapen = [
        f"{k} {list(shapes[k])} instead of {list(expected[k].shape)}"
        for k in shapes
        if k in expected and shapes[k] != tuple(expected[k].shape)
    ]
    problems = [
        f"{what}: {', '.join(names)}"
        for what, names in (("missing", missing), ("foreign", foreign), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise InputError(f"{source} does not fit {type(model).__name__}; {'; '.join(problems)}.")
    state = {}
    for key, slot in expected.items():
        value = weights[key] if key in shapes else computed[key]
        state[key] = value.to(device=device, dtype=slot.dtype, copy=mapped)
        if check_finite and not bool(torch.isfinite(state[key]).all()):
            raise InputError(f"{key} in {source} is not finite in {slot.dtype}; the file is damaged.")
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def read_config(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Class name and arguments from a published `.json`; raises InputError where they are not there."""
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return str(data["name"]), dict(data["args"])
    except FileNotFoundError:
        raise InputError(f"There is no {path}, the configuration beside the weights.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not a model configuration with `name` and `args`.") from None


def load_model(
    stem: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    check_finite: bool = True,
) -> nn.Module:
    """Loads the pair `stem.json` + `stem.safetensors` (either suffix may be given).

    The torso (linear and convolution layers inside the blocks) takes the dtype of the configuration or `dtype`, the
    rest is float32. Raises InputError naming whatever does not fit.
    """
    stem = Path(stem)
    if stem.suffix in (".json", ".safetensors"):
        stem = stem.with_suffix("")
    name, args = read_config(stem.parent / f"{stem.name}.json")
    file = SafetensorsFile(stem.parent / f"{stem.name}.safetensors")
    if CLASSES.get(name, (None, None))[1] is FlowConfig:
        args = infer_args(args, file)
    model = build_model(name, args, dtype)
    return assign_weights(model, file, str(file.path), device=device, check_finite=check_finite)
