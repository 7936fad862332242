"""Everything TRELLIS (v1) needs to run: its networks, the picture encoder, sampler settings and normalization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis2.checkpoint import assign_weights
from ..trellis2.safetensors_file import SafetensorsFile
from ..trellis2.samplers import SamplerSettings
from .checkpoint import load_model
from .dinov2 import DinoV2, DinoV2Config

STEMS = {
    "sparse_structure_flow_model": "ss_flow_img_dit_L_16l8_fp16",
    "slat_flow_model": "slat_flow_img_dit_L_64l8p2_fp16",
    "sparse_structure_decoder": "ss_dec_conv3d_16l8_fp16",
    "slat_decoder_gs": "slat_dec_gs_swin8_B_64l8gs32_fp16",
    "slat_decoder_mesh": "slat_dec_mesh_swin8_B_64l8m256c_fp16",
    "slat_decoder_rf": "slat_dec_rf_swin8_B_64l8r16_fp16",
}
DECODERS = {"gaussian": "slat_decoder_gs", "mesh": "slat_decoder_mesh", "radiance_field": "slat_decoder_rf"}
DINOV2_PLACES = ("dinov2_vitl14_reg.safetensors", "dinov2/dinov2_vitl14_reg.safetensors")
# guidance_strength is ours: 1 + the published cfg_strength
PUBLISHED_SAMPLER = SamplerSettings(25, 6.0, 0.0, (0.5, 1.0), 3.0)
MEAN = (-2.1687545776367188, -0.004347046371549368, -0.13352349400520325, -0.08418072760105133, -0.5271206498146057,
        0.7238689064979553, -1.1414450407028198, 1.2039363384246826)  # fmt: skip
STD = (2.377650737762451, 2.386378288269043, 2.124418020248413, 2.1748552322387695, 2.663944721221924,
       2.371192216873169, 2.6217446327209473, 2.684523105621338)  # fmt: skip


@dataclass
class Trellis1:
    """encoder: DINOv2; networks by role (see `STEMS`); normalization: mean and std [8] of the latents."""

    encoder: DinoV2
    networks: dict[str, nn.Module]
    structure_sampler: SamplerSettings = PUBLISHED_SAMPLER
    latent_sampler: SamplerSettings = PUBLISHED_SAMPLER
    mean: Tensor = field(default_factory=lambda: torch.tensor(MEAN))
    std: Tensor = field(default_factory=lambda: torch.tensor(STD))
    device: torch.device | str = "cpu"

    def get(self, role: str) -> nn.Module:
        if role not in self.networks:
            raise InputError(f"These weights have no {role}; download it, or ask for another format.")
        return self.networks[role].to(self.device)


def load_trellis1(
    folder: str | Path,
    *,
    formats: Sequence[str] = ("gaussian", "mesh"),
    dinov2: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
) -> Trellis1:
    """TRELLIS image-large from a folder as published (`pipeline.json`, `ckpts/`).

    formats: what will be decoded, of `DECODERS`. dinov2: weights of the picture encoder (published names), default
    beside the folder; a `.json` of its name says its size. Raises InputError naming what is missing.
    """
    folder = Path(folder)
    pipeline = folder / "pipeline.json"
    if not pipeline.is_file():
        raise InputError(f"There is no pipeline.json in {folder}; give the folder of TRELLIS-image-large.")
    try:
        args = json.loads(pipeline.read_text(encoding="utf-8")).get("args", {})
    except ValueError:
        raise InputError(f"{pipeline} is not a configuration in JSON.") from None
    stems = {**{role: f"ckpts/{stem}" for role, stem in STEMS.items()}, **args.get("models", {})}
    unknown = sorted(set(formats) - set(DECODERS))
    if unknown:
        raise InputError(f"The format {unknown[0]!r} is unknown; known are {', '.join(DECODERS)}.")
    roles = ["sparse_structure_flow_model", "sparse_structure_decoder", "slat_flow_model"]
    roles += [DECODERS[name] for name in formats]
    networks = {role: load_model(folder / stems[role], dtype=dtype) for role in roles}
    places = [Path(dinov2)] if dinov2 else [base / p for base in (folder, folder.parent) for p in DINOV2_PLACES]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError(f"DINOv2 was not found in {', '.join(map(str, places))}; give its .safetensors file.")
    config = file.with_suffix(".json")
    size = DinoV2Config.from_args(json.loads(config.read_text())) if config.is_file() else DinoV2Config()
    with torch.device("meta"):
        encoder = DinoV2(size)
    encoder = assign_weights(encoder, SafetensorsFile(file), str(file))
    family = Trellis1(encoder, networks, device=device)
    for name, role in (("structure_sampler", "sparse_structure_sampler"), ("latent_sampler", "slat_sampler")):
        if role in args:
            setattr(family, name, _sampler(args[role].get("params", {})))
    if "slat_normalization" in args:
        family.mean, family.std = (torch.tensor(args["slat_normalization"][key]) for key in ("mean", "std"))
    return family


def _sampler(params: dict) -> SamplerSettings:
    return SamplerSettings(
        steps=params.get("steps", PUBLISHED_SAMPLER.steps),
        guidance_strength=1 + params.get("cfg_strength", PUBLISHED_SAMPLER.guidance_strength - 1),
        guidance_interval=params.get("cfg_interval", PUBLISHED_SAMPLER.guidance_interval),
        rescale_t=params.get("rescale_t", PUBLISHED_SAMPLER.rescale_t),
    )
