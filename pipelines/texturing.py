"""TRELLIS.2: a texture for an existing mesh from one picture.

mesh -> dual grid -> shape latent -> texture latent -> PBR voxels -> attributes at the mesh's own vertices and texels.
The mesh comes back as it was given, its UVs too: nothing is remeshed or unwrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.bake import sample_attributes
from ..models.trellis2.cascade import Cascade
from ..models.trellis2.encoding import encode_shape, voxelize
from ..models.trellis2.image_condition import Pictures, token_condition
from ..models.trellis2.latents import decode_planned
from ..models.trellis2.runner import Progress, Runner
from ..models.trellis2.sc_vae import texture_head
from ..scene.errors import InputError
from ..scene.gltf import Part
from ..scene.sparse import SparseTensor
from ..scene.surfaces import CubeFrame, Surface
from .mesh_bake import Voxels, bake_part, unwrap_part
from .trellis2 import prepare_picture

PartProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PaintedMesh:
    """The given mesh and its new material.

    surface: the very object that was given. voxels: base color, metallic, roughness, alpha [N, 6], nominally in [0, 1]
    but not clamped, around the surface in a grid of `resolution`; frame: from the mesh's frame into that grid's cube.
    vertex_attributes: [V, 6]. texel_attributes: [T, 6] where texel positions were given, else None.
    """

    surface: Surface
    voxels: SparseTensor
    resolution: int
    frame: CubeFrame
    vertex_attributes: Tensor
    texel_attributes: Tensor | None = None

    def attributes_at(self, points: Tensor) -> Tensor:
        """[P, 6] at points [P, 3] in the mesh's own frame; see `voxel_attributes`."""
        return voxel_attributes(self.voxels, self.resolution, self.frame.apply(points))


def voxel_attributes(voxels: SparseTensor, resolution: int, points: Tensor) -> Tensor:
    """Trilinear attributes [P, C] over the voxels that exist around points [P, 3] of the cube [-0.5, 0.5]^3; those of
    the nearest voxel where none does, so that no texel stays black."""
    return sample_attributes(voxels, resolution, points.to(voxels.device))[0]


def texture_mesh(
    cascade: Cascade,
    surface: Surface,
    image: np.ndarray,
    *,
    texels: Tensor | None = None,
    resolution: int | None = None,
    seed: int = 42,
    preprocess: bool = True,
    samplers: Mapping[str, Mapping[str, Any]] | None = None,
    batched: bool = False,
    progress: Progress | None = None,
    memory: int | str | None = None,
) -> PaintedMesh:
    """A material for `surface` that looks like the picture.

    surface: y up, any size and place. image: uint8 [H, W, 4] with the object's alpha, or prepared [S, S, 3] with
    preprocess=False. texels: [T, 3] positions on the mesh, in its frame, where a texture's texels lie. resolution: of
    the voxels, the family's low one or twice that (default). samplers, batched, progress, memory: see `Runner`.
    Vertices, faces and UVs of the result are those of the input, unchanged. Raises InputError for whatever does not
    fit. Source: TRELLIS.2, texturing pipeline.
    """
    config = cascade.config
    low, high = config.lr_resolution, 2 * config.lr_resolution
    resolution = high if resolution is None else resolution
    if resolution not in (low, high):
        raise InputError(f"`resolution` is {resolution}; this family textures at {low} or {high}.")
    if texels is not None and (texels.ndim != 2 or texels.shape[1] != 3):
        raise InputError(f"`texels` has shape {list(texels.shape)}; positions are [T, 3].")
    run = Runner(cascade, seed, samplers, batched, progress, memory)
    size, image_size = (
        ("512", config.token_image_sizes[0]) if resolution == low else ("1024", config.token_image_sizes[1])
    )
    picture = prepare_picture(image) if preprocess else image
    mesh = voxelize(surface, resolution)
    encoded = encode_shape(cascade, mesh, memory=memory)
    run.check_images(cascade.encoder(), image_size)
    views = Pictures(cascade.encoder(), picture, device=cascade.device, lend=cascade.on_device)
    latent = run.texture(size, encoded.mean, token_condition(views, image_size))
    decoded = decode_planned(cascade, "tex_slat_decoder", latent, encoded.subdivisions, memory).voxels
    voxels = decoded.replace(texture_head(decoded.feats))

    def read(points: Tensor) -> Tensor:
        return voxel_attributes(voxels, resolution, mesh.frame.apply(points))

    return PaintedMesh(
        surface, voxels, resolution, mesh.frame, read(surface.vertices), None if texels is None else read(texels)
    )


def textured_part(
    painted: PaintedMesh, part: Part, size: int = 2048, padding: float = 4, *, progress: PartProgress | None = None
) -> tuple[Part, str]:
    """The given mesh with the new material as textures, and a line about them.

    part: the mesh that was painted; one with texture coordinates keeps them, vertices and faces bit by bit, one without
    is unwrapped, which doubles vertices along the borders of charts. size: texels a side; padding: between charts.
    progress(done, total): thousandths. Raises InputError as `unwrap_part` and `bake_part`.
    """
    tell, text = progress or (lambda done, total: None), ""
    if part.uv is None:
        part, text = unwrap_part(part, size, padding, progress=lambda done, total: tell(400 * done // total, 1000))
    side, coords = painted.resolution, painted.voxels.coords[:, 1:].cpu()
    upright = torch.stack([coords[:, 0], coords[:, 2], side - 1 - coords[:, 1]], 1)
    x, y, z = painted.frame.apply(part.vertices).unbind(1)
    moved = replace(part, vertices=torch.stack([x, z, -y], 1))
    colors = painted.voxels.feats.detach().float().cpu()
    baked = bake_part(
        moved, Voxels(upright, colors, side), size, normal_map=False,
        progress=lambda done, total: tell(400 + 600 * done // total, 1000),
    )  # fmt: skip
    text = "; ".join(filter(None, [text, f"{len(baked.texels):,} texels, {baked.part.material.alpha_mode}"]))
    return replace(baked.part, vertices=part.vertices), text
