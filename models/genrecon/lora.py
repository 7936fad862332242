"""Low-rank adapters of linear layers: as published beside `weight` and `bias`, and folded into the weight.

y = W x + b + s B A x with s = alpha / r. Source: GenRecon, specification 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis2.blocks import Linear

A, B = ".lora_A", ".lora_B"


@dataclass(frozen=True)
class LoraConfig:
    """rank and alpha; the released models have 8 and 16."""

    r: int = 8
    alpha: float = 16

    @property
    def scale(self) -> float:
        return self.alpha / self.r


class LoraLinear(Linear):
    """A frozen linear layer with trainable `lora_A` [r, in] and `lora_B` [out, r] (zero at first), float32."""

    def __init__(self, in_features: int, out_features: int, lora: LoraConfig):
        super().__init__(in_features, out_features)
        self.lora_scale = lora.scale
        self.lora_A = nn.Parameter(torch.empty(lora.r, in_features))
        self.lora_B = nn.Parameter(torch.zeros(out_features, lora.r))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(F.linear(x.to(self.lora_A.dtype), self.lora_A), self.lora_B)
        return super().forward(x) + (self.lora_scale * low).to(x.dtype)


def fold(weights: Mapping[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """The state dict without adapters: W + s B A, computed in float32 and given in float32; the rest as it is.

    Raises InputError for half a pair, an adapter without its layer, and shapes that do not fit.
    """
    folded = {}
    for key in weights:
        if key.endswith((A, B)):
            stem = key[: -len(A)]
            other = stem + (B if key.endswith(A) else A)
            if other not in weights or f"{stem}.weight" not in weights:
                raise InputError(f"{key} has no {other} or no {stem}.weight beside it; the adapter is incomplete.")
            continue
        value, stem = weights[key], key.removesuffix(".weight")
        if key.endswith(".weight") and stem + A in weights:
            a, b = weights[stem + A].float(), weights[stem + B].float()
            if a.shape != (lora.r, value.shape[1]) or b.shape != (value.shape[0], lora.r):
                raise InputError(
                    f"The adapter of {stem} is {list(a.shape)} and {list(b.shape)}; rank {lora.r} on "
                    f"{list(value.shape)} was expected."
                )
            value = value.float() + lora.scale * (b @ a)
        folded[key] = value
    return folded


def with_lora(module: nn.Module, lora: LoraConfig) -> None:
    """Replaces the linear layers of every attention in `module` by `LoraLinear`; weights are kept where they are."""
    for name, child in module.named_children():
        if isinstance(child, Linear) and name in ("to_qkv", "to_q", "to_kv", "to_out"):
            layer = LoraLinear(child.in_features, child.out_features, lora)
            layer.weight, layer.bias = child.weight, child.bias
            setattr(module, name, layer)
        else:
            with_lora(child, lora)
