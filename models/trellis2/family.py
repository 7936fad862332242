"""Finding and loading everything one family needs: its networks, DINOv3 and, for Pixal3D, NAF."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from ...scene.errors import InputError
from .cascade import PIPELINE_TYPES, Cascade, CascadeConfig, find_model, load_cascade, read_pipeline
from .checkpoint import load_model
from .dinov3 import VIT_LARGE, DinoV3, load_dinov3
from .naf import Naf, NafConfig, load_naf
from .published_latents import SHAPE_NORMALIZATION, TEXTURE_NORMALIZATION
from .safetensors_file import SafetensorsFile
from .single_file import networks_of

DINOV3_PLACES = (
    "dinov3",
    "camenduru/dinov3-vitl16-pretrain-lvd1689m",
    "facebook/dinov3-vitl16-pretrain-lvd1689m",
    "dinov3-vitl16-pretrain-lvd1689m",
)
NAF_PLACES = ("naf.safetensors", "valeoai/NAF/naf_release.pth", "naf/naf_release.pth", "naf_release.pth")
NAF_PREFIX = "naf."
EMBEDDED_FOLDER = Path(__file__).parent / "pixal3d-tiny"
GET = "`python -m sightline download {}` gets the published ones"


def find_dinov3(folders: Sequence[Path], given: str | Path | None = None) -> DinoV3:
    """DINOv3 from `given` (a folder with model.safetensors, or such a file), else from the known places in `folders`.

    The `config.json` beside it says its size; without one it is the ViT-L/16 of the papers.
    """
    places = [Path(given)] if given else [folder / place for folder in folders for place in DINOV3_PLACES]
    for place in places:
        file = place if place.suffix == ".safetensors" else place / "model.safetensors"
        if file.is_file():
            config = _json(file.with_name("config.json"))
            return load_dinov3(SafetensorsFile(file), config or VIT_LARGE, source=str(file))
    raise InputError(f"DINOv3 was not found in {_named(places)}; {GET.format('dinov3-vitl16')}.")


def find_naf(folders: Sequence[Path], given: str | Path | None = None) -> Naf:
    """NAF from the file `given` (.pth or .safetensors), else from the known places in `folders`.

    A .json of the same name says its size; without one it is the released network.
    """
    places = [Path(given)] if given else [folder / place for folder in folders for place in NAF_PLACES]
    for file in places:
        if file.is_file():
            config = _json(file.with_suffix(".json"))
            weights = SafetensorsFile(file) if file.suffix == ".safetensors" else _load_pth(file)
            return load_naf(weights, NafConfig.from_args(config) if config else NafConfig(), source=str(file))
    raise InputError(f"NAF was not found in {_named(places)}; {GET.format('naf')}.")


def find_encoder(
    folders: Sequence[Path],
    projected: bool,
    dinov3: str | Path | None = None,
    naf: str | Path | None = None,
) -> tuple[DinoV3, Naf | None]:
    """DINOv3 and, for a projecting family, NAF: from what was given (dinov3 may hold both), else from `folders`."""
    together = dinov3 is not None and Path(dinov3).suffix == ".safetensors" and Path(dinov3).is_file()
    encoder, own = read_encoder(dinov3) if together else (find_dinov3(folders, dinov3), None)
    if not projected:
        return encoder, None
    return encoder, own if own is not None and naf is None else find_naf(folders, naf)


def read_encoder(path: str | Path) -> tuple[DinoV3, Naf | None]:
    """DINOv3 and, where the file has it, NAF, from one file as ComfyUI has them (NAF below `naf.`).

    A .json of the same name, or `config.json`, holds another size's options. Raises InputError for what does not fit.
    """
    path = Path(path)
    options = _json(path.with_suffix(".json")) or _json(path.with_name("config.json")) or dict(VIT_LARGE)
    file = SafetensorsFile(path)
    naf_options = options.pop("naf", {})
    parts: tuple[dict, dict] = {}, {}
    for name in file:
        parts[name.startswith(NAF_PREFIX)][name.removeprefix(NAF_PREFIX)] = file[name]
    encoder = load_dinov3(parts[0], options, source=str(path))
    if not parts[1]:
        return encoder, None
    weights = {name: value.to(torch.float32, copy=True) for name, value in parts[1].items()}
    return encoder, load_naf(weights, NafConfig.from_args(naf_options), source=str(path))


def core_family(
    files: Sequence[str | Path],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    low_vram: bool = False,
) -> Cascade:
    """A family from ComfyUI's own files: the diffusion model and both VAEs; without an image encoder.

    Latents are normalized as those of the published models, unless a .json of the first file's name holds the `args` of
    another `pipeline.json`. Every network is read when first used. Raises InputError for files that are not there, for
    quantized ones and for a network in two files.
    """
    models: dict = {}
    for path in files:
        found = networks_of(SafetensorsFile(path), dtype=dtype)
        if twice := sorted(set(found) & set(models)):
            raise InputError(f"{path} holds {', '.join(twice)}, which another of the files holds too; leave one out.")
        models |= found
    args = _json(Path(files[0]).with_suffix(".json"))
    plain = CascadeConfig(SHAPE_NORMALIZATION, TEXTURE_NORMALIZATION)
    config = plain if args is None else CascadeConfig.from_args(args.get("args", args))
    return Cascade(config, models, device=device, low_vram=low_vram)


def load_family(
    path: str | Path,
    name: str,
    *,
    projected: bool,
    search: Sequence[str | Path] = (),
    dinov3: str | Path | None = None,
    naf: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    low_vram: bool = False,
    pipeline_type: str | None = None,
    decode_only: bool = False,
) -> Cascade:
    """A family ready to run: from a folder with `pipeline.json`, or such a file.

    name: of the weights that would be downloaded, for messages. projected: Pixal3D's conditioning, which needs NAF.
    search: further folders with weights. pipeline_type: what will be run, so that a missing network is noticed before
    the first stage. decode_only: latents will only be decoded, no image network is needed. Raises InputError naming
    what is missing and how to get it.
    """
    path = Path(path)
    pipeline = path if path.suffix == ".json" else path / "pipeline.json"
    if not pipeline.is_file():
        raise InputError(
            f"There is no {pipeline.name} in {pipeline.parent}; {GET.format(name)}, --weights says where they are."
        )
    folder = path if path.is_dir() else path.parent
    # Published names are owner/repository/path: two folders up lie the other repositories of a download.
    folders = [folder, *(Path(s).expanduser() for s in search), *([folder.parent.parent] if folder.name else [])]
    try:
        cascade = load_cascade(path, search=folders, device=device, dtype=dtype, low_vram=low_vram)
    except InputError as error:
        if "was not found" not in str(error):
            raise
        raise InputError(f"{str(error).rstrip('.')}; {GET.format(name)}.") from None
    check_networks(cascade, pipeline_type, projected, decode_only)
    if not decode_only:
        own = None if dinov3 else own_encoder(path, folders)
        if own is None:
            cascade.image_encoder, cascade.naf = find_encoder(folders, projected, dinov3, naf)
        else:
            cascade.image_encoder = own
            if projected and any(stage.naf_target for stage in cascade.config.image_stages.values()):
                cascade.naf = find_naf(folders, naf)
    return cascade


def own_encoder(path: str | Path, folders: Sequence[Path] = ()) -> torch.nn.Module | None:
    """The image encoder that a family names in its `pipeline.json`, as small ones do; None for those with DINOv3."""
    folder, args = read_pipeline(path)
    named = args.get("image_encoder")
    return None if named is None else load_model(find_model(named, folder, folders))


def embedded_family(*, device: torch.device | str = "cpu", low_vram: bool = False) -> Cascade:
    """The small Pixal3D family in this package: 64^3 voxels, furniture, lamps and mugs; see docs/training-cascade.md.

    It has its own image encoder and needs neither DINOv3 nor NAF.
    """
    return load_family(EMBEDDED_FOLDER, "pixal3d", projected=True, device=device, low_vram=low_vram)


def check_networks(cascade: Cascade, pipeline_type: str | None, projected: bool, decode_only: bool = False) -> None:
    """Raises InputError unless the family has every network that a run of `pipeline_type` goes through."""
    roles = ["shape_slat_decoder", "tex_slat_decoder"]
    if not decode_only:
        cascade.config.plan(pipeline_type)
        scale, two_steps = PIPELINE_TYPES[pipeline_type or cascade.config.default_pipeline_type]
        size = "512" if scale == 1 else "1024"
        roles += ["sparse_structure_flow_model", "sparse_structure_decoder", f"shape_slat_flow_model_{size}"]
        roles += [f"tex_slat_flow_model_{size}", *(["shape_slat_flow_model_512"] if two_steps else [])]
    missing = [role for role in roles if role not in cascade]
    if missing:
        kind = pipeline_type or cascade.config.default_pipeline_type
        raise InputError(f"These weights have no {', '.join(missing)}, which {kind} needs; choose another --type.")
    if not decode_only and projected:
        for stage in ("ss", f"shape_{size}", f"tex_{size}", *(["shape_512"] if two_steps else [])):
            cascade.config.stage(stage)


def _json(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError
        return found
    except ValueError:
        raise InputError(f"{path} is not a configuration in JSON.") from None


def _load_pth(path: Path) -> dict:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no file of plain tensors ({str(error).splitlines()[0]}).") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{path} is no table of tensors; give the released NAF weights.")
    return found


def _named(places: Sequence[Path]) -> str:
    return ", ".join(str(place) for place in places)
