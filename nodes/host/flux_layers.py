"""The layers of core's FLUX.1, and whether a MODEL is one."""

from __future__ import annotations

from typing import Any

import comfy.ldm.flux.model
import torch
from torch import Tensor

from ...models.seethrough3d.blocks import IMAGE
from ...models.seethrough3d.lora import LoraShape
from ...scene.errors import InputError


class CoreDouble:
    """`DoubleLayers` of core's `DoubleStreamBlock`; calls its modules, so any kind of weights works."""

    def __init__(self, block: Any) -> None:
        self.block, self.heads = block, block.num_heads

    def modulation(self, stream: str, vec: Tensor):
        return (self.block.img_mod if stream == IMAGE else self.block.txt_mod)(vec)

    def norm(self, stream: str, place: int, x: Tensor) -> Tensor:
        return getattr(self.block, f"{'img' if stream == IMAGE else 'txt'}_norm{place + 1}")(x)

    def _attn(self, stream: str) -> Any:
        return self.block.img_attn if stream == IMAGE else self.block.txt_attn

    def qkv(self, stream: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._attn(stream).qkv(x).chunk(3, dim=-1)

    def qk_norm(self, stream: str, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self._attn(stream).norm(q, k, v)

    def proj(self, stream: str, x: Tensor) -> Tensor:
        return self._attn(stream).proj(x)

    def mlp(self, stream: str, x: Tensor) -> Tensor:
        return (self.block.img_mlp if stream == IMAGE else self.block.txt_mlp)(x)


class CoreSingle:
    """`SingleLayers` of core's `SingleStreamBlock`, whose q, k, v and MLP are one layer."""

    def __init__(self, block: Any) -> None:
        self.block, self.heads = block, block.num_heads

    def modulation(self, vec: Tensor):
        return self.block.modulation(vec)[0]

    def norm(self, x: Tensor) -> Tensor:
        return self.block.pre_norm(x)

    def enter(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        width = self.block.hidden_size
        q, k, v, mlp = self.block.linear1(x).split([width] * 3 + [self.block.mlp_hidden_dim_first], dim=-1)
        return q[:, :rows], k, v, mlp[:, :rows]

    def qk_norm(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.block.norm(q, k, v)

    def leave(self, attended: Tensor, mlp: Tensor) -> Tensor:
        return self.block.linear2(torch.cat([attended, self.block.mlp_act(mlp)], dim=2))


def narrow(positions: Tensor, start: int, length: int) -> Tensor:
    """Some rows of core's rotary positions."""
    return positions[:, :, start : start + length]


def flux_shape(model: Any) -> LoraShape:
    """What a LoRA for core's MODEL must fit; InputError for a model that is not FLUX.1-dev's kind."""
    network = getattr(getattr(model, "model", None), "diffusion_model", None)
    hint = "; load FLUX.1-dev with Load Diffusion Model"
    if not isinstance(network, comfy.ldm.flux.model.Flux):
        kind = type(getattr(model, "model", model)).__name__
        raise InputError(f"`model` is a {kind}, and the occlusion LoRA acts on FLUX.1 only{hint}.")
    params = network.params
    if params.global_modulation or params.yak_mlp or params.vec_in_dim is None or len(params.axes_dim) != 3:
        raise InputError(f"`model` is FLUX.2 or another relative of FLUX.1, which has other blocks{hint}.")
    if network.in_channels != network.out_channels:
        raise InputError(f"`model` reads {network.in_channels} channels: it is a FLUX Fill or control model{hint}.")
    return LoraShape(len(network.double_blocks), len(network.single_blocks), network.hidden_size, ())
