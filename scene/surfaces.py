"""A triangle mesh with its material as tensors: what textures and voxels are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError

PBR_CHANNELS = 6  # base color (3), metallic, roughness, alpha
CUBE_SIDE = 0.99999  # the longest side of a mesh in the cube [-0.5, 0.5]^3, which keeps it inside in float32


@dataclass(frozen=True)
class Surface:
    """A mesh, y up (the frame of glTF), and how it looks.

    vertices: [V, 3] float32; faces: [F, 3] integers. uv: [V, 2], or [F, 3, 2] per corner, (0, 0) the lower left corner
    of the textures; needed with textures. base_color: [H, W, 3] or with alpha [H, W, 4], in [0, 1], first row on top.
    metallic_roughness: [H, W, 2] in that order. vertex_colors: [V, 3] or [V, 4] in [0, 1]. Colors, textures and the
    factors are multiplied, as in glTF; what is absent counts as 1. Raises InputError for shapes that do not fit.
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor | None = None
    base_color: Tensor | None = None
    metallic_roughness: Tensor | None = None
    vertex_colors: Tensor | None = None
    base_color_factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic_factor: float = 0.0
    roughness_factor: float = 1.0

    def __post_init__(self) -> None:
        v, f = len(self.vertices), len(self.faces)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or v == 0:
            raise InputError(f"`vertices` has shape {list(self.vertices.shape)}; a mesh needs [V, 3], V at least 1.")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or f == 0 or self.faces.is_floating_point():
            raise InputError(
                f"`faces` is {self.faces.dtype} {list(self.faces.shape)}; a mesh needs integers [F, 3], F at least 1."
            )
        low, high = int(self.faces.min()), int(self.faces.max())
        if low < 0 or high >= v:
            raise InputError(f"`faces` names vertices {low}..{high}; the mesh has 0..{v - 1}.")
        if not bool(torch.isfinite(self.vertices).all()):
            raise InputError("`vertices` holds values that are not finite; the mesh is damaged.")
        if self.uv is not None and self.uv.shape not in ((v, 2), (f, 3, 2)):
            raise InputError(f"`uv` has shape {list(self.uv.shape)}; [{v}, 2] or [{f}, 3, 2] would fit this mesh.")
        for name, texture, channels in (
            ("base_color", self.base_color, (3, 4)),
            ("metallic_roughness", self.metallic_roughness, (2,)),
        ):
            if texture is None:
                continue
            if texture.ndim != 3 or texture.shape[2] not in channels or not texture.numel():
                wanted = " or ".join(str(c) for c in channels)
                raise InputError(f"`{name}` has shape {list(texture.shape)}; it must be [H, W, {wanted}].")
            if self.uv is None:
                raise InputError(f"`{name}` is a texture, but the mesh has no `uv`; unwrap it, or give vertex colors.")
        if self.vertex_colors is not None and self.vertex_colors.shape not in ((v, 3), (v, 4)):
            raise InputError(f"`vertex_colors` has shape {list(self.vertex_colors.shape)}; [{v}, 3] or [{v}, 4] fits.")

    @property
    def corner_uv(self) -> Tensor | None:
        """[F, 3, 2], or None."""
        return self.uv if self.uv is None or self.uv.ndim == 3 else self.uv[self.faces.long()]


@dataclass(frozen=True)
class CubeFrame:
    """The map from a mesh's own frame, y up, into the cube [-0.5, 0.5]^3, z up: (p - center) * scale, then (x, -z, y).

    Source: TRELLIS.2, texturing pipeline.
    """

    center: tuple[float, float, float]
    scale: float

    @classmethod
    def of(cls, vertices: Tensor) -> CubeFrame:
        """The frame that centers the bounding box and gives its longest side `CUBE_SIDE`; raises InputError for a
        mesh without extent."""
        low, high = vertices.double().amin(0), vertices.double().amax(0)
        extent = float((high - low).max())
        if not extent > 0:
            raise InputError("All vertices of the mesh lie in one point; a mesh with some extent would work.")
        return cls(tuple(((low + high) / 2).tolist()), CUBE_SIDE / extent)

    def apply(self, points: Tensor) -> Tensor:
        """[P, 3] into the cube, float32."""
        x, y, z = ((points.double() - points.new_tensor(self.center, dtype=torch.float64)) * self.scale).unbind(-1)
        return torch.stack([x, -z, y], -1).float()


@dataclass(frozen=True)
class InPlace:
    """The frame of a mesh that lies in the cube [-0.5, 0.5]^3 of its latents already, as Pixal3D's view frame does."""

    def apply(self, points: Tensor) -> Tensor:
        """[P, 3], float32; raises InputError for points outside of the cube."""
        if float(points.abs().max()) > 0.5:
            raise InputError(f"The mesh reaches {float(points.abs().max()):.3g}; the cube ends at 0.5: scale it down.")
        return points.float()
