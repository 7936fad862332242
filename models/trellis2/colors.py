"""The PBR attributes of a decoded mesh at its vertices, and the mesh as a file."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ...kernels.grid_sample import sample_voxels
from ...scene.frames import turn_points
from ...scene.mesh_files import encode_mesh, used_vertices
from ...scene.sparse import SparseTensor
from .latents import TexturedMesh


def vertex_attributes(mesh: TexturedMesh) -> Tensor:
    """Base color, metallic, roughness, alpha [V, 6] at the vertices, clamped to [0, 1]; see `sample_voxels`."""
    batch = torch.zeros_like(mesh.coords[:, :1])
    voxels = SparseTensor(mesh.attributes, torch.cat([batch, mesh.coords], 1), 1)
    return sample_voxels(voxels, (mesh.vertices + 0.5) * mesh.resolution).clamp(0, 1)


def encode_textured_mesh(mesh: TexturedMesh, path: str | os.PathLike, frame: str = "y_up") -> bytes:
    """The bytes of a .glb or .ply file: Y up, colors at the vertices, one material of mean metallic and roughness.

    frame: of the mesh, "y_up" (Pixal3D: the camera of the picture looks at its +Z side, the front of glTF) or "z_up"
    (TRELLIS.2: its -Y side becomes the front).
    """
    values = vertex_attributes(mesh)
    _, used = used_vertices(mesh.faces, len(mesh.vertices))
    mean = values[used].mean(0).tolist() if len(used) else [0.0] * 6
    # Alpha is left out: the material is opaque, as in the released exporter, where alpha is stored and not used.
    return encode_mesh(
        turn_points(mesh.vertices, frame, "y_up"), mesh.faces, values[:, :3], path, metallic=mean[3], roughness=mean[4]
    )
