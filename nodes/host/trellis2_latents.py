"""Our own TRELLIS.2 and Pixal3D models in core's formats."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ...scene.errors import InputError
from .base import ENCODER_FOLDER, TRELLIS2_FOLDER, Types
from .core_types import colored_voxels
from .devices import result
from .folders import weight_files

STRUCTURE_CHANNELS = 32  # core's structure latents are padded to the width of the others


def pipeline_files(folder: str) -> list[str]:
    """The published pipeline configurations (`pipeline*.json`, `*_pipeline.json`) in a model folder and below."""
    names = [name.replace(os.sep, "/") for name in weight_files(folder)]
    return [name for name in names if re.fullmatch(r"pipeline.*[.]json|.*_pipeline[.]json", name.split("/")[-1])]


def folders(folder: str) -> list[Path]:
    """Where the files of a model folder lie."""
    return [Path(path) for path in folder_paths.get_folder_paths(folder)]


def model_roots() -> list[Path]:
    """Folders below which models of any kind lie."""
    return [Path(folder_paths.models_dir), *folders(TRELLIS2_FOLDER), *folders(ENCODER_FOLDER)]


def dense_voxels(grid: Tensor) -> Any:
    """Occupancy [B, R, R, R] as the core's VOXEL."""
    return Types.VOXEL(result(grid))


def structure_latent(samples: Tensor) -> dict:
    """A structure latent [B, C, R, R, R] as core's LATENT."""
    room = max(STRUCTURE_CHANNELS - samples.shape[1], 0)
    return {"samples": torch.nn.functional.pad(samples, (0, 0, 0, 0, 0, 0, 0, room)), "type": "trellis2"}


def occupied(voxel: Any) -> list[tuple[Tensor, int]]:
    """Voxels [N, 3] and voxels per axis of every item of a dense VOXEL; InputError for others and for empty ones."""
    grid = voxel.data
    if grid.ndim != 4 or len(set(grid.shape[1:])) != 1:
        raise InputError(f"`voxel` has shape {list(grid.shape)}; the voxels of a structure, [B, R, R, R], are needed.")
    items = [torch.argwhere(one > 0.5).to(torch.int32) for one in grid]
    if not all(map(len, items)):
        raise InputError("`voxel` has an empty item; another seed of the structure may help.")
    return [(one, int(grid.shape[-1])) for one in items]


def sparse_latent(items: Sequence[tuple[Tensor, Tensor]], grid: int, frame: str) -> dict:
    """Normalized features [N, C] on voxels [N, 3] of every object as core's LATENT: padded [B, C, max N, 1]."""
    counts = [len(coords) for _, coords in items]
    samples = torch.zeros(len(items), items[0][0].shape[1], max(counts), 1)
    rows = []
    for i, (feats, coords) in enumerate(items):
        samples[i, :, : len(feats), 0] = feats.detach().cpu().T
        rows.append(torch.nn.functional.pad(coords.cpu().to(torch.int32), (1, 0), value=i))
    return {
        "samples": result(samples),
        "coords": torch.cat(rows),
        "coord_counts": torch.tensor(counts),
        "coord_resolution": grid,
        "type": "trellis2",
        "model_frame": frame,
    }


def read_sparse_latent(latent: dict, name: str) -> tuple[list[tuple[Tensor, Tensor]], int, str]:
    """Features [N, C] and voxels [N, 3] of every object, voxels per axis, and which way is up, of core's LATENT."""
    samples, coords = latent["samples"], latent.get("coords")
    if coords is None or "coord_resolution" not in latent or samples.ndim != 4 or coords.ndim != 2:
        raise InputError(f"`{name}` is no latent on voxels; connect the Shape Sampler or core's sampler of that stage.")
    items = []
    for i in range(samples.shape[0]):
        one = coords[coords[:, 0] == i, 1:]
        if not 0 < len(one) <= samples.shape[2]:
            raise InputError(f"`{name}` has {len(one)} voxels for object {i} and room for {samples.shape[2]}.")
        items.append((samples[i, :, : len(one), 0].T.to(torch.float32), one))
    return items, int(latent["coord_resolution"]), latent.get("model_frame", "y_up")


def mesh_and_voxels(meshes: Sequence[Any], frame: str) -> tuple[Any, Any]:
    """`TexturedMesh`es of latents whose up is `frame` as the core's MESH and sparse VOXEL, both Y up."""
    vertices, faces, coords, colors = [], [], [], []
    for i, one in enumerate(meshes):
        points, cells = one.vertices.cpu().float(), one.coords.cpu()
        if frame == "z_up":
            points = torch.stack([points[:, 0], points[:, 2], -points[:, 1]], dim=1)
            cells = torch.stack([cells[:, 0], cells[:, 2], one.resolution - 1 - cells[:, 1]], dim=1)
        vertices.append(points)
        faces.append(one.faces.cpu().to(torch.int32))
        coords.append(torch.nn.functional.pad(cells, (1, 0), value=i))
        colors.append(one.attributes.cpu().float().clamp(0, 1))
    counts = [torch.tensor([len(one) for one in parts]) for parts in (vertices, faces)]
    pad = torch.nn.utils.rnn.pad_sequence
    ragged = {} if len(meshes) == 1 else {"vertex_counts": counts[0], "face_counts": counts[1]}
    mesh = Types.MESH(pad(vertices, batch_first=True), pad(faces, batch_first=True), **ragged)
    return mesh, colored_voxels(torch.cat(coords), torch.cat(colors), meshes[0].resolution)
