"""Everything SAM 3D Objects needs to run: its networks, each read at its first use, sampler settings, normalization.

The published folder (`checkpoints/hf`) holds `pipeline.yaml`, which names a `.yaml` and a `.ckpt` of every network.
Without it, or with other names, the parts are told by the keys in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis2.memory import free_bytes
from .checkpoint import load_part, parts_of
from .times import LATENT, STRUCTURE, SamplerSettings

MEAN = (0.12211431, 0.37204156, -1.26521907, -2.05276058, -3.10432536, -0.11294304, -0.85146744, 0.45506954)
STD = (2.37326008, 2.13174402, 2.2413953, 2.30589401, 2.1191894, 1.8969511, 2.41684989, 2.08374642)
DECODERS = {"gaussian": "slat_decoder_gs", "gaussian_4": "slat_decoder_gs_4", "mesh": "slat_decoder_mesh"}
FLOWS = ("ss_generator", "ss_condition_embedder", "ss_decoder", "slat_generator", "slat_condition_embedder")
# part -> the file that holds it; both embedders lie in their generator's
FILES = {
    **{part: part for part in (*FLOWS, *DECODERS.values()) if "embedder" not in part},
    "ss_condition_embedder": "ss_generator",
    "slat_condition_embedder": "slat_generator",
}
SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth")
PLACES = ("", "checkpoints/hf", "hf", "checkpoints")
CONFIG_LIMIT = 1 << 20


@dataclass
class Sam3d:
    """networks: by part (see `checkpoint.PARTS`), or a function that reads one when it is first needed.

    mean, std: [8] of the latents. prune: inner voxels farther than this from any free place are dropped, 0 for none.
    low_vram: every network visits `device` only while it works.
    """

    networks: dict[str, nn.Module | Callable[[], nn.Module]]
    structure_sampler: SamplerSettings = STRUCTURE
    latent_sampler: SamplerSettings = LATENT
    mean: Tensor = field(default_factory=lambda: torch.tensor(MEAN))
    std: Tensor = field(default_factory=lambda: torch.tensor(STD))
    prune: int = 1
    device: torch.device | str = "cpu"
    low_vram: bool = False

    def __contains__(self, part: str) -> bool:
        return part in self.networks

    def require(self, part: str) -> None:
        """Raise InputError where these weights lack a part."""
        if part not in self.networks:
            raise InputError(f"These weights have no {part}; put its file beside the others.")

    def get(self, part: str) -> nn.Module:
        """The network, wherever it lies; raises InputError where these weights lack it."""
        self.require(part)
        network = self.networks[part]
        if not isinstance(network, nn.Module):
            network = self.networks[part] = network()
        return network

    def keeps(self, needed: int) -> bool:
        """Whether keys and values of the conditions, so many bytes, are kept on the device from step to step.

        It saves time and changes nothing; at the published size it takes up to 9 GB. False with `low_vram`.
        """
        free = free_bytes(self.device)
        return not self.low_vram and (free is None or free > 2 * needed)

    @contextmanager
    def on_device(self, part: str) -> Iterator[nn.Module]:
        """Lends a network on the device; with `low_vram` it leaves again afterwards."""
        network = self.get(part).to(self.device)
        try:
            yield network
        finally:
            if self.low_vram:
                network.to("cpu")


def load_sam3d(
    path: str | Path,
    *,
    formats: Sequence[str] = ("gaussian", "mesh"),
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    low_vram: bool = False,
) -> Sam3d:
    """SAM 3D Objects from its folder (or the `pipeline.yaml` in it); networks are read when they are first used.

    formats: what must be there to decode with, of `DECODERS`; other decoders found are taken along. dtype: of the
    networks' torsos, default as published. Raises InputError naming the first file that is missing.
    """
    unknown = sorted(set(formats) - set(DECODERS))
    if unknown:
        raise InputError(f"The format {unknown[0]!r} is unknown; known are {', '.join(DECODERS)}.")
    folder, pipeline = find_folder(path)
    settings = read_yaml(pipeline) if pipeline else {}
    found = find_files(folder, settings)
    for part in (*FLOWS, *(DECODERS[name] for name in formats)):
        if part not in found:
            raise InputError(
                f"{folder} has no {FILES[part]}.ckpt and no other file with the keys of {part}; put the files of "
                "facebook/sam-3d-objects there."
            )
    networks = {part: _reader(part, file, config, dtype) for part, (file, config) in found.items()}
    family = Sam3d(networks, device=device, low_vram=low_vram)
    try:
        _settle(family, settings)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{pipeline} has settings that cannot be used ({error}).") from None
    return family


def find_folder(path: str | Path) -> tuple[Path, Path | None]:
    """The folder of the files and its `pipeline.yaml`, None where there is none."""
    path = Path(path).expanduser()
    if path.is_file():
        return path.parent, path if path.suffix in (".yaml", ".yml") else None
    if not path.is_dir():
        raise InputError(f"There is no folder {path}; give that of facebook/sam-3d-objects (checkpoints/hf).")
    folders = [path / place for place in PLACES]
    for folder in folders:
        if (folder / "pipeline.yaml").is_file():
            return folder, folder / "pipeline.yaml"
    for folder in folders:
        if any((folder / f"ss_generator{suffix}").is_file() for suffix in SUFFIXES):
            return folder, None
    return path, None


def find_files(folder: Path, settings: Mapping[str, Any] | None = None) -> dict[str, tuple[Path, Path | None]]:
    """Part -> its weights and its `.yaml`: as `pipeline.yaml` names them, under the published names, else by keys."""
    settings = settings or {}
    found: dict[str, tuple[Path, Path | None]] = {}
    for part, stem in FILES.items():
        named = settings.get(f"{stem}_ckpt_path")
        places = [_inside(folder, named)] if named else []
        places += [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
        places += [place.with_suffix(".safetensors") for place in places[:1] if named]
        file = next((place for place in places if place.is_file()), None)
        if file is not None:
            config = settings.get(f"{stem}_config_path")
            config = _inside(folder, config) if config else file.with_suffix(".yaml")
            found[part] = file, config if config.is_file() else None
    if any(part not in found for part in FILES):
        taken = {file for file, _ in found.values()}
        for file in sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES and f not in taken):
            try:
                parts = parts_of(file)
            except InputError:
                continue  # another model's, or damaged: named if nothing else fits
            for part in parts:
                config = file.with_suffix(".yaml")
                found.setdefault(part, (file, config if config.is_file() else None))
    return found


def _inside(folder: Path, name: Any) -> Path:
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"pipeline.yaml names {name!r}, which does not lie in {folder}.")
    return folder / name


def _reader(part: str, file: Path, config: Path | None, dtype) -> Callable[[], nn.Module]:
    return lambda: load_part(part, file, network_args(config) if config else None, dtype=dtype)


def read_yaml(path: Path) -> dict[str, Any]:
    """A published configuration as plain data; objects that it names are not made."""
    try:
        if path.stat().st_size > CONFIG_LIMIT:
            raise InputError(f"{path} is too large for a configuration.")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a configuration in YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a configuration in YAML.")
    return found


def network_args(path: Path) -> dict[str, Any]:
    """The constructor arguments of the network in a published `.yaml`, which lie at some depth; {} where none are.

    Arguments that follow from the tensors are overruled by them.
    """

    def search(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            return None
        if "model_channels" in value or {"latent_channels", "channels"} <= set(value):
            return value
        return next((inner for inner in map(search, value.values()) if inner is not None), None)

    args = search(read_yaml(path)) or {}
    return {key: value for key, value in args.items() if not isinstance(value, str) or "${" not in value}


def _settle(family: Sam3d, settings: Mapping[str, Any]) -> None:
    """The pipeline's settings into the family, the published ones where it is silent."""
    for name, stage, default in (("structure_sampler", "ss", STRUCTURE), ("latent_sampler", "slat", LATENT)):
        values = {
            "steps": settings.get(f"{stage}_inference_steps", default.steps),
            "rescale_t": settings.get(f"{stage}_rescale_t", default.rescale_t),
            "strength": settings.get(f"{stage}_cfg_strength", default.strength),
            "interval": settings.get(f"{stage}_cfg_interval", default.interval),
        }
        setattr(family, name, SamplerSettings(**values))
    family.prune = int(settings.get("downsample_ss_dist", family.prune))
    for name in ("mean", "std"):
        if f"slat_{name}" in settings:
            value = torch.tensor([float(v) for v in settings[f"slat_{name}"]])
            setattr(family, name, value)
