"""Constructor arguments of the published networks, as their `.json` files give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from ...scene.errors import InputError

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def parse_dtype(value: Any) -> torch.dtype:
    """A torch dtype from a torch dtype or one of the names in `DTYPES`; raises InputError for anything else."""
    if isinstance(value, torch.dtype):
        return value
    try:
        return DTYPES[str(value).removeprefix("torch.")]
    except KeyError:
        raise InputError(f"`dtype` is {value!r}; one of {', '.join(DTYPES)} would work.") from None


def _from_args(cls, args: Mapping[str, Any], renamed: Mapping[str, Any]):
    known = {f.name for f in fields(cls)}
    values = {k: v for k, v in args.items() if k in known}
    values.update(renamed)
    missing = [f.name for f in fields(cls) if f.name not in values and f.default is f.default_factory]
    if missing:
        raise InputError(f"The model configuration lacks {', '.join(missing)}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class FlowConfig:
    """A flow transformer (sparse structure or structured latent); defaults are those of the published classes."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int
    cond_channels: int
    num_blocks: int
    num_heads: int
    mlp_ratio: float = 4.0
    pe_mode: str = "ape"
    share_mod: bool = False
    qk_rms_norm: bool = False
    qk_rms_norm_cross: bool = False
    image_attn_mode: str = "global"
    proj_in_channels: int | None = None
    vae_in_channels: int | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if self.pe_mode not in ("ape", "rope"):
            raise InputError(f"`pe_mode` is {self.pe_mode!r}; 'rope' or 'ape' would work.")
        if self.image_attn_mode not in ("global", "proj", "gated_proj"):
            raise InputError(
                f"`image_attn_mode` is {self.image_attn_mode!r}; 'global', 'proj' or 'gated_proj' would work."
            )
        if self.model_channels % self.num_heads:
            raise InputError(f"`model_channels` {self.model_channels} is no multiple of `num_heads` {self.num_heads}.")

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> FlowConfig:
        """Reads the `args` of a published `.json`; arguments that do not shape the network are passed over."""
        renamed: dict[str, Any] = {"dtype": _flow_dtype(args)}
        if args.get("num_heads") is None:
            renamed["num_heads"] = args["model_channels"] // args.get("num_head_channels", 64)
        return _from_args(cls, args, renamed)

    @property
    def projected_channels(self) -> int | None:
        """Width of the feature projected onto every token, None without projection."""
        if self.image_attn_mode == "global":
            return None
        width = self.cond_channels if self.proj_in_channels is None else self.proj_in_channels
        if self.image_attn_mode == "gated_proj":
            width += 16 if self.vae_in_channels is None else self.vae_in_channels
        return width


def _flow_dtype(args: Mapping[str, Any]) -> torch.dtype:
    return parse_dtype("float16" if args.get("use_fp16") else args.get("dtype") or "float32")


@dataclass(frozen=True)
class StructureVaeConfig:
    """The dense autoencoder of the occupancy grid; `channels` from its input side to its output side."""

    latent_channels: int
    num_res_blocks: int
    channels: tuple[int, ...]
    num_res_blocks_middle: int = 2
    in_channels: int = 1
    out_channels: int = 1
    norm_type: str = "layer"
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if self.norm_type != "layer":
            raise InputError(f"`norm_type` is {self.norm_type!r}; the published models use 'layer'.")

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> StructureVaeConfig:
        return _from_args(cls, args, {"dtype": _flow_dtype(args)})


@dataclass(frozen=True)
class SparseVaeConfig:
    """The sparse convolutional autoencoder of shape or texture; `model_channels` from input side to output side."""

    model_channels: tuple[int, ...]
    latent_channels: int
    num_blocks: tuple[int, ...]
    in_channels: int | None = None
    out_channels: int | None = None
    pred_subdiv: bool = True
    voxel_margin: float = 0.5
    resolution: int | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if len(self.num_blocks) != len(self.model_channels):
            raise InputError(
                f"`num_blocks` has {len(self.num_blocks)} levels and `model_channels` {len(self.model_channels)}; "
                "they must be equal."
            )

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> SparseVaeConfig:
        for name, known in (
            ("block_type", "SparseConvNeXtBlock3d"),
            ("up_block_type", "SparseResBlockC2S3d"),
            ("down_block_type", "SparseResBlockS2C3d"),
        ):
            foreign = sorted(set(args.get(name) or ()) - {known})
            if foreign:
                raise InputError(f"`{name}` asks for {', '.join(foreign)}; only {known} is known.")
        return _from_args(cls, args, {"dtype": _flow_dtype(args)})

    @property
    def factor(self) -> int:
        """How many output voxels stand behind one latent voxel along an axis."""
        return 2 ** (len(self.model_channels) - 1)
