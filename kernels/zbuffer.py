"""Which points a camera sees: a depth buffer of points, and how far behind it every point lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError

MIN_DEPTH = 1e-4


def depth_buffer(pixels: Tensor, depth: Tensor, height: int, width: int, kernel: int = 1) -> Tensor:
    """The nearest depth at every pixel [height, width], infinite where no point falls.

    pixels: [N, 2] int64 (x, y) inside the picture; depth: [N]. kernel: odd; every point covers kernel x kernel pixels
    (points are sparse, the surface between them is not).
    """
    flat = depth.new_full((height * width,), float("inf"))
    flat = flat.scatter_reduce(0, pixels[:, 1] * width + pixels[:, 0], depth, reduce="amin", include_self=True)
    buffer = flat.view(height, width)
    if kernel > 1:
        buffer = -F.max_pool2d(-buffer[None, None], kernel, stride=1, padding=kernel // 2)[0, 0]
    return buffer


def soft_visibility(
    xy: Tensor,
    depth: Tensor,
    height: int,
    width: int,
    *,
    tolerance: float | Tensor,
    kernel: int = 1,
    falloff: float = 3.0,
    surface: Tensor | None = None,
    selected: Tensor | None = None,
) -> Tensor:
    """Visibility [N] in 0..1 of points: exp(-falloff (distance behind the surface / tolerance)^2).

    xy: [N, 2] pixel positions (x right, y down, pixel (0, 0) covers [0, 1)); depth: [N] along the viewing axis, larger
    is farther. Points behind the camera or outside the picture have 0. tolerance: depth at which visibility has fallen
    to exp(-falloff), a number or [N]. surface: [height, width] depth of what is known to be there; without it the depth
    buffer of the points themselves, each covering `kernel` pixels. Pixels where `surface` is not finite hide nothing.
    selected: [height, width], multiplies the visibility (the object's own pixels). dtype float32.
    Source: RelaxFlow, geometry visibility mask.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"`kernel` is {kernel}; an odd number of pixels would work.")
    inside = (depth > MIN_DEPTH) & (xy >= 0).all(1) & (xy[:, 0] <= width - 1) & (xy[:, 1] <= height - 1)
    visible = depth.new_zeros(depth.shape[0])
    rows = torch.nonzero(inside).squeeze(1)
    if rows.numel() == 0:
        return visible
    pixels = xy[rows].floor().long()
    near = depth_buffer(pixels, depth[rows], height, width, kernel) if surface is None else surface.to(depth)
    front = near[pixels[:, 1], pixels[:, 0]]
    behind = torch.where(front.isfinite(), depth[rows] - front, depth.new_zeros(())).clamp(min=0)
    width_of = tolerance[rows] if isinstance(tolerance, Tensor) else tolerance
    weight = torch.exp(-falloff * (behind / width_of) ** 2)
    if selected is not None:
        weight = weight * selected.to(weight)[pixels[:, 1], pixels[:, 0]]
    visible[rows] = weight
    return visible
