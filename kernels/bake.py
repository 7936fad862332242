"""From a surface to its texture: which point of it every texel shows, and what is to be seen there.

uv: glTF (v down the rows). Only texels inside charts are computed; a dense grid of voxels is never made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.gltf import Part
from ..scene.sparse import SparseTensor
from ..scene.srgb import encoded, linear
from .grid_sample import sample_voxels
from .mesh.clean import equal_rows
from .mesh.normals import smooth_normals
from .raster import rasterize
from .rows import at_once, by_rows, pick
from .surface_sampling import sample_texture
from .uv.dilate import nearest_written

CHUNK = 1 << 17
OUTSIDE = 1e-4  # how far uv may leave [0, 1] by rounding
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Texels:
    """The T texels that show a surface.

    index: [T] int64, row * size + column, ascending; face: [T] int64; weights: [T, 3] of the face's corners; size: of
    the square texture. mask: [size, size] bool.
    """

    index: Tensor
    face: Tensor
    weights: Tensor
    size: int

    def __len__(self) -> int:
        return len(self.index)

    @property
    def mask(self) -> Tensor:
        found = torch.zeros(self.size * self.size, dtype=torch.bool, device=self.index.device)
        found[self.index] = True
        return found.view(self.size, self.size)

    def nearest(self) -> Tensor:
        """[size, size] int64: which of the T texels is the nearest to each of the texture, itself where it is one."""
        number = self.index.new_zeros(self.size * self.size)
        number[self.index] = torch.arange(len(self), device=self.index.device)
        return number[nearest_written(self.mask)]

    def interpolate(self, values: Tensor, faces: Tensor) -> Tensor:
        """Values [V, C] of vertices at the texels, [T, C]."""
        out = values.new_empty(len(self), values.shape[1])

        def mix(rows: slice) -> None:
            a, b, c = pick(values, pick(faces, self.face[rows]).long()).unbind(1)
            x, y, z = self.weights[rows, :, None].to(values.dtype).unbind(1)
            out[rows] = a * x + b * y + c * z

        by_rows(len(self), mix, at_once(values))
        return out


def find_texels(
    uv: Tensor, faces: Tensor, size: int, *, backend: str = "auto", progress: Progress | None = None
) -> Texels:
    """The face at every texel center that lies in a chart; of several the first.

    uv: [V, 2] in [0, 1]; faces: [F, 3]; size: texels along a side. A face that holds no center gets the texel around
    its middle where that is free, so that the smallest charts have a color too. backend: of `rasterize`. Raises
    InputError for uv that leave the texture.
    """
    check_uv(uv)
    corners = uv.float()[faces.long()] * size
    found = rasterize(corners, (size, size), backend=backend, progress=progress)
    face, weights = found.face.flatten(), found.weights.view(-1, 3)
    seen = torch.zeros(len(faces), dtype=torch.bool, device=uv.device)
    seen[face[face >= 0]] = True
    lost = torch.nonzero(~seen).squeeze(1).flip(0)  # the first one is written last
    column, row = corners[lost].mean(1).floor().clamp(0, size - 1).long().unbind(1)
    at = row * size + column
    free = face[at] < 0
    face[at[free]], weights[at[free]] = lost[free], 1 / 3
    index = torch.nonzero(face >= 0).squeeze(1)
    return Texels(index, face[index], weights[index], size)


def check_uv(uv: Tensor) -> None:
    """Raise InputError for uv [V, 2] that are not finite or leave [0, 1]."""
    if uv.ndim != 2 or uv.shape[1] != 2:
        raise InputError(f"`uv` has shape {list(uv.shape)}; texture coordinates are [V, 2].")
    if not bool(torch.isfinite(uv).all()):
        raise InputError("The texture coordinates hold values that are not finite numbers; unwrap the mesh again.")
    low, high = float(uv.min()), float(uv.max())
    if low < -OUTSIDE or high > 1 + OUTSIDE:
        raise InputError(
            f"The texture coordinates reach from {low:.3g} to {high:.3g}; one texture holds 0 to 1: unwrap the mesh"
            " again, or bake its tiles one by one."
        )


def sample_attributes(
    voxels: SparseTensor, resolution: int, points: Tensor, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """Attributes [P, C] at points [P, 3] of the cube [-0.5, 0.5]^3, and how far [P] (voxels) those were taken from.

    Trilinear over the voxels that exist around a point (distance 0); where none does, those of the nearest voxel.
    voxels: attributes [N, C] at coords of one item. progress(done, total) counts points.
    """
    marked = voxels.replace(torch.cat([voxels.feats.float(), torch.ones_like(voxels.feats[:, :1])], 1))
    found = points.new_empty(len(points), voxels.feats.shape[1], dtype=torch.float32)
    distance = points.new_zeros(len(points), dtype=torch.float32)
    reached = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    _ = marked.sorted_keys  # once for all threads

    def read(rows: slice) -> None:
        here = sample_voxels(marked, (points[rows].float() + 0.5) * resolution)
        found[rows], reached[rows] = here[:, :-1], here[:, -1] >= 0.5

    by_rows(len(points), read, CHUNK, progress)
    lost = torch.nonzero(~reached).squeeze(1)
    if len(lost):
        from scipy.spatial import cKDTree

        tree = cKDTree(voxels.coords[:, 1:].cpu().numpy() + 0.5)
        gap, row = tree.query(
            ((points[lost].float() + 0.5) * resolution).cpu().numpy(), workers=torch.get_num_threads()
        )
        found[lost] = voxels.feats.float()[torch.from_numpy(row).to(found.device)]
        distance[lost] = torch.from_numpy(gap).float().to(found.device)
    return found, distance


def texture_image(texels: Texels, values: Tensor, nearest: Tensor | None = None) -> Tensor:
    """Values [T, C] as a picture [size, size, C], the gutter filled from the nearest texel.

    nearest: of `texels.nearest()`, where it is already known.
    """
    return pick(values, texels.nearest() if nearest is None else nearest)


def alpha_mode(alpha: Tensor, opaque: float = 0.95, share: float = 0.005) -> tuple[str, float]:
    """How a material is drawn, by its alpha [T] inside the charts: "OPAQUE" where next to nothing is below `opaque`,
    "MASK" with its cutoff where nearly all is one or the other, else "BLEND". Returns the mode and the cutoff."""
    if not len(alpha) or float((alpha < opaque).float().mean()) <= share:
        return "OPAQUE", 0.5
    between = ((alpha > 0.1) & (alpha < 0.9)).float().mean()
    clear = (alpha <= 0.1).float().mean()
    return ("MASK", 0.5) if between <= 0.5 * clear else ("BLEND", 0.5)


def vertex_normals(vertices: Tensor, faces: Tensor, facing: Tensor | None = None) -> Tensor:
    """Smooth normals [V, 3] float32: those of the faces around a place, weighted by their angles there.

    Vertices at the same place share one (a seam stays smooth). facing: [V, 3] directions that decide which side of a
    face is its outside, for surfaces wound at random; zero where nothing is known. Where nothing gives a direction:
    (0, 1, 0).
    """
    place = vertices.detach().cpu().double().numpy()
    lowest = equal_rows(place)
    sides = None
    if facing is not None:
        sides = torch.zeros(len(place), 3).index_add_(0, torch.from_numpy(lowest), facing.float().cpu()).numpy()
    smooth = smooth_normals(place, lowest.take(faces.detach().cpu().long().numpy()), sides)
    return torch.from_numpy(smooth.take(lowest, axis=0).astype(np.float32)).to(vertices.device)


def seen_from(hits: Texels, normals: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Directions [V, 3] in which the vertices of another surface look: the sum of the normals [T, 3] of the texels that
    show its faces. Zero where there are none."""
    out = torch.zeros(len(vertices), 3, device=normals.device)
    for start in range(0, len(hits), CHUNK):
        rows = slice(start, start + CHUNK)
        corners = pick(faces, hits.face[rows]).long()
        for i in range(3):
            out.index_add_(0, corners[:, i], normals[rows].float())
    return out


def surface_attributes(part: Part, face: Tensor, weights: Tensor) -> Tensor:
    """Base color (sRGB), metallic, roughness and alpha [T, 6] of a part's own material at points of its surface.

    face: [T]; weights: [T, 3] of its corners. Textures, vertex colors and factors are multiplied, colors in linear
    light, as in glTF; uv outside of [0, 1] repeat.
    """
    out = weights.new_ones(len(face), 6)
    material = part.material
    factor = weights.new_tensor(material.base_color_factor)
    plain = weights.new_tensor([material.metallic_factor, material.roughness_factor])
    for rows in torch.arange(len(face), device=face.device).split(CHUNK):
        corner, share = part.faces[face[rows]].long(), weights[rows, :, None]
        color = factor.expand(len(rows), 4).clone()
        if part.colors is not None:
            tint = (part.colors.float()[corner] * share).sum(1)
            color[:, : tint.shape[1]] *= tint
        if part.uv is not None:
            uv = (part.uv.float()[corner] * share).sum(1)
            uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)
            if material.base_color is not None:
                shown = sample_texture(_plain(material.base_color), uv)
                shown[:, :3] = linear(shown[:, :3])
                color[:, : shown.shape[1]] *= shown
            if material.metallic_roughness is not None:
                out[rows, 3:5] = sample_texture(_plain(material.metallic_roughness), uv)
        out[rows, :3], out[rows, 5] = encoded(color[:, :3].clamp(0, 1)), color[:, 3]
    out[:, 3:5] *= plain
    return out.clamp_(0, 1)


def _plain(texture: Tensor) -> Tensor:
    return texture.float() / 255 if texture.dtype == torch.uint8 else texture.float()
