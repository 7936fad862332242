"""What RelaxFlow's nodes hand to each other, and TRELLIS (v1) in the host's folders and under its memory management."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...models.trellis1.family import Trellis1
from ...models.trellis1.mesh import ColoredMesh
from ...scene.errors import InputError
from ...scene.frames import turn_points
from ...scene.gltf import Material, Part
from ...scene.mesh_files import linear
from ...scene.splats import Splats
from .base import TRELLIS1_FOLDER, io
from .core_types import splat
from .devices import LoadedModel, render_device
from .textured_meshes import parts_mesh
from .trellis2_latents import pipeline_files, read_sparse_latent, sparse_latent

LATENT_TYPE = "trellis1"

RelaxSettingsType = io.Custom("SIGHTLINE_RELAX")
Trellis1Models = io.Custom("SIGHTLINE_TRELLIS1")
TokensType = io.Custom("SIGHTLINE_TRELLIS1_TOKENS")


def trellis1_pipelines() -> list[str]:
    """The pipeline.json files in the model folder and below."""
    return pipeline_files(TRELLIS1_FOLDER)


class HostedTrellis1(Trellis1):
    """TRELLIS (v1) whose networks are under the host's memory management."""

    @classmethod
    def of(cls, family: Trellis1) -> HostedTrellis1:
        """The same family, computed where the host computes."""
        fields = {name: getattr(family, name) for name in family.__dataclass_fields__}
        return cls(**{**fields, "device": render_device()})

    def _lent(self, network: nn.Module) -> nn.Module:
        hosted = self.__dict__.setdefault("hosted", {})
        if id(network) not in hosted:
            hosted[id(network)] = LoadedModel.wrap(network, None)
        return hosted[id(network)].on_device()

    def get(self, role: str) -> nn.Module:
        return self._lent(self.network(role))

    def image_encoder(self) -> nn.Module:
        return self._lent(self.encoder)


def trellis1_latent(family: Trellis1, feats: Tensor, coords: Tensor, grid: int) -> dict:
    """Latents [N, C] of voxels [N, 4] as core's LATENT, normalized."""
    feats = (feats.cpu() - family.mean) / family.std
    return {**sparse_latent([(feats, coords[:, 1:])], grid, "z_up"), "type": LATENT_TYPE}


def read_trellis1_latent(family: Trellis1, latent: dict) -> tuple[Tensor, Tensor]:
    """Denormalized latents [N, C] and voxels [N, 4] of one object; InputError for latents of other models."""
    items, _, _ = read_sparse_latent(latent, "latent")
    if len(items) != 1 or latent.get("type") != LATENT_TYPE:
        kind = f"{len(items)} objects" if len(items) != 1 else f"made by {latent.get('type', 'another model')}"
        raise InputError(f"`latent` is {kind}; connect one object of the Latent Sampler (TRELLIS).")
    feats, coords = items[0]
    rows = torch.nn.functional.pad(coords.to(torch.int32), (1, 0))
    return (feats.cpu() * family.std + family.mean).to(family.device), rows.to(family.device)


def trellis1_splat(splats: Splats) -> Any:
    """Gaussians of TRELLIS (Z up, front at -Y) as the core's SPLAT, front to the viewer."""
    return splat(splats.turned("z_up", "y_down").turned("y_down_front", "z_up"))


def trellis1_mesh(shape: ColoredMesh) -> Any:
    """A mesh of TRELLIS (Z up, front at -Y) as the core's MESH, Y up, with colored vertices where it has colors."""
    if not len(shape.faces):
        raise InputError("The mesh has no face; another seed, or another picture, may help.")
    colors = None if shape.colors is None else linear(shape.colors.float().cpu().clamp(0, 1))
    points = turn_points(shape.vertices.float().cpu(), "z_up", "y_up")
    material = Material("TRELLIS", metallic_factor=0.0, roughness_factor=0.5)
    return parts_mesh([Part(points, shape.faces.cpu().long(), material, colors=colors)])
