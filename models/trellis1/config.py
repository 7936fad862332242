"""Constructor arguments of the TRELLIS (v1) networks, as their published `.json` files give them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...scene.errors import InputError
from ..trellis2.config import FlowConfig, _flow_dtype, _from_args


@dataclass(frozen=True)
class LatentFlowConfig:
    """The flow over structured latents, with residual blocks around the transformer."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int
    cond_channels: int
    num_blocks: int
    num_heads: int
    io_block_channels: tuple[int, ...]
    mlp_ratio: float = 4.0
    patch_size: int = 2
    num_io_res_blocks: int = 2
    pe_mode: str = "ape"
    use_skip_connection: bool = True
    share_mod: bool = False
    qk_rms_norm: bool = False
    qk_rms_norm_cross: bool = False
    is_shortcut_model: bool = False
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.patch_size != 2 ** len(self.io_block_channels):
            raise InputError(
                f"`patch_size` is {self.patch_size}, which needs log2 of it in `io_block_channels`; there are "
                f"{len(self.io_block_channels)}."
            )

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> LatentFlowConfig:
        """Reads the `args` of a published `.json`; arguments that do not shape the network are passed over."""
        renamed: dict[str, Any] = {"dtype": _flow_dtype(args)}
        if args.get("num_heads") is None:
            renamed["num_heads"] = args["model_channels"] // args.get("num_head_channels", 64)
        return _from_args(cls, args, renamed)

    @property
    def transformer(self) -> FlowConfig:
        """What the blocks of the transformer are built from."""
        names = "resolution model_channels cond_channels num_blocks num_heads mlp_ratio pe_mode share_mod".split()
        values = {name: getattr(self, name) for name in [*names, "qk_rms_norm", "qk_rms_norm_cross", "dtype"]}
        return FlowConfig(in_channels=self.model_channels, out_channels=self.model_channels, **values)


@dataclass(frozen=True)
class LatentDecoderConfig:
    """A sparse transformer with windows: the three decoders of structured latents, and their encoder."""

    resolution: int
    model_channels: int
    latent_channels: int
    num_blocks: int
    num_heads: int
    mlp_ratio: float = 4.0
    attn_mode: str = "swin"
    window_size: int = 8
    pe_mode: str = "ape"
    qk_rms_norm: bool = False
    in_channels: int | None = None
    representation_config: Mapping[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.attn_mode not in ("swin", "full"):
            raise InputError(f"`attn_mode` is {self.attn_mode!r}; the published networks use 'swin' ('full' works).")
        if self.pe_mode not in ("ape", "rope"):
            raise InputError(f"`pe_mode` is {self.pe_mode!r}; 'ape' or 'rope' would work.")

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> LatentDecoderConfig:
        renamed: dict[str, Any] = {"dtype": _flow_dtype(args)}
        if args.get("num_heads") is None:
            renamed["num_heads"] = args["model_channels"] // args.get("num_head_channels", 64)
        renamed["representation_config"] = dict(args.get("representation_config") or {})
        return _from_args(cls, args, renamed)
