"""Meshes with colored vertices as GLB and PLY files.

World frame of the files: Y up, the front toward +Z (glTF). Colors are given as they are seen (sRGB); GLB keeps them
linear, as glTF asks, PLY as given.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, MissingDependency

SUFFIXES = (".glb", ".ply")


def _trimesh():
    try:
        import trimesh
    except ImportError:
        raise MissingDependency("Meshes are written with trimesh; run `pip install trimesh`.") from None
    return trimesh


def used_vertices(faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The faces [F, 3] renumbered to the vertices they use, and the indices [K] of these among all `count`."""
    used = torch.zeros(count, dtype=torch.bool, device=faces.device)
    used[faces.reshape(-1).long()] = True
    number = used.long().cumsum(0) - 1
    return number[faces.long()], used.nonzero().squeeze(1)


def encode_mesh(
    vertices: Tensor,
    faces: Tensor,
    colors: Tensor,
    path: str | os.PathLike,
    *,
    metallic: float = 0.0,
    roughness: float = 0.5,
    double_sided: bool = True,
) -> bytes:
    """The bytes of a .glb or .ply file, chosen by the end of `path`; vertices no face uses are left out.

    vertices: [V, 3], Y up; faces: [F, 3]; colors: [V, 3 or 4] sRGB in [0, 1], clamped. metallic, roughness: of the one
    material of a GLB. Raises InputError for another suffix, an empty mesh and numbers that are not finite.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} does not end in {' or '.join(SUFFIXES)}; meshes are written as one of these.")
    if not len(faces):
        raise InputError("The mesh has no face; there is nothing to write: another seed or picture may help.")
    if not bool(torch.isfinite(vertices).all()) or not bool(torch.isfinite(colors).all()):
        raise InputError("The mesh has vertices or colors that are not finite numbers.")
    faces, used = used_vertices(faces, len(vertices))
    place = vertices[used].detach().float().cpu().numpy()
    rgba = torch.ones(len(used), 4)
    rgba[:, : colors.shape[1]] = colors[used].detach().float().cpu().clamp(0, 1)
    if suffix == ".glb":
        rgba[:, :3] = linear(rgba[:, :3])
    mesh = _trimesh().Trimesh(place, faces.cpu().numpy(), process=False)
    mesh.visual = _trimesh().visual.ColorVisuals(mesh, vertex_colors=(rgba * 255).round().byte().numpy())
    if suffix == ".ply":
        return mesh.export(file_type="ply")

    def one_material(tree: dict) -> None:
        tree["materials"] = [
            {
                "pbrMetallicRoughness": {
                    "metallicFactor": float(np.clip(metallic, 0, 1)),
                    "roughnessFactor": float(np.clip(roughness, 0, 1)),
                },
                "doubleSided": double_sided,
            }
        ]
        for part in tree["meshes"]:
            for primitive in part["primitives"]:
                primitive["material"] = 0

    return _trimesh().exchange.gltf.export_glb(mesh, include_normals=True, tree_postprocessor=one_material)


def linear(srgb: Tensor) -> Tensor:
    """sRGB values in [0, 1] without their transfer curve (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
