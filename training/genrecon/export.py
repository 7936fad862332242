"""Writing a trained family as a folder: genrecon.json, the pairs of networks, and an adapter for each flow."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from ...models.genrecon.checkpoint import COMPUTED, is_trained, save_adapter
from ...models.genrecon.family import CONFIG, ROLES
from ...models.genrecon.lora import LoraConfig
from ...models.trellis2.samplers import SamplerSettings
from ...models.trellis2.slat_flow import StructuredLatentFlow
from ...models.trellis2.sparse_structure_flow import SparseStructureFlow
from ..cascade.export import write_network
from .data import IMAGE
from .flow_stages import Scales, flow_args
from .volumes import RESOLUTION, Codes

CODES = "codes.safetensors"
FILES = {"structure": "ss_flow", "shape": "shape_flow", "texture": "tex_flow"}
DECODERS = {"shape_slat_decoder": "pixal3d-tiny/ckpts/shape_dec", "tex_slat_decoder": "pixal3d-tiny/ckpts/tex_dec"}
STEPS = {"sparse_structure_sampler": 1, "shape_slat_sampler": 4, "tex_slat_sampler": 1}
NO_LORA = LoraConfig(1, 1)


def base_flow(flow: nn.Module, stage: str) -> nn.Module:
    """The part of a flow that TRELLIS.2's classes have."""
    kind = SparseStructureFlow if stage == "structure" else StructuredLatentFlow
    base = kind(flow.config)
    kept = {k: v for k, v in flow.state_dict().items() if not is_trained(k) and k not in COMPUTED}
    base.load_state_dict({**base.state_dict(), **kept})
    return base


def write_scene_family(
    folder: Path | str, encoder: nn.Module, flows: dict[str, nn.Module], structure_decoder: nn.Module, codes: Codes,
    steps: dict[str, int] | None = None,
) -> int:  # fmt: skip
    """Write the family; returns its bytes. flows: by stage; steps: of each sampler."""
    folder, scales = Path(folder), Scales.of(codes.shape.std)
    folder.mkdir(parents=True, exist_ok=True)
    models = dict(DECODERS) | {"sparse_structure_decoder": "ckpts/ss_dec"}
    adapters = {}
    for stage, flow in flows.items():
        name = FILES[stage]
        models[ROLES[stage]] = f"ckpts/{name}"
        adapters[ROLES[stage]] = f"ckpts/{name}_adapter.safetensors"
        write_network(base_flow(flow, stage), folder / "ckpts" / name, torch.bfloat16)
        path = folder / adapters[ROLES[stage]]
        save_adapter(flow.state_dict(), path, flow_args(flow, stage), NO_LORA, overwrite=True)
    write_network(structure_decoder, folder / "ckpts" / "ss_dec", torch.float16)
    write_network(encoder, folder / "ckpts" / "image_encoder", torch.float16)
    args: dict[str, Any] = {
        "models": models,
        "adapters": adapters,
        "image_encoder": "ckpts/image_encoder",
        "lr_resolution": RESOLUTION,
        "token_image_sizes": [IMAGE, IMAGE],
    }
    for name, scale in (("shape", scales.shape), ("tex", scales.texture)):
        std = [round(1 / v, 6) for v in scale.tolist()]
        args[f"{name}_slat_normalization"] = {"mean": [0.0] * len(std), "std": std}
    for role, count in {**STEPS, **(steps or {})}.items():
        values = asdict(SamplerSettings(count, 1.0, 0.0, (0.0, 1.0), 3.0))
        sigma = values.pop("sigma_min")
        values["guidance_interval"] = list(values["guidance_interval"])
        args[role] = {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": sigma}, "params": values}
    text = json.dumps({"name": "FullSceneImagesTo3DPipeline", "args": args}, indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    save_file({k: v.contiguous() for k, v in codes.state().items()}, folder / CODES)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o644)
    return sum(path.stat().st_size for path in files)
