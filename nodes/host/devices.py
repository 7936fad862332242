"""Devices, and networks under the host's memory management."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from .base import ROOM


class _Hosted(torch.nn.Module):
    """A room around a network for the attributes (device, loaded memory) that the host writes on its models."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network under the host's memory management: on the device while it works, offloaded when others need room."""

    patcher: Any
    info: Any

    @classmethod
    def wrap(cls, network: torch.nn.Module, info: Any) -> LoadedModel:
        """Hand a network (on the CPU, eval mode) over to the host."""
        patcher = comfy.model_patcher.CoreModelPatcher(
            _Hosted(network),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        return cls(patcher, info)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.patcher.load_device

    def on_device(self, memory: int = 0) -> torch.nn.Module:
        """The network on its device, after the host made room for it and for `memory` bytes of work."""
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        return self.patcher.model.network


def render_device() -> torch.device:
    """Where pictures are drawn."""
    return comfy.model_management.get_torch_device()


def has_room(device: torch.device, needed: int) -> bool:
    """Whether `needed` more bytes fit beside everything that is loaded, with much to spare."""
    return comfy.model_management.get_free_memory(device) > 2 * needed + ROOM


def result(tensor: Tensor) -> Tensor:
    """A tensor as the host passes it between nodes."""
    return tensor.to(comfy.model_management.intermediate_device(), torch.float32)
