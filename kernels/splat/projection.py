"""Perspective projection of 3D Gaussians to 2D Gaussians, as gsplat 1.5.3 defines it (EWA splatting).

Everything is kept as one tensor per scalar component ([..., V, N] each), because on a CPU many short element-wise
operations over contiguous memory are far quicker than as many 3x3 matrix products.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# The constants of the renderer; the same in the dense twin, in the tiled rasteriser and in gsplat's CUDA kernels.
EPS2D = 0.3  # pixels^2 added to the diagonal of every 2D covariance (the low-pass filter of EWA)
ALPHA_MIN = 1.0 / 255.0  # a Gaussian fainter than this at a pixel is not blended there
ALPHA_MAX = 0.999  # no Gaussian is more opaque than this
T_STOP = 1e-4  # a pixel is finished once the light that would get through is not above this


class Projected(NamedTuple):
    """The Gaussians of B scenes as V cameras see them; every tensor is [..., V, N]."""

    x: Tensor  # center, pixels (column)
    y: Tensor  # center, pixels (row)
    xx: Tensor  # 2D covariance, pixels^2, with EPS2D on the diagonal
    xy: Tensor
    yy: Tensor
    det: Tensor  # xx*yy - xy^2
    depth: Tensor  # camera-space z, world units
    visible: Tensor  # bool: not culled; where False every other value is finite and meaningless


def rotation_entries(quats: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """Rotation matrix entries of quaternions wxyz [..., 4], normalized first; nine tensors [...], row by row."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near: float,
    far: float,
) -> Projected:
    """Project Gaussians to every camera of their scene.

    means [..., N, 3] world; quats [..., N, 4] wxyz; scales [..., N, 3] linear world units; opacities [..., N];
    viewmats [..., V, 4, 4] world -> camera (x right, y down, z forward); Ks [..., V, 3, 3] pixels, no skew.
    Differentiable; culling (depth outside [near, far], opacity under 1/255, degenerate covariance, off the image) is
    a mask. Source: gsplat 1.5.3 fully fused projection, classic (no antialiasing compensation).
    """
    fx, fy = Ks[..., 0, 0, None], Ks[..., 1, 1, None]  # [..., V, 1]
    cx, cy = Ks[..., 0, 2, None], Ks[..., 1, 2, None]
    rot = viewmats[..., :3, :3]
    w = [[rot[..., i, j, None] for j in range(3)] for i in range(3)]  # [..., V, 1]
    shift = [viewmats[..., i, 3, None] for i in range(3)]
    mean = means.mT.contiguous().unsqueeze(-3).unbind(-2)  # [..., 1, N]
    px, py, pz = (w[i][0] * mean[0] + w[i][1] * mean[1] + w[i][2] * mean[2] + shift[i] for i in range(3))  # [..., V, N]
    in_front = (pz >= near) & (pz <= far)
    z = torch.where(in_front, pz, 1.0)  # keeps what is culled finite
    inv_z = 1.0 / z
    tan_x, tan_y = px * inv_z, py * inv_z

    # The Jacobian is taken at a point no farther out than 1.3 image halves, or it grows without bound.
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    clamped_x = torch.minimum(torch.maximum(tan_x, -(cx / fx + margin_x)), (width - cx) / fx + margin_x)
    clamped_y = torch.minimum(torch.maximum(tan_y, -(cy / fy + margin_y)), (height - cy) / fy + margin_y)
    jx, jy = fx * inv_z, fy * inv_z
    jxz, jyz = -jx * clamped_x, -jy * clamped_y

    s = scales.unbind(-1)
    axes = [[entry * s[k] for k, entry in enumerate(row)] for row in rotation_entries(quats)]  # R S, [..., N]
    axes = [[entry.unsqueeze(-2) for entry in row] for row in axes]  # [..., 1, N]
    row_x = [jx * w[0][j] + jxz * w[2][j] for j in range(3)]  # J W, [..., V, N]
    row_y = [jy * w[1][j] + jyz * w[2][j] for j in range(3)]
    ax = [row_x[0] * axes[0][k] + row_x[1] * axes[1][k] + row_x[2] * axes[2][k] for k in range(3)]
    ay = [row_y[0] * axes[0][k] + row_y[1] * axes[1][k] + row_y[2] * axes[2][k] for k in range(3)]
    xx = ax[0] * ax[0] + ax[1] * ax[1] + ax[2] * ax[2] + EPS2D
    xy = ax[0] * ay[0] + ax[1] * ay[1] + ax[2] * ay[2]
    yy = ay[0] * ay[0] + ay[1] * ay[1] + ay[2] * ay[2] + EPS2D
    det = xx * yy - xy * xy
    x, y = fx * tan_x + cx, fy * tan_y + cy

    with torch.no_grad():
        reach = opacity_reach(opacities).unsqueeze(-2)  # in standard deviations, [..., 1, N]
        rx, ry = torch.ceil(reach * xx.sqrt()), torch.ceil(reach * yy.sqrt())
        visible = (
            in_front
            & (det > 0)
            & (det < torch.inf)
            & (opacities.unsqueeze(-2) >= ALPHA_MIN)
            & (x + rx > 0)
            & (x - rx < width)
            & (y + ry > 0)
            & (y - ry < height)
        )
    det = torch.where(visible, det, 1.0)
    return Projected(x, y, xx, xy, yy, det, pz, visible)


def opacity_reach(opacities: Tensor) -> Tensor:
    """Distance in standard deviations beyond which alpha < 1/255, at most 3.33; shape of `opacities`."""
    return (2.0 * torch.log(255.0 * opacities.clamp(min=ALPHA_MIN))).clamp(min=0).sqrt().clamp(max=3.33)
