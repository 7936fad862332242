"""Finding and loading what a scene is made with: three conditioned flows, TRELLIS.2's decoders, DINOv3.

A folder holds either a `genrecon.json` (like TRELLIS.2's `pipeline.json`: `args.models` names the pairs of networks,
`args.adapters` the adapter put on each flow), or the three published `.pt` files, whatever their names, or three
adapters made from them; then decoders and base flows are taken from a TRELLIS.2 family.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...scene.errors import InputError
from ..trellis2.cascade import Cascade, CascadeConfig, find_model, load_cascade, read_pipeline
from ..trellis2.checkpoint import load_model
from ..trellis2.family import EMBEDDED_FOLDER as DECODERS_FOLDER
from ..trellis2.family import find_dinov3, own_encoder
from ..trellis2.safetensors_file import SafetensorsFile
from .checkpoint import FORMAT, STAGES, load_adapted, load_published, read_pt, stage_of

CONFIG = "genrecon.json"
EMBEDDED_FOLDER = Path(__file__).parent / "genrecon-tiny"
ROLES = {
    "structure": "sparse_structure_flow_model",
    "shape": "shape_slat_flow_model_512",
    "texture": "tex_slat_flow_model_512",
}
DECODERS = ("sparse_structure_decoder", "shape_slat_decoder", "tex_slat_decoder")
TRELLIS2_PLACES = ("", "microsoft/TRELLIS.2-4B", "TRELLIS.2-4B", "trellis2")
GET = "`python -m sightline download {}` gets it"


class SceneFamily(Cascade):
    """The networks of a scene reconstruction; roles as TRELLIS.2's `pipeline.json` has them.

    identity: says which weights these are, so that an interrupted run is not continued with others.
    """

    identity: str = ""

    @property
    def image_size(self) -> int:
        """Side of the square views the flows were trained on."""
        return self.config.token_image_sizes[0]


def load_scene_family(
    path: str | Path, *, search: Sequence[str | Path] = (), dinov3: str | Path | None = None,
    device: torch.device | str = "cpu", dtype: torch.dtype | str | None = None, low_vram: bool = False,
    decode_only: bool = False, files: Mapping[str, str | Path] | None = None,
) -> SceneFamily:  # fmt: skip
    """A family from a folder (see above); every network is read when it is first used.

    search: further folders with weights. files: stage ("structure", "shape", "texture") -> its file, instead of what
    the folder holds. decode_only: no image network is needed. Raises InputError naming what is missing.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    folders = [folder, *(Path(s).expanduser() for s in search)]
    config = path if path.suffix == ".json" else path / CONFIG
    if config.is_file() and not files:
        settings, models = _from_config(config, folders, dtype)
    else:
        settings, models = _from_files(files or find_flows(folder), folders, dtype)
    missing = [role for role in (*ROLES.values(), *DECODERS) if role not in models]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}; a scene needs three flows and three decoders.")
    family = SceneFamily(settings, models, device=device, low_vram=low_vram)
    weights = [config.parent] if config.is_file() and not files else [folder, *(files or {}).values()]
    family.identity = f"{dtype or 'stored'} " + " ".join(_state(Path(place)) for place in weights)
    if not decode_only:
        own = own_encoder(config, folders) if config.is_file() and not files and dinov3 is None else None
        family.image_encoder = own or find_dinov3(folders, dinov3)
    return family


def embedded_scene_family(*, device: torch.device | str = "cpu", low_vram: bool = False) -> SceneFamily:
    """The small family in this package: plain furnished rooms at 64^3 voxels a chunk; see docs/training-genrecon.md.

    It has its own image encoder; shape and texture decoders are those of the embedded Pixal3D family.
    """
    return load_scene_family(EMBEDDED_FOLDER, search=[DECODERS_FOLDER.parent], device=device, low_vram=low_vram)


def _state(place: Path) -> str:
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.suffix in (".pt", ".safetensors"))
    return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def find_flows(folder: Path) -> dict[str, Path]:
    """Stage -> file of the three flows in a folder, told apart by their shapes, not their names."""
    found: dict[str, Path] = {}
    files = sorted([*folder.glob("*.pt"), *folder.glob("*/ckpts/*.pt"), *folder.glob("*.safetensors")])
    for file in files:
        try:
            stage = flow_stage(file)
        except InputError:
            continue
        if stage in found:
            raise InputError(f"{found[stage]} and {file} are both for the {stage} stage; keep one of them.")
        found[stage] = file
    missing = [stage for stage in STAGES if stage not in found]
    if missing:
        raise InputError(
            f"{folder} has no GenRecon weights for {', '.join(missing)} (no {CONFIG}, and no fitting .pt or adapter); "
            "put the three published files there."
        )
    return found


def flow_stage(file: Path) -> str:
    """Which stage a published `.pt`, the same as `.safetensors`, or an adapter is for."""
    if file.suffix != ".safetensors":
        return stage_of(read_pt(file))
    opened = SafetensorsFile(file)
    if opened.metadata.get("format") != FORMAT:
        return stage_of(opened)
    args = json.loads(opened.metadata["args"])
    for stage, preset in STAGES.items():
        if args.get("in_channels") == preset["in_channels"]:
            return stage
    raise InputError(f"{file} is an adapter for {args.get('in_channels')} channels, which no stage has.")


def _from_config(config: Path, folders, dtype) -> tuple[CascadeConfig, dict[str, Any]]:
    _, args = read_pipeline(config)
    adapters = args.get("adapters") or {}
    base = load_cascade(config, search=folders, dtype=dtype)
    models: dict[str, nn.Module | Callable[[], nn.Module]] = dict(base.models)
    for role in ROLES.values():
        if role in adapters:
            stem = find_model(args["models"][role], config.parent, folders)
            models[role] = _adapted(stem, _inside(config.parent, adapters[role]), dtype)
    plain = [role for role in ROLES.values() if role in models and role not in adapters]
    if plain:
        raise InputError(f"{config} names no adapter for {', '.join(plain)}; add it under `adapters`.")
    return base.config, models


def _inside(folder: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"The adapter {name!r} does not lie inside the model folder.")
    return folder / name


def _adapted(stem: Path, adapter: Path, dtype) -> Callable[[], nn.Module]:
    return lambda: load_adapted(stem, adapter, dtype=dtype)


def _published(file: Path, dtype) -> Callable[[], nn.Module]:
    return lambda: load_published(file, dtype=dtype)


def _from_files(files: Mapping[str, str | Path], folders, dtype) -> tuple[CascadeConfig, dict[str, Any]]:
    place = next((f / p for f in folders for p in TRELLIS2_PLACES if (f / p / "pipeline.json").is_file()), None)
    if place is None:
        raise InputError(
            f"TRELLIS.2, whose decoders scenes need, was not found in {', '.join(map(str, folders))}; "
            f"{GET.format('genrecon')}."
        )
    home, args = read_pipeline(place)
    roots = [*folders, place.parent.parent]
    models: dict[str, Any] = {}
    for role in DECODERS:  # the other networks of TRELLIS.2 need not be there
        stem = find_model(args["models"][role], home, roots)
        models[role] = lambda stem=stem: load_model(stem, dtype=dtype)
    for stage, role in ROLES.items():
        if stage not in files:
            raise InputError(f"There is no file for the {stage} stage; give all three.")
        file = Path(files[stage])
        if not file.is_file():
            raise InputError(f"There is no file {file}.")
        if file.suffix == ".safetensors" and SafetensorsFile(file).metadata.get("format") == FORMAT:
            stem = find_model(args["models"][role], home, roots)
            models[role] = _adapted(stem, file, dtype)
        else:
            models[role] = _published(file, dtype)
    return CascadeConfig.from_args(args), models
