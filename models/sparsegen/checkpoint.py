"""Loading and converting SparseGen weights; nothing in a file is ever executed."""

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import torch

from ...scene.errors import InputError, MissingDependency
from .config import SparseGenConfig, hydra_values
from .model import SparseGen
from .weights import EMBEDDED, EMBEDDED_PATH, PUBLISHED

METADATA_KEY = "sparsegen_config"
PREFIX = "reconstructor."
# Buffers of the published checkpoint that are configuration, not weights.
BUFFERS = ("position_range", "renderer.position_range", "renderer.background_color")
MAX_CONFIG_BYTES = 1 << 20
SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LoadInfo:
    """What was loaded: file, its format, the configuration, parameter count, training iteration where stated,
    other metadata.
    """

    path: Path
    format: str
    config: SparseGenConfig
    parameters: int
    iteration: int | None
    metadata: dict


def load_sparsegen(
    source: str | os.PathLike = EMBEDDED,
    *,
    config: SparseGenConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[SparseGen, LoadInfo]:
    """A SparseGen network in eval mode with the weights of `source`.

    `source`: ``"sparsegen-tiny"`` (embedded), a published ``model.pth`` (or its folder) with ``.hydra/config.yaml``
    beside it, or a safetensors file. `config` overrides what the files say. On a CPU float32 weights stay mapped from
    the file.
    Raises InputError in one sentence: file absent, cut short, not weights, a pickle that wants more than tensors, or
    keys that are missing, foreign or of the wrong shape.
    """
    if str(source) == PUBLISHED.name and not Path(source).exists():
        raise InputError(
            f"The weights {PUBLISHED.name} have to be fetched first, from {PUBLISHED.source}; "
            "then give the path of their model.pth."
        )
    path = EMBEDDED_PATH if str(source) == EMBEDDED else Path(source)
    state, stated, info = read_checkpoint(path)
    path = info.pop("path")
    if config is None:
        config = SparseGenConfig.from_state_dict(state, stated)
    with torch.device("meta"):
        model = SparseGen(config)
    check_keys(state, {key: tuple(value.shape) for key, value in model.state_dict().items()}, path.name)
    float32 = {key: value.to(torch.float32) for key, value in state.items()}
    model.load_state_dict(float32, assign=True)
    del state, float32
    if dtype != torch.float32:
        model.to_dtype(dtype)
    model.to(device).eval()
    parameters = sum(p.numel() for p in model.parameters())
    return model, LoadInfo(path=path, config=config, parameters=parameters, **info)


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict, dict]:
    """The tensors of a weights file (memory-mapped, prefix stripped), the options it states, and what else is known.

    Returns state dict, options of `SparseGenConfig`, and {path, format, iteration, metadata}. Raises InputError.
    """
    path = Path(path)
    if path.is_dir():
        inside = [path / "model.pth", *sorted(path.glob("*.safetensors"))]
        path = next((p for p in inside if p.is_file()), inside[0])
    if not path.is_file():
        raise InputError(f"The weights file {path} does not exist; give a SparseGen model.pth or .safetensors file.")
    with open(path, "rb") as file:
        head = file.read(9)
    if head[:2] == b"PK":
        return _read_torch(path)
    if len(head) == 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:1] == b"\x80":
        raise InputError(
            f"{path.name} is an old-style pickle; only zip-format model.pth files and safetensors are read."
        )
    raise InputError(
        f"{path.name} is neither a safetensors file nor a model.pth; it may be cut short or of another kind."
    )


def check_keys(found: dict, wanted: dict[str, tuple], name: str) -> None:
    """Compare a state dict with a key -> shape table;
    one InputError sentence names missing, foreign and misshapen keys.
    """
    missing = [key for key in wanted if key not in found]
    foreign = [str(key) for key in found if key not in wanted]
    shapes = [
        f"{key} is {tuple(found[key].shape)} instead of {wanted[key]}"
        for key in wanted
        if key in found and tuple(found[key].shape) != wanted[key]
    ]
    kinds = [
        f"{key} holds {str(found[key].dtype).removeprefix('torch.')}"
        for key in wanted
        if key in found and not found[key].is_floating_point()
    ]
    parts = [
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (
            ("missing", missing),
            ("foreign", foreign),
            ("of the wrong shape", shapes),
            ("not floating point", kinds),
        )
        if keys
    ]
    if parts:
        raise InputError(
            f"{name} does not fit SparseGen (keys {'; '.join(parts)}); "
            "load SparseGen weights and their own configuration."
        )


def save_sparsegen(
    model: SparseGen,
    path: str | os.PathLike,
    *,
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `model` as safetensors with its configuration (JSON) in the metadata; `dtype` is the storage type.

    Written under a temporary name and renamed; raises InputError if the file exists and `overwrite` is not set.
    """
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    return _write(state, model.config, Path(path), metadata, overwrite)


def convert(
    source: str | os.PathLike, target: str | os.PathLike, *, dtype: torch.dtype = torch.float32, overwrite: bool = False
) -> Path:
    """Turn any file that `load_sparsegen` reads into safetensors (see `save_sparsegen`)."""
    model, info = load_sparsegen(source)
    metadata = {"converted_from": info.path.name} | (
        {} if info.iteration is None else {"iteration": str(info.iteration)}
    )
    return save_sparsegen(model, target, dtype=dtype, metadata=metadata, overwrite=overwrite)


def _write(state, config, path, metadata, overwrite):
    from safetensors.torch import save_file

    from ...scene.files import writing

    values = {METADATA_KEY: json.dumps(config.to_dict(), sort_keys=True), "format": "pt"} | dict(metadata or {})
    with writing(path, overwrite=overwrite) as temporary:
        save_file(state, str(temporary), metadata=values)
    return path


def _read_safetensors(path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = _first_line(error)
        raise InputError(
            f"{path.name} cannot be read as safetensors ({reason}); it may be cut short: fetch or convert it again."
        ) from error
    stated = {}
    if METADATA_KEY in metadata:
        try:
            stated = json.loads(metadata.pop(METADATA_KEY))
        except ValueError as error:
            raise InputError(
                f"The configuration in the metadata of {path.name} is not JSON ({error}); convert the weights again."
            ) from error
        if not isinstance(stated, dict):
            raise InputError(
                f"The configuration in the metadata of {path.name} is no mapping; convert the weights again."
            )
    metadata.pop("format", None)
    state, ranges = _strip(state)
    iteration = metadata.get("iteration", "")
    return (
        state,
        _beside(path) | ranges | stated,
        {
            "path": path,
            "format": "safetensors",
            "metadata": metadata,
            "iteration": int(iteration) if iteration.isdecimal() else None,
        },
    )


def _read_torch(path):
    try:
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        wants = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {wants[1]}" if wants else "holds more than tensors"
        raise InputError(
            f"{path.name} {what}, which tensors do not need; "
            "nothing in it was run: use the published file or safetensors."
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path.name} cannot be read ({_first_line(error)}); it is cut short or no weights file: fetch it again."
        ) from error
    state = content.get("diffuser", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise InputError(f"{path.name} has no `diffuser` weights; it is not a SparseGen checkpoint.")
    others = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise InputError(
            f"{path.name} holds {len(others)} entries that are no tensors ({_some(others)}); "
            "it is not a SparseGen checkpoint."
        )
    iteration = content.get("iteration") if "diffuser" in content else None
    state, ranges = _strip(state)
    return (
        state,
        _beside(path) | ranges,
        {
            "path": path,
            "format": "model.pth",
            "metadata": {},
            "iteration": iteration if isinstance(iteration, int) else None,
        },
    )


def _strip(state):
    """Remove the prefix and the three buffers; the position range among them is an option."""
    state = {str(key).removeprefix(PREFIX): value for key, value in state.items()}
    buffers = {name: state.pop(name) for name in BUFFERS if name in state}
    box = buffers.get("position_range")
    if box is None or box.numel() != 6:
        return state, {}
    values = [float(x) for x in box.float()]
    short = [round(x, 6) for x in values]  # -0.6 rather than -0.60000002, where that is the same float32
    return state, {"position_range": short if torch.equal(torch.tensor(short), torch.tensor(values)) else values}


def _beside(path):
    """Options from the training configuration that lies beside a checkpoint; none if there is no such file."""
    config = path.parent / ".hydra" / "config.yaml"
    if not config.is_file():
        return {}
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency(
            f"{config} cannot be read without PyYAML; install it with `pip install pyyaml`."
        ) from error
    if config.stat().st_size > MAX_CONFIG_BYTES:
        raise InputError(
            f"{config} is {config.stat().st_size} bytes; a training configuration has at most {MAX_CONFIG_BYTES}."
        )
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{config} is not plain YAML ({_first_line(error)}); take the file that belongs to the weights."
        ) from error
    return hydra_values(values)


def _some(items):
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")


def _first_line(error):
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")[:160] or type(error).__name__
