"""A released family of models as one object: its `pipeline.json`, and networks that are loaded when first used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from .checkpoint import load_model
from .samplers import SamplerSettings

SAMPLERS = ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")
PAPER_SAMPLERS = {
    "sparse_structure_sampler": SamplerSettings(12, 7.5, 0.7, (0.6, 1.0), 5.0),
    "shape_slat_sampler": SamplerSettings(12, 7.5, 0.5, (0.6, 1.0), 3.0),
    "tex_slat_sampler": SamplerSettings(12, 1.0, 0.0, (0.6, 0.9), 3.0),
}
# how many times the low resolution a pipeline type makes, and whether it goes through the low resolution first
PIPELINE_TYPES = {"512": (1, False), "1024": (2, False), "1024_cascade": (2, True), "1536_cascade": (3, True)}


@dataclass(frozen=True)
class Normalization:
    """Per-channel statistics of a latent; the flows work on standardized latents."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise InputError("A latent normalization needs as many positive `std` values as `mean` values.")

    def denormalize(self, feats: Tensor) -> Tensor:
        mean, std = self._like(feats)
        return feats * std + mean

    def normalize(self, feats: Tensor) -> Tensor:
        mean, std = self._like(feats)
        return (feats - mean) / std

    def _like(self, feats: Tensor) -> tuple[Tensor, Tensor]:
        if feats.shape[-1] != len(self.mean):
            raise InputError(f"The latent has {feats.shape[-1]} channels; its normalization is for {len(self.mean)}.")
        return feats.new_tensor(self.mean)[None], feats.new_tensor(self.std)[None]


@dataclass(frozen=True)
class ImageStage:
    """What a projecting stage reads: image side S, grid points per axis, and the side of the NAF map (None: no NAF)."""

    image_size: int
    grid_resolution: int
    naf_target: int | None = None


PIXAL3D_STAGES = {
    "ss": ImageStage(512, 16),
    "shape_512": ImageStage(512, 32, 512),
    "shape_1024": ImageStage(1024, 64, 512),
    "tex_1024": ImageStage(1024, 64, 1024),
}


@dataclass(frozen=True)
class CascadeConfig:
    """What `pipeline.json` says beside the models; defaults are the published values.

    lr_resolution: output resolution of the low stage (512). token_image_sizes: image sides of the low and the high
    stage of models without projection. max_num_tokens: above it a cascade lowers its resolution.
    """

    shape_normalization: Normalization
    tex_normalization: Normalization
    samplers: Mapping[str, SamplerSettings] = field(default_factory=lambda: dict(PAPER_SAMPLERS))
    default_pipeline_type: str = "1024_cascade"
    lr_resolution: int = 512
    token_image_sizes: tuple[int, int] = (512, 1024)
    image_stages: Mapping[str, ImageStage] = field(default_factory=lambda: dict(PIXAL3D_STAGES))
    max_num_tokens: int = 49152

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> CascadeConfig:
        """From the `args` of a `pipeline.json`; raises InputError naming what is missing or unusable."""
        try:
            values: dict[str, Any] = {
                name: Normalization(tuple(args[key]["mean"]), tuple(args[key]["std"]))
                for name, key in (
                    ("shape_normalization", "shape_slat_normalization"),
                    ("tex_normalization", "tex_slat_normalization"),
                )
            }
        except (KeyError, TypeError) as error:
            raise InputError(f"The pipeline configuration has no usable latent normalization ({error}).") from None
        samplers = dict(PAPER_SAMPLERS)
        for name in SAMPLERS:
            if name in args:
                block = args[name]
                samplers[name] = SamplerSettings.from_dict({**block.get("args", {}), **block.get("params", {})})
        values["samplers"] = samplers
        for name in ("default_pipeline_type", "lr_resolution", "max_num_tokens"):
            if name in args:
                values[name] = args[name]
        if "token_image_sizes" in args:
            values["token_image_sizes"] = tuple(args["token_image_sizes"])
        if "image_stages" in args:
            values["image_stages"] = {k: ImageStage(*v) for k, v in args["image_stages"].items()}
        return cls(**values)

    def stage(self, name: str) -> ImageStage:
        """What the projecting stage `name` reads; raises InputError where this family has no such stage."""
        if name not in self.image_stages:
            raise InputError(f"This family has no image stage {name!r}; it has {', '.join(self.image_stages)}.")
        return self.image_stages[name]

    def plan(self, pipeline_type: str | None) -> tuple[int, bool]:
        """Final resolution and whether the low stage comes first; raises InputError for an unknown type."""
        name = pipeline_type or self.default_pipeline_type
        if name not in PIPELINE_TYPES:
            raise InputError(f"The pipeline type {name!r} is unknown; {', '.join(PIPELINE_TYPES)} would work.")
        scale, cascade = PIPELINE_TYPES[name]
        return scale * self.lr_resolution, cascade


class Cascade:
    """The networks of one family, moved to `device` while they work.

    models: published role (`sparse_structure_flow_model`, `shape_slat_decoder`, ...) -> network, or a function that
    loads it when it is first needed. image_encoder: pictures [B, 3, S, S] -> tokens (see `DinoV3`); naf: see `Naf`.
    low_vram: each network visits the device only for its stage. Raises InputError where a role is absent.
    """

    def __init__(
        self,
        config: CascadeConfig,
        models: Mapping[str, nn.Module | Callable[[], nn.Module]],
        image_encoder: nn.Module | None = None,
        naf: nn.Module | None = None,
        *,
        device: torch.device | str = "cpu",
        low_vram: bool = False,
    ):
        self.config = config
        self.models = dict(models)
        self.image_encoder = image_encoder
        self.naf = naf
        self.device = torch.device(device)
        self.low_vram = low_vram

    def __contains__(self, role: str) -> bool:
        return role in self.models

    def get(self, role: str) -> nn.Module:
        """The network of a role, wherever it lies."""
        if role not in self.models:
            raise InputError(f"This family has no `{role}`; it has {', '.join(sorted(self.models)) or 'no model'}.")
        model = self.models[role]
        if not isinstance(model, nn.Module):
            model = self.models[role] = model()
        return model

    def encoder(self) -> nn.Module:
        """The image encoder; raises InputError where none was given."""
        if self.image_encoder is None:
            raise InputError("This family was loaded without an image encoder; give it DINOv3.")
        return self.image_encoder

    def settings(self, changes: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, SamplerSettings]:
        """The family's sampler settings with the options of `changes` (per sampler role) put in their place."""
        changes = changes or {}
        foreign = sorted(set(changes) - set(SAMPLERS))
        if foreign:
            raise InputError(f"There is no sampler {', '.join(foreign)}; there are {', '.join(SAMPLERS)}.")
        return {name: self.config.samplers[name].replace(**changes.get(name, {})) for name in SAMPLERS}

    @contextmanager
    def on_device(self, model: str | nn.Module | None) -> Iterator[nn.Module | None]:
        """Lends a network on the device; with `low_vram` it leaves again afterwards."""
        if model is None:
            yield None
            return
        network = self.get(model) if isinstance(model, str) else model
        home = next(network.parameters()).device
        network.to(self.device)
        try:
            yield network
        finally:
            if self.low_vram:
                network.to(home)


def find_model(value: str, folder: Path, search: Sequence[Path] = ()) -> Path:
    """The stem of a model named in a `pipeline.json`.

    First relative to the folder of that file, then as owner/repo/path and repo/path below every folder of `search`.
    Raises InputError naming the places looked at; paths that leave these folders are refused.
    """
    parts = Path(value).parts
    if not parts or Path(value).is_absolute() or ".." in parts:
        raise InputError(f"The model path {value!r} does not stay inside the model folder.")
    places = [folder / value]
    for root in search:
        places += [Path(root) / value, Path(root).joinpath(*parts[1:])]
    for place in places:
        if place.with_name(place.name + ".safetensors").is_file():
            return place
    tried = ", ".join(str(p) + ".safetensors" for p in places)
    raise InputError(f"The model {value!r} was not found; looked for {tried}.")


def read_pipeline(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Folder and `args` of a pipeline file (or of the `pipeline.json` in a folder); raises InputError if unusable."""
    path = Path(path)
    if path.is_dir():
        path = path / "pipeline.json"
    try:
        args = json.loads(path.read_text(encoding="utf-8"))["args"]
        if not isinstance(args["models"], dict):
            raise TypeError("models is no table")
    except FileNotFoundError:
        raise InputError(f"There is no {path}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a pipeline configuration with `args` and `models` ({error!r}).") from None
    return path.parent, args


def load_cascade(
    path: str | Path,
    *,
    search: Sequence[str | Path] = (),
    image_encoder: nn.Module | None = None,
    naf: nn.Module | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    low_vram: bool = False,
) -> Cascade:
    """A family from a folder with `pipeline.json`; every network is read from disk when first used.

    Roles that name the same file share one network. dtype overrides the torso dtype of all networks. Raises InputError
    for files that are not there.
    """
    folder, args = read_pipeline(path)
    loaded: dict[Path, nn.Module] = {}

    def loader(stem: Path) -> Callable[[], nn.Module]:
        def load() -> nn.Module:
            key = stem.resolve()
            if key not in loaded:
                loaded[key] = load_model(stem, dtype=dtype)
            return loaded[key]

        return load

    roots = [Path(root) for root in search]
    models = {role: loader(find_model(value, folder, roots)) for role, value in args["models"].items() if value}
    return Cascade(CascadeConfig.from_args(args), models, image_encoder, naf, device=device, low_vram=low_vram)
