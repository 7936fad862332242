"""Gaussians -> pictures of the views, with any rasterizer."""

from collections.abc import Callable

import torch

from ...kernels.splat import rasterize
from .config import SparseGenConfig
from .gaussians import Gaussians


def render_views(
    gaussians: Gaussians,
    world_to_camera: torch.Tensor,
    config: SparseGenConfig,
    *,
    size: int | None = None,
    background: float | torch.Tensor = 1.0,
    renderer: Callable | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures in the network's own range: what a forward pass "predicts" for a view.

    `world_to_camera` [B,M,4,4] OpenCV, `size` pixels a side (default ``config.input_size``), `background` a gray level
    or a color that broadcasts to [B,M,S,S,3]. `renderer` has the signature of `kernels.splat.rasterize` (the default):
    (means, quats, scales, opacities, colors, viewmats, Ks, width, height) -> object with ``color`` [B,M,S,S,3]
    (premultiplied) and ``alpha`` [B,M,S,S]. Differentiable.
    Returns colors [B,M,3,S,S] in [-1,1] (not clamped) and alpha [B,M,1,S,S].
    """
    size = size or config.input_size
    batch, views = world_to_camera.shape[:2]
    intrinsics = config.intrinsics(size).to(world_to_camera.device).expand(batch, views, 3, 3)
    out = (renderer or rasterize)(
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
        world_to_camera.float(),
        intrinsics,
        size,
        size,
    )
    alpha = out.alpha[..., None]
    color = out.color + background * (1 - alpha)
    return (color * 2 - 1).movedim(-1, -3), alpha.movedim(-1, -3)
