"""Lifting: which patch of which picture every voxel of a scene projects to.

Points are in the frame of the extrinsics (for scenes the joint frame, in chunk sizes); extrinsics map it to the camera
in OpenCV axes (x right, y down, z forward), up to scale; intrinsics have the picture's width and height as units, so
that u and v lie in [0, 1]. There is no occlusion test. Source: GenRecon, specification 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene.errors import InputError

EPS = 1e-6


def voxel_centers(resolution: int, coords: Tensor | None = None, refinement: int = 1) -> Tensor:
    """Centers [V, 3] float32 of voxels in the cube [-0.5, 0.5]^3.

    coords: [V, 3] integers on the grid of resolution * refinement, default the whole grid in x-major order.
    """
    size = resolution * refinement
    if coords is None:
        axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
        return torch.cartesian_prod(axis, axis, axis)
    return (coords.float() + 0.5) / size - 0.5


def refine_coords(coords: Tensor, refinement: int) -> tuple[Tensor, Tensor]:
    """The children [V * r^3, 4] of voxels [V, 4] (item, x, y, z), and the row of each one's parent.

    Children of a voxel follow one another, x-major.
    """
    axis = torch.arange(refinement, device=coords.device)
    steps = torch.cartesian_prod(axis, axis, axis).reshape(-1, 3).to(coords)
    parent = torch.arange(len(coords), device=coords.device).repeat_interleave(len(steps))
    children = coords[parent].clone()
    children[:, 1:] = children[:, 1:] * refinement + steps.repeat(len(coords), 1)
    return children, parent


def in_camera(points: Tensor, extrinsics: Tensor) -> Tensor:
    """[N, V, 3]: points [V, 3] in the frame of every camera, extrinsics [N, 4, 4]."""
    return points @ extrinsics[:, :3, :3].mT + extrinsics[:, None, :3, 3]


def project_to_patches(
    points: Tensor, extrinsics: Tensor, intrinsics: Tensor, patches: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Patch [N, V] int64 (row * patches + column) of every point in every picture, and whether it lies in it.

    points: [V, 3]; extrinsics: [N, 4, 4]; intrinsics: [N, 3, 3]; patches: per side of a picture. Where the point is
    outside, the nearest patch is given. dtype: float32; bfloat16 is what the released pipeline computes in, which far
    from chunk 0 takes the wrong patch for every second sample. Raises InputError for shapes that do not fit.
    """
    if points.ndim != 2 or extrinsics.shape[1:] != (4, 4) or intrinsics.shape != (len(extrinsics), 3, 3):
        raise InputError(
            f"Points {list(points.shape)}, extrinsics {list(extrinsics.shape)}, intrinsics {list(intrinsics.shape)}: "
            "[V, 3], [N, 4, 4] and [N, 3, 3] are needed."
        )
    points, extrinsics, intrinsics = points.to(dtype), extrinsics.to(dtype), intrinsics.to(dtype)
    seen = in_camera(points, extrinsics)
    depth = seen[..., 2:]
    front = depth > EPS
    uv = (seen / torch.where(front, depth, torch.ones_like(depth))) @ intrinsics.mT[..., :2]
    u, v = uv.unbind(-1)
    valid = front[..., 0] & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    column = torch.nan_to_num(u * patches).floor().clamp(0, patches - 1).long()
    row = torch.nan_to_num(v * patches).floor().clamp(0, patches - 1).long()
    return row * patches + column, valid


def camera_features(points: Tensor, extrinsics: Tensor) -> Tensor:
    """[N, V, 5]: elevation, sine and cosine of the azimuth and distance of every camera from the origin of the points'
    frame, and the distance of every point from it. Optional input of the aggregators, unused by the released ones."""
    center = -(extrinsics[:, :3, :3].mT @ extrinsics[:, :3, 3:])[..., 0]
    x, y, z = center.unbind(-1)
    flat = (x * x + z * z).sqrt()
    azimuth = torch.atan2(x, z)
    fixed = torch.stack([torch.atan2(y, flat), azimuth.sin(), azimuth.cos(), center.norm(dim=-1).clamp(min=EPS)], -1)
    distance = in_camera(points, extrinsics).norm(dim=-1)
    return torch.cat([fixed[:, None].expand(-1, len(points), -1), distance[..., None]], -1)


def lift(tokens: Tensor, patch: Tensor, valid: Tensor, prefix: int = 5) -> Tensor:
    """The features [N, V, D] of the patches, zero where invalid: what the aggregation is defined on.

    tokens: [N, prefix + P, D]; patch, valid: [N, V]. `kernels.view_aggregation` does without this tensor.
    """
    index = (patch + prefix)[..., None].expand(-1, -1, tokens.shape[-1])
    return tokens.gather(1, index) * valid[..., None].to(tokens.dtype)
