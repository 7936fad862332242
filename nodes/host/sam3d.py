"""SAM 3D Objects under the host's memory management, its latents, and the point maps of core's MoGe."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ...models.relaxflow.settings import RelaxSettings
from ...models.sam3d.family import Sam3d
from ...models.sam3d.pose import Pose
from ...pipelines.relaxflow_sam3d import ObjectPicture, Structure
from ...scene.errors import InputError
from ...scene.files import inside
from ...scene.sparse import SparseTensor
from .base import io
from .devices import LoadedModel, render_device
from .sam3d_folder import SAM3D_FOLDER, sam3d_families  # noqa: F401  (for the nodes)
from .trellis2_latents import read_sparse_latent, sparse_latent

LATENT_TYPE, POSE_KEY = "sam3d", "sam3d_pose"

Sam3dModels = io.Custom("SIGHTLINE_SAM3D")
PointMapType = io.Custom("SIGHTLINE_POINT_MAP")
StructureType = io.Custom("SIGHTLINE_SAM3D_STRUCTURE")
MoGeGeometry = io.Custom("MOGE_GEOMETRY")  # core's


@dataclass(frozen=True, eq=False)
class SampledObject:
    """What the first stage hands to the second."""

    structure: Structure
    picture: ObjectPicture
    priors: Sequence[ObjectPicture]
    settings: RelaxSettings
    keep: str
    prior_keep: str


class HostedSam3d(Sam3d):
    """SAM 3D whose networks are under the host's memory management."""

    @classmethod
    def of(cls, family: Sam3d) -> HostedSam3d:
        """The same family, computed where the host computes."""
        fields = {name: getattr(family, name) for name in family.__dataclass_fields__}
        return cls(**{**fields, "device": render_device()})

    @contextmanager
    def on_device(self, part: str):
        network = self.get(part)
        hosted = self.__dict__.setdefault("hosted", {})
        if part not in hosted:
            hosted[part] = LoadedModel.wrap(network, None)
        yield hosted[part].on_device()


def runs_on_cpu() -> bool:
    """Whether the host computes on the CPU, where half precision is slow."""
    return render_device().type == "cpu"


def sam3d_latent(family: Sam3d, latents: SparseTensor, structure: Structure) -> dict:
    """Latents as core's LATENT, normalized, with the pose of their object."""
    feats = (latents.feats.cpu() - family.mean) / family.std
    latent = sparse_latent([(feats, latents.coords[:, 1:])], structure.resolution, "z_up")
    return {**latent, "type": LATENT_TYPE, POSE_KEY: structure.pose}


def read_sam3d_latent(family: Sam3d, latent: dict) -> tuple[SparseTensor, Pose]:
    """Denormalized latents of one object and its pose; InputError for latents of other models."""
    items, _, _ = read_sparse_latent(latent, "latent")
    if len(items) != 1 or latent.get("type") != LATENT_TYPE:
        kind = f"{len(items)} objects" if len(items) != 1 else f"made by {latent.get('type', 'another model')}"
        raise InputError(f"`latent` is {kind}; connect one object of the Latent Sampler (SAM 3D).")
    if not isinstance(latent.get(POSE_KEY), Pose):
        raise InputError("`latent` has lost its pose; connect the Latent Sampler (SAM 3D) directly.")
    feats, coords = items[0]
    rows = torch.nn.functional.pad(coords.to(torch.int32), (1, 0))
    feats = (feats.cpu() * family.std + family.mean).to(family.device)
    return SparseTensor(feats, rows.to(family.device)), latent[POSE_KEY]


def has_moge() -> bool:
    """Whether this host has MoGe's nodes."""
    import nodes

    return "MoGeInference" in nodes.NODE_CLASS_MAPPINGS


def moge_points(geometry: Any) -> Tensor:
    """The points [H, W, 3] (x right, y down, z in) of one picture in core's MOGE_GEOMETRY."""
    points = geometry.get("points") if isinstance(geometry, dict) else None
    if not isinstance(points, Tensor) or points.ndim != 4 or points.shape[-1] != 3:
        raise InputError("`moge_geometry` has no points; connect core's Run MoGe Inference.")
    if len(points) != 1:
        raise InputError(f"`moge_geometry` is of {len(points)} pictures; SAM 3D takes one at a time.")
    return points[0]


def input_file(name: str) -> Path:
    """A file in the host's input folder; InputError for anything else."""
    root = Path(folder_paths.get_input_directory())
    path = inside(root / name, [root])
    if not path.is_file():
        raise InputError(f"There is no file {name!r} in {root}; put the point map there and give its name.")
    return path
