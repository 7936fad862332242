"""Loading TRELLIS (v1): a `.json` with class and arguments beside a `.safetensors` with the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...scene.errors import InputError
from ..trellis2.checkpoint import assign_weights, read_config
from ..trellis2.config import StructureVaeConfig, parse_dtype
from ..trellis2.safetensors_file import SafetensorsFile
from ..trellis2.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from .config import LatentDecoderConfig, LatentFlowConfig
from .decoder import LatentEncoder
from .gaussians import GaussianDecoder
from .mesh import MeshDecoder
from .radiance import RadianceFieldDecoder
from .slat_flow import LatentFlow
from .structure_flow import PatchedStructureFlow

CLASSES: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "SparseStructureFlowModel": PatchedStructureFlow.from_args,
    "SLatFlowModel": lambda args: LatentFlow(LatentFlowConfig.from_args(args)),
    "SparseStructureDecoder": lambda args: SparseStructureDecoder(StructureVaeConfig.from_args(args)),
    "SparseStructureEncoder": lambda args: SparseStructureEncoder(StructureVaeConfig.from_args(args)),
    "SLatGaussianDecoder": lambda args: GaussianDecoder(LatentDecoderConfig.from_args(args)),
    "SLatMeshDecoder": lambda args: MeshDecoder(LatentDecoderConfig.from_args(args)),
    "SLatRadianceFieldDecoder": lambda args: RadianceFieldDecoder(LatentDecoderConfig.from_args(args)),
    "SLatEncoder": lambda args: LatentEncoder(LatentDecoderConfig.from_args(args)),
}


def build_model(name: str, args: Mapping[str, Any], dtype: torch.dtype | str | None = None) -> nn.Module:
    """An uninitialized network on the meta device; `dtype` overrides the torso dtype of the arguments.

    name: the published class name, with or without "Elastic". Raises InputError for an unknown class.
    """
    make = CLASSES.get(name.removeprefix("Elastic"))
    if make is None:
        raise InputError(f"The model class {name!r} is unknown; known are {', '.join(CLASSES)}.")
    args = dict(args)
    if dtype is not None:
        args.update(dtype=parse_dtype(dtype), use_fp16=False)
    with torch.device("meta"):
        return make(args)


def load_model(
    stem: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None
) -> nn.Module:
    """Loads the pair `stem.json` + `stem.safetensors`; raises InputError naming whatever does not fit."""
    stem = Path(stem)
    stem = stem.with_suffix("") if stem.suffix in (".json", ".safetensors") else stem
    name, args = read_config(stem.parent / f"{stem.name}.json")
    file = SafetensorsFile(stem.parent / f"{stem.name}.safetensors")
    return assign_weights(build_model(name, args, dtype), file, str(file.path), device=device)
