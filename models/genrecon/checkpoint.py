"""GenRecon's weights: the three published `.pt` files, small adapters made from them, and the presets that fit.

The published files come without a configuration; which stage a file is follows from the width of its input layer. An
adapter file holds only what was trained (LoRA, `aggregator.*`, `proj_linears.*`; 60.3 M numbers, 0.24 GB) and is put on
TRELLIS.2's own flow. No file is ever executed. Source: GenRecon, specification 1 and 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ...scene.files import writing
from ..trellis2.checkpoint import assign_weights, read_config
from ..trellis2.config import FlowConfig, parse_dtype
from ..trellis2.safetensors_file import SafetensorsFile
from .flows import ConditionedLatentFlow, ConditionedStructureFlow
from .lora import LoraConfig, fold

_COMMON = dict(
    model_channels=1536, cond_channels=1024, num_blocks=30, num_heads=12, mlp_ratio=5.3334, pe_mode="rope",
    share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True,
)  # fmt: skip
LORA = LoraConfig(8, 16)
STAGES: dict[str, dict[str, Any]] = {  # the released models; `dtype` as they are constructed
    "structure": dict(resolution=16, in_channels=8, out_channels=8, dtype="bfloat16", **_COMMON),
    "shape": dict(resolution=32, in_channels=32, out_channels=32, **_COMMON),
    "texture": dict(resolution=32, in_channels=64, out_channels=32, **_COMMON),
}
FORMAT = "sightline-genrecon-adapter"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "denoiser", "ema_state_dict", "weights")
PREFIXES = ("", "module.", "model.", "denoiser.", "models.denoiser.", "backbone.", "net.")
COMPUTED = ("rope_phases",)


def is_trained(key: str) -> bool:
    """Whether a key was trained by GenRecon; all others are TRELLIS.2's."""
    return key.endswith((".lora_A", ".lora_B")) or key.startswith(("aggregator.", "proj_linears."))


def build_flow(args: Mapping[str, Any], lora: LoraConfig | None = None, aggregator: dict | None = None) -> nn.Module:
    """A conditioned flow on the meta device.

    args: constructor arguments (`STAGES`, or those of a training configuration); a resolution of a dense latent is
    told by `in_channels` equal to `out_channels` with a `rope_phases` table: `stage_of` decides it. lora: keep
    adapters as parameters of their own (training); None for folded weights.
    """
    config = FlowConfig.from_args(args)
    kind = ConditionedStructureFlow if args.get("dense", is_dense(args)) else ConditionedLatentFlow
    with torch.device("meta"):
        return kind(config, lora, aggregator)


def is_dense(args: Mapping[str, Any]) -> bool:
    """Whether arguments are those of a structure stage, by the released resolutions."""
    return args["resolution"] == STAGES["structure"]["resolution"]


def contract(args: Mapping[str, Any], lora: LoraConfig = LORA) -> dict[str, dict]:
    """Key -> shape, dtype and whether it was trained, of a published file."""
    model = build_flow(args, lora)
    return {
        key: {
            "shape": list(value.shape),
            "dtype": str(value.dtype).removeprefix("torch."),
            "trained": is_trained(key),
        }
        for key, value in model.state_dict().items()
    }


def stage_of(weights: Mapping[str, Tensor]) -> str:
    """Which stage published weights are for, from `input_layer.weight`; raises InputError for anything else."""
    shape = tuple(weights["input_layer.weight"].shape) if "input_layer.weight" in weights else ()
    for name, args in STAGES.items():
        if shape == (args["model_channels"], args["in_channels"]):
            return name
    raise InputError(
        f"These weights have an input layer of {list(shape)}; GenRecon's are [1536, 8], [1536, 32] and [1536, 64]."
    )


def read_pt(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a `.pt` file: wrapped in a known entry or not, with a known prefix or not; mapped, not copied.

    Raises InputError for anything but plain tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds, also for what it refuses to unpickle
        raise InputError(f"{path} is no file of plain tensors ({str(error).splitlines()[0][:120]}).") from None
    return unwrap(found, str(path))


def unwrap(found: Any, source: str = "the file") -> dict[str, Tensor]:
    """The one state dict of a flow in what a `.pt` holds; raises InputError where there is none."""
    if not isinstance(found, dict):
        raise InputError(f"{source} holds no table of tensors.")
    candidates = [found, *(found[name] for name in WRAPPERS if isinstance(found.get(name), dict))]
    for candidate in candidates:
        for prefix in PREFIXES:
            if f"{prefix}input_layer.weight" in candidate:
                items = {k.removeprefix(prefix): v for k, v in candidate.items() if k.startswith(prefix)}
                return {k: v for k, v in items.items() if isinstance(v, Tensor)}
    raise InputError(f"{source} holds no flow network (no input_layer.weight).")


def load_published(
    path: str | Path, *, args: Mapping[str, Any] | None = None, dtype: torch.dtype | str | None = None,
    lora: LoraConfig = LORA, device: torch.device | str = "cpu",
) -> nn.Module:  # fmt: skip
    """A flow from a published `.pt` (or the same keys as `.safetensors`), LoRA folded.

    args: its configuration, default by its shapes. dtype: of the torso. Raises InputError naming every key that is
    missing, foreign or misshapen: nothing is dropped silently.
    """
    path = Path(path)
    weights = SafetensorsFile(path) if path.suffix == ".safetensors" else read_pt(path)
    args = dict(args or STAGES[stage_of(weights)])
    return from_state(weights, args, dtype=dtype, lora=lora, source=str(path), device=device)


def from_state(
    weights: Mapping[str, Tensor], args: Mapping[str, Any], *, dtype=None, lora: LoraConfig = LORA,
    source: str = "the weights", device: torch.device | str = "cpu", aggregator: dict | None = None,
) -> nn.Module:  # fmt: skip
    """A flow with the given weights, adapters folded in float32 before the cast to the torso's dtype."""
    args = dict(args)
    if dtype is not None:
        args["dtype"] = parse_dtype(dtype)
    folded = fold({key: weights[key] for key in weights if key not in COMPUTED}, lora)
    return assign_weights(build_flow(args, None, aggregator), folded, source, device=device)


# ---- adapters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaseProof:
    """How the frozen part of a published file compares with TRELLIS.2's own flow: equal tensors, and those that differ
    with their largest difference."""

    equal: int
    differing: dict[str, float]

    def __str__(self) -> str:
        if not self.differing:
            return f"all {self.equal} frozen tensors equal the base"
        worst = max(self.differing, key=self.differing.get)
        return (
            f"{len(self.differing)} of {self.equal + len(self.differing)} frozen tensors differ from the base, "
            f"most {worst} by {self.differing[worst]:.3g}"
        )


def compare_base(published: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> BaseProof:
    """Compares every frozen tensor, cast to the dtype the base stores it in; raises InputError for missing keys."""
    frozen = [key for key in published if not is_trained(key) and key not in COMPUTED]
    missing = sorted(set(frozen) ^ {key for key in base if key not in COMPUTED})
    if missing:
        raise InputError(f"The base is of another model: {', '.join(missing[:6])} are only in one of the two.")
    equal, differing = 0, {}
    for key in frozen:
        ours, theirs = published[key], base[key]
        if ours.shape != theirs.shape:
            raise InputError(f"The base is of another size: {key} is {list(theirs.shape)}, not {list(ours.shape)}.")
        narrow = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        if torch.equal(ours.to(narrow), theirs.to(narrow)):
            equal += 1
        else:
            differing[key] = float((ours.float() - theirs.float()).abs().max())
    return BaseProof(equal, differing)


def save_adapter(
    published: Mapping[str, Tensor], path: str | Path, args: Mapping[str, Any], lora: LoraConfig = LORA,
    *, overwrite: bool = False,
) -> int:  # fmt: skip
    """Writes the trained tensors, float32, as `.safetensors`; returns how many numbers they hold."""
    from safetensors.torch import save_file

    trained = {key: published[key].float().contiguous().clone() for key in published if is_trained(key)}
    if not trained:
        raise InputError("These weights hold nothing that GenRecon trained (no LoRA, aggregator or proj_linears).")
    plain = {key: str(value) if isinstance(value, torch.dtype) else value for key, value in args.items()}
    metadata = {"format": FORMAT, "args": json.dumps(plain), "lora": json.dumps([lora.r, lora.alpha])}
    with writing(path, overwrite) as temporary:
        save_file(trained, temporary, metadata)
    return sum(value.numel() for value in trained.values())


def convert(
    path: str | Path, base: str | Path, target: str | Path, *, allow_different: bool = False, overwrite: bool = False
) -> BaseProof:
    """A published `.pt` to an adapter, after proof that its frozen part equals TRELLIS.2's flow.

    base: stem of TRELLIS.2's pair. Raises InputError, naming what differs, where it does not, unless allowed.
    """
    published, base = read_pt(path), Path(base)
    stem = base.with_suffix("") if base.suffix in (".json", ".safetensors") else base
    proof = compare_base(published, SafetensorsFile(stem.with_name(stem.name + ".safetensors")))
    if proof.differing and not allow_different:
        raise InputError(f"{proof}; the adapter alone would not give the same network.")
    save_adapter(published, target, STAGES[stage_of(published)], overwrite=overwrite)
    return proof


def load_adapted(
    base: str | Path, adapter: str | Path, *, dtype: torch.dtype | str | None = None, device="cpu"
) -> nn.Module:
    """TRELLIS.2's flow (stem of its pair) with an adapter file folded in."""
    base, adapter = Path(base), Path(adapter)
    stem = base.with_suffix("") if base.suffix in (".json", ".safetensors") else base
    _, args = read_config(stem.with_name(stem.name + ".json"))
    file = SafetensorsFile(adapter)
    if file.metadata.get("format") != FORMAT:
        raise InputError(f"{adapter} is no GenRecon adapter; make one with `python -m sightline genrecon-convert`.")
    stated = json.loads(file.metadata["args"])
    lora = LoraConfig(*json.loads(file.metadata["lora"]))
    for name in ("resolution", "in_channels", "out_channels", "model_channels", "num_blocks"):
        if stated.get(name) != args.get(name):
            raise InputError(f"{adapter} is for {name} {stated.get(name)}; {stem.name} has {args.get(name)}.")
    body = SafetensorsFile(stem.with_name(stem.name + ".safetensors"))
    weights = {**{k: body[k] for k in body}, **{k: file[k] for k in file}}
    args = {**args, "dense": stated.get("dense", is_dense(stated))}
    return from_state(
        weights, args, dtype=dtype, lora=lora, source=f"{stem.name} with {adapter.name}", device=device,
        aggregator=stated.get("aggregator"),
    )  # fmt: skip
