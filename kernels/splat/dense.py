"""The torch twin of the splat rasteriser: every Gaussian at every pixel, with nothing clever. It defines the result."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .projection import ALPHA_MAX, ALPHA_MIN, T_STOP, Projected

_CHUNK_PAIRS = 1 << 18  # pixel-Gaussian pairs worked on at once; bounds the memory, with and without gradients


def rasterize_dense(
    projected: Projected, opacities: Tensor, features: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Blend projected Gaussians front to back at every pixel center.

    projected: [..., V, N]; opacities [..., N]; features [..., V, N, C] (colors and whatever else is blended like a
    color). Returns blended features [..., V, H, W, C], premultiplied, and alpha [..., V, H, W]. Differentiable.
    Source: 3D Gaussian Splatting (Kerbl et al. 2023) with the constants of gsplat 1.5.3.
    """
    lead = projected.x.shape[:-1]
    count, channels = projected.x.shape[-1], features.shape[-1]
    images = lead.numel()
    flat = [t.reshape(images, count) for t in projected]
    x, y, xx, xy, yy, det, depth, visible = flat
    opacity = opacities.unsqueeze(-2).expand(*lead, count).reshape(images, count)
    opacity = torch.where(visible, opacity, 0.0)
    table = torch.stack([x, y, yy / det, -xy / det, xx / det, opacity], -1)
    features = features.reshape(images, count, channels)

    order = torch.where(visible, depth, torch.inf).detach().argsort(dim=-1, stable=True)  # ties: by index
    table = table.gather(1, order[..., None].expand_as(table))
    features = features.gather(1, order[..., None].expand_as(features))

    device = x.device
    rows = torch.arange(height, device=device, dtype=torch.float32) + 0.5
    columns = torch.arange(width, device=device, dtype=torch.float32) + 0.5
    pixels = torch.stack(torch.broadcast_tensors(columns[None, :], rows[:, None]), -1).reshape(-1, 2)
    step = max(1, _CHUNK_PAIRS // max(1, count))
    needs_grad = torch.is_grad_enabled() and (table.requires_grad or features.requires_grad)
    total = height * width
    if needs_grad:
        parts = [
            checkpoint(_blend, table[image], features[image], pixels[first : first + step], use_reentrant=False)
            for image in range(images)
            for first in range(0, total, step)
        ]
        color, alpha = (torch.cat(found) for found in zip(*parts))
    else:
        color, alpha = features.new_empty(images, total, channels), features.new_empty(images, total)
        for image in range(images):
            for first in range(0, total, step):
                part = slice(first, first + step)
                color[image, part], alpha[image, part] = _blend(table[image], features[image], pixels[part])
    return color.reshape(*lead, height, width, channels), alpha.reshape(*lead, height, width)


def _blend(table: Tensor, features: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Blend N depth-sorted Gaussians at P pixels: table [N, 6] (x, y, conic a, b, c, opacity), features [N, C]."""
    x, y, a, b, c, opacity = table.t().contiguous()
    dx = pixels[:, 0, None] - x  # [P, N]
    dy = pixels[:, 1, None] - y
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    # No alpha is left beyond e^-40, and below e^-50 the exponential of some CPU libraries is ten times slower.
    alpha = (opacity * torch.exp(-sigma.clamp(max=40.0))).clamp(max=ALPHA_MAX)
    alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_MIN), alpha, 0.0)
    after = torch.cumprod(1.0 - alpha, -1)  # light left behind each Gaussian
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
    weight = alpha * before * (after > T_STOP)  # the stop comes before the Gaussian is added
    return weight @ features, weight.sum(-1)
