"""Writing a trained family as a folder in the published layout: pipeline.json, and .json + .safetensors per network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from ...models.trellis2.blocks import set_torso_dtype
from ...models.trellis2.config import FlowConfig, SparseVaeConfig, StructureVaeConfig
from ...models.trellis2.samplers import SamplerSettings
from ...models.trellis2.tiny_encoder import TinyImageEncoder
from .derived import shape_code
from .stages import Bench, shape_scale, texture_weights

NAMES = {  # class here -> published name
    "SparseStructureFlow": "SparseStructureFlowModel",
    "StructuredLatentFlow": "SLatFlowModel",
    "SparseStructureDecoder": "SparseStructureDecoder",
    "SparseStructureEncoder": "SparseStructureEncoder",
    "ShapeDecoder": "FlexiDualGridVaeDecoder",
    "ShapeEncoder": "FlexiDualGridVaeEncoder",
    "SparseVaeDecoder": "SparseUnetVaeDecoder",
    "SparseVaeEncoder": "SparseUnetVaeEncoder",
    "TinyImageEncoder": "TinyImageEncoder",
}
DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
CODE_FILE = "shape_code.safetensors"
RUNS = {  # file -> stage; encoders are left out where they were not trained
    "ss_flow": "structure_flow", "ss_dec": "structure_tuning", "shape_flow": "shape_flow",
    "shape_dec": "shape_decoder", "tex_flow": "texture_flow", "tex_dec": "texture_decoder",
    "ss_enc": "structure_encoder", "shape_enc": "shape_encoder", "tex_enc": "texture_encoder",
}  # fmt: skip
SAMPLERS = {
    "sparse_structure_sampler": SamplerSettings(1, 1.0, 0.0, (0.0, 1.0), 3.0),
    "shape_slat_sampler": SamplerSettings(4, 1.0, 0.0, (0.0, 1.0), 3.0),
    "tex_slat_sampler": SamplerSettings(1, 1.0, 0.0, (0.0, 1.0), 3.0),
}
IMAGE_STAGES = {"ss": [128, 8, None], "shape_512": [128, 16, None], "tex_512": [128, 16, None]}


def write_network(network: nn.Module, stem: Path, dtype: torch.dtype) -> int:
    """Write `stem`.json and `stem`.safetensors, the torso in `dtype` and everything else in float32; returns bytes."""
    config: FlowConfig | SparseVaeConfig | StructureVaeConfig | Any = network.config
    args = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items() if v is not None}
    args["dtype"] = DTYPE_NAMES[dtype]
    probe = type(network)(config)
    probe.load_state_dict(network.state_dict())
    torso = (probe.stem, probe.blocks) if isinstance(probe, TinyImageEncoder) else (probe.blocks,)
    for part in torso:
        set_torso_dtype(part, dtype)
    if hasattr(probe, "middle_block"):
        set_torso_dtype(probe.middle_block, dtype)
    computed = probe.computed_buffers() if hasattr(probe, "computed_buffers") else {}
    weights = {k: v.contiguous() for k, v in probe.state_dict().items() if k not in computed}
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(
        json.dumps({"name": NAMES[type(network).__name__], "args": args}, indent=2) + "\n", encoding="utf-8"
    )
    save_file(weights, stem.with_suffix(".safetensors"))
    return stem.with_suffix(".safetensors").stat().st_size


def write_family(
    folder: Path | str,
    networks: Mapping[str, nn.Module],
    encoder: TinyImageEncoder,
    shape_std: list[float],
    texture_std: list[float],
    samplers: Mapping[str, SamplerSettings],
) -> int:
    """Write the family; returns its bytes.

    networks: by file name, `ss_flow`, `ss_dec`, `shape_flow`, `shape_dec`, `tex_flow`, `tex_dec` and, where there are,
    `shape_enc`, `tex_enc`, `ss_enc`. shape_std, texture_std: what normalized latents are multiplied by.
    """
    folder = Path(folder)
    roles = {
        "sparse_structure_flow_model": "ss_flow", "sparse_structure_decoder": "ss_dec",
        "sparse_structure_encoder": "ss_enc", "shape_slat_flow_model_512": "shape_flow",
        "shape_slat_decoder": "shape_dec", "shape_slat_encoder": "shape_enc", "tex_slat_flow_model_512": "tex_flow",
        "tex_slat_decoder": "tex_dec", "tex_slat_encoder": "tex_enc",
    }  # fmt: skip
    total = 0
    for name, network in networks.items():
        # half precision as published: flows bfloat16, the rest float16, which keeps three digits more
        dtype = torch.bfloat16 if name.endswith("flow") else torch.float16
        total += write_network(network, folder / "ckpts" / name, dtype)
    total += write_network(encoder, folder / "ckpts" / "image_encoder", torch.float16)
    args: dict[str, Any] = {
        "models": {role: f"ckpts/{name}" for role, name in roles.items() if name in networks},
        "image_encoder": "ckpts/image_encoder",
        "default_pipeline_type": "512",
        "lr_resolution": 64,
        "image_stages": IMAGE_STAGES,
        "max_num_tokens": 4096,
        "shape_slat_normalization": {"mean": [0.0] * len(shape_std), "std": [round(v, 6) for v in shape_std]},
        "tex_slat_normalization": {"mean": [0.0] * len(texture_std), "std": [round(v, 6) for v in texture_std]},
    }
    for role, settings in samplers.items():
        values = asdict(settings)
        sigma = values.pop("sigma_min")
        values["guidance_interval"] = list(values["guidance_interval"])
        args[role] = {"name": "FlowEulerGuidanceIntervalSampler", "args": {"sigma_min": sigma}, "params": values}
    text = json.dumps({"name": "Pixal3DImageTo3DPipeline", "args": args}, indent=2) + "\n"
    (folder / "pipeline.json").write_text(text, encoding="utf-8")
    return total + len(text)


def export_runs(bench: Bench, folder: Path | str) -> int:
    """Write the family of a runs folder; returns its bytes. Raises InputError where a stage has not run."""
    networks = {
        name: bench.trained(stage)
        for name, stage in RUNS.items()
        if not stage.endswith("_encoder") or (bench.runs / stage / "state.pth").is_file()
    }
    shape, texture = (1 / shape_scale(bench.folder)).tolist(), (1 / texture_weights()).tolist()
    total = write_family(folder, networks, bench.trained("encoder").encoder, shape, texture, SAMPLERS)
    save_file(shape_code(bench.folder).state(), Path(folder) / CODE_FILE)
    for path in Path(folder).rglob("*.safetensors"):
        path.chmod(0o644)
    return total + (Path(folder) / CODE_FILE).stat().st_size
