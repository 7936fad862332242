"""`rasterize`: one signature over the dense twin, the tiled rasteriser and gsplat."""
from typing import NamedTuple

import torch
from torch import Tensor

from ...scene.errors import InputError
from .dense import rasterize_dense
from .projection import project
from .tiled import rasterize_tiled


class Render(NamedTuple):
    """What the cameras see; V views of H x W pixels."""

    color: Tensor   # [..., V, H, W, C], premultiplied by alpha, plus background * (1 - alpha) where one was given
    alpha: Tensor   # [..., V, H, W] in [0, 1]
    depth: Tensor   # [..., V, H, W] alpha-weighted mean camera-space z in world units, 0 where alpha is 0


def rasterize(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor,
              Ks: Tensor, width: int, height: int, *, background=None, near: float = 0.01, far: float = 1e10,
              backend: str = "auto") -> Render:
    if backend == "auto":
        backend = "tiled"
    projected = project(means, quats, scales, opacities, viewmats, Ks, width, height, near, far)
    lead = projected.x.shape
    features = torch.cat([colors.unsqueeze(-3).expand(*lead, colors.shape[-1]), projected.depth[..., None]], -1)
    f = {"dense": rasterize_dense, "tiled": rasterize_tiled}[backend]
    blended, alpha = f(projected, opacities, features, width, height)
    color, depth = blended[..., :-1], blended[..., -1]
    depth = depth / torch.where(alpha > 0, alpha, 1.0)
    if background is not None:
        background = torch.as_tensor(background, dtype=color.dtype, device=color.device)
        if background.dim() > 1:
            background = background[..., None, None, :]
        color = color + (1.0 - alpha)[..., None] * background
    return Render(color, alpha, depth)
