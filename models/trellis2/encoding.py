"""From an existing mesh to latents: its dual grid, the material at every voxel, and the encoders of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.mesh_to_grid import mesh_to_grid
from ...kernels.surface_sampling import sample_texture, surface_points
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ...scene.surfaces import CubeFrame, InPlace, Surface
from . import memory as planning
from .cascade import Cascade
from .sc_vae import Encoded


@dataclass(frozen=True)
class MeshVoxels:
    """A mesh as the encoders see it.

    coords: [N, 3] int32 voxels of a grid of `resolution`, lexicographic; dual: [N, 3] vertex of each in voxel units
    [0, 1]; intersected: [N, 3] bool, crossed edges; attributes: [N, 6] float32 base color, metallic, roughness, alpha,
    in [0, 1]; frame: how the mesh was put into the cube.
    """

    coords: Tensor
    dual: Tensor
    intersected: Tensor
    attributes: Tensor
    resolution: int
    frame: CubeFrame | InPlace

    @property
    def rows(self) -> Tensor:
        """[N, 4] int32 rows (0, x, y, z)."""
        return F.pad(self.coords, (1, 0))


def voxelize(
    surface: Surface, resolution: int, *, boundary_weight: float = 0.2, frame: CubeFrame | InPlace | None = None
) -> MeshVoxels:
    """The dual grid of a mesh at `resolution` and its material at every dual vertex.

    The material is that of the surface point nearest to the dual vertex, among the triangles in the voxel; textures are
    read from the pyramid level whose texels are as large there as the voxel. frame: how the mesh is put into the cube,
    by default as large as fits. Raises InputError for unusable meshes.
    Source: TRELLIS.2, texturing pipeline and voxelization of PBR materials.
    """
    frame = CubeFrame.of(surface.vertices) if frame is None else frame
    vertices = frame.apply(surface.vertices)
    grid = mesh_to_grid(
        vertices, surface.faces, resolution, face_weight=1.0, boundary_weight=boundary_weight, regularization=1e-2
    )
    if not len(grid.coords):
        raise InputError(f"The mesh crosses no edge of a grid of {resolution} voxels; choose a higher resolution.")
    points = (grid.coords + grid.dual) / resolution - 0.5
    face, weights = surface_points(vertices, surface.faces, grid.coords, points, resolution)
    attributes = material_at(surface, face, weights, vertices, 1 / resolution)
    return MeshVoxels(grid.coords, grid.dual, grid.intersected, attributes, resolution, frame)


def material_at(
    surface: Surface, face: Tensor, weights: Tensor, vertices: Tensor | None = None, size: float = 0.0
) -> Tensor:
    """Base color, metallic, roughness, alpha [P, 6] at points given by face [P] and barycentric weights [P, 3].

    size: width of what one point stands for, in the unit of `vertices` [V, 3] (default the surface's own); 0 reads
    single texels.
    """
    factors = (*surface.base_color_factor[:3], surface.metallic_factor, surface.roughness_factor)
    values = weights.new_tensor((*factors, surface.base_color_factor[3])).repeat(len(face), 1)
    if surface.vertex_colors is not None:
        colors = surface.vertex_colors.float()[surface.faces.long()[face]]
        _multiply_color(values, (weights[:, :, None] * colors).sum(1))
    if surface.base_color is None and surface.metallic_roughness is None:
        return values
    uv = (weights[:, :, None] * surface.corner_uv[face]).sum(1)
    stretch = _stretch(surface, surface.vertices if vertices is None else vertices)[face] * size

    def read(texture: Tensor) -> Tensor:
        texels = (texture.shape[0] * texture.shape[1]) ** 0.5
        return sample_texture(texture.float(), uv, stretch * texels if size else None)

    if surface.base_color is not None:
        _multiply_color(values, read(surface.base_color))
    if surface.metallic_roughness is not None:
        values[:, 3:5] *= read(surface.metallic_roughness)
    return values


def _multiply_color(values: Tensor, color: Tensor) -> None:
    values[:, :3] *= color[:, :3]
    if color.shape[1] == 4:
        values[:, 5] *= color[:, 3]


def _stretch(surface: Surface, vertices: Tensor) -> Tensor:
    """[F] how much longer a line is in UV than on the surface: the root of the ratio of the areas."""
    a, b, c = vertices[surface.faces.long()].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    first, second, third = surface.corner_uv.unbind(1)
    u, v = second - first, third - first
    flat = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).abs()
    return torch.where(area > 0, (flat / area.clamp(min=1e-20)).sqrt(), 0.0)


@torch.no_grad()
def encode_shape(cascade: Cascade, voxels: MeshVoxels, *, memory: int | str | None = None) -> Encoded:
    """Shape latent of a mesh: `mean` is denormalized, as what `sample_latent` returns.

    Its `subdivisions` lead a decoder back to the voxels. memory: see `Runner`. Raises InputError where the family has
    no `shape_slat_encoder`.
    """
    _plan(cascade, "shape_slat_encoder", voxels, memory)
    with cascade.on_device("shape_slat_encoder") as encoder:
        device = cascade.device
        return encoder.encode(voxels.rows.to(device), voxels.dual.to(device), voxels.intersected.to(device))


@torch.no_grad()
def encode_texture(cascade: Cascade, voxels: MeshVoxels, *, memory: int | str | None = None) -> Encoded:
    """Texture latent of a mesh's material, on the voxels of its shape latent; see `encode_shape`."""
    _plan(cascade, "tex_slat_encoder", voxels, memory)
    with cascade.on_device("tex_slat_encoder") as encoder:
        device = cascade.device
        return encoder(SparseTensor(voxels.attributes.to(device) * 2 - 1, voxels.rows.to(device)))


def _plan(cascade: Cascade, role: str, voxels: MeshVoxels, memory: int | str | None) -> None:
    encoder, free = cascade.get(role), planning.available(memory, cascade.device)
    factor = encoder.config.factor
    if voxels.resolution % factor:
        raise InputError(f"The voxel grid of {voxels.resolution} is no multiple of the encoder's factor {factor}.")
    if free is not None:
        needed = planning.encoder_memory(encoder.config, len(voxels.coords), device=cascade.device)
        needed += planning.weight_bytes(encoder, cascade.device)
        name = "shape encoder" if role.startswith("shape") else "texture encoder"
        advice = f"choose a lower resolution than {voxels.resolution}"
        planning.require(f"{name} of {len(voxels.coords)} voxels", needed, free, advice)
