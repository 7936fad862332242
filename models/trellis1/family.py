"""Everything TRELLIS (v1) needs to run: its networks, the picture encoder, sampler settings and normalization."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis2.cascade import find_model
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
DINOV2_PLACES = (
    "dinov2_vitl14_reg.safetensors",
    "dinov2/dinov2_vitl14_reg.safetensors",
    "dinov2_vitl14_reg4_pretrain.pth",
    "facebookresearch/dinov2/dinov2_vitl14_reg4_pretrain.pth",
)
# guidance_strength is ours: 1 + the published cfg_strength
PUBLISHED_SAMPLER = SamplerSettings(25, 6.0, 0.0, (0.5, 1.0), 3.0)
MEAN = (-2.1687545776367188, -0.004347046371549368, -0.13352349400520325, -0.08418072760105133, -0.5271206498146057,
        0.7238689064979553, -1.1414450407028198, 1.2039363384246826)  # fmt: skip
STD = (2.377650737762451, 2.386378288269043, 2.124418020248413, 2.1748552322387695, 2.663944721221924,
       2.371192216873169, 2.6217446327209473, 2.684523105621338)  # fmt: skip


@dataclass
class Trellis1:
    """encoder: DINOv2; networks by role (see `STEMS`), or functions that read them when they are first needed;
    normalization: mean and std [8] of the latents."""

    encoder: DinoV2
    networks: dict[str, nn.Module | Callable[[], nn.Module]]
    structure_sampler: SamplerSettings = PUBLISHED_SAMPLER
    latent_sampler: SamplerSettings = PUBLISHED_SAMPLER
    mean: Tensor = field(default_factory=lambda: torch.tensor(MEAN))
    std: Tensor = field(default_factory=lambda: torch.tensor(STD))
    device: torch.device | str = "cpu"

    def network(self, role: str) -> nn.Module:
        """The network of a role, wherever it lies; raises InputError where there is none."""
        if role not in self.networks:
            raise InputError(f"These weights have no {role}; download it, or ask for another format.")
        if not isinstance(self.networks[role], nn.Module):
            self.networks[role] = self.networks[role]()
        return self.networks[role]

    def get(self, role: str) -> nn.Module:
        """The network of a role, where it is computed."""
        return self.network(role).to(self.device)

    def image_encoder(self) -> DinoV2:
        """The picture encoder, where it is computed."""
        return self.encoder.to(self.device)


def load_trellis1(
    folder: str | Path,
    *,
    formats: Sequence[str] | None = ("gaussian", "mesh"),
    dinov2: str | Path | None = None,
    search: Sequence[str | Path] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
) -> Trellis1:
    """TRELLIS image-large from a folder as published (`pipeline.json`, `ckpts/`); networks are read when first used.

    formats: what will be decoded, of `DECODERS`; None: whatever decoders are there. dinov2: weights of the picture
    encoder (published names, .safetensors or .pth), default beside the folder or in a folder of `search`; a `.json` of
    its name says its size. Raises InputError naming what is missing.
    """
    folder = Path(folder)
    pipeline = folder if folder.suffix == ".json" else folder / "pipeline.json"
    if not pipeline.is_file():
        raise InputError(f"There is no pipeline.json in {folder}; give the folder of TRELLIS-image-large.")
    folder = pipeline.parent
    try:
        args = json.loads(pipeline.read_text(encoding="utf-8")).get("args", {})
    except (ValueError, AttributeError):
        raise InputError(f"{pipeline} is not a configuration in JSON.") from None
    stems = {**{role: f"ckpts/{stem}" for role, stem in STEMS.items()}, **args.get("models", {})}
    unknown = sorted(set(formats or ()) - set(DECODERS))
    if unknown:
        raise InputError(f"The format {unknown[0]!r} is unknown; known are {', '.join(DECODERS)}.")
    roles = ["sparse_structure_flow_model", "sparse_structure_decoder", "slat_flow_model"]
    places = {role: find_model(stems[role], folder) for role in roles}
    for name, role in DECODERS.items():
        if formats is None and not _there(folder, stems[role]):
            continue
        if formats is None or name in formats:
            places[role] = find_model(stems[role], folder)
    networks = {role: partial(load_model, place, dtype=dtype) for role, place in places.items()}
    beside = [folder, folder.parent, folder.parent.parent, *map(Path, search)]
    family = Trellis1(load_dinov2(beside, dinov2), networks, device=device)
    for name, role in (("structure_sampler", "sparse_structure_sampler"), ("latent_sampler", "slat_sampler")):
        if role in args:
            setattr(family, name, _sampler(args[role].get("params", {})))
    if "slat_normalization" in args:
        family.mean, family.std = (torch.tensor(args["slat_normalization"][key]) for key in ("mean", "std"))
    return family


def _there(folder: Path, stem: str) -> bool:
    try:
        return bool(find_model(stem, folder))
    except InputError:
        return False


def load_dinov2(folders: Sequence[Path], given: str | Path | None = None) -> DinoV2:
    """DINOv2 ViT-L/14 with registers from the file `given`, else from the known places in `folders`.

    Published names, in .safetensors or in the .pth of its makers. Raises InputError naming the places looked at.
    """
    places = [Path(given)] if given else [folder / place for folder in folders for place in DINOV2_PLACES]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise InputError(
            f"DINOv2 was not found in {', '.join(map(str, places))}; give its file, or get it with "
            "`python -m sightline download dinov2-vitl14-reg`."
        )
    config = file.with_suffix(".json")
    size = DinoV2Config.from_args(json.loads(config.read_text())) if config.is_file() else DinoV2Config()
    with torch.device("meta"):
        encoder = DinoV2(size)
    return assign_weights(encoder, _read(file), str(file))


def _read(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        return SafetensorsFile(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zip's, torch's own
        raise InputError(f"{file} is no file of weights that can be read safely ({type(error).__name__}).") from None


def _sampler(params: dict) -> SamplerSettings:
    return SamplerSettings(
        steps=params.get("steps", PUBLISHED_SAMPLER.steps),
        guidance_strength=1 + params.get("cfg_strength", PUBLISHED_SAMPLER.guidance_strength - 1),
        guidance_interval=params.get("cfg_interval", PUBLISHED_SAMPLER.guidance_interval),
        rescale_t=params.get("rescale_t", PUBLISHED_SAMPLER.rescale_t),
    )
