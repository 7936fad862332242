"""gsplat's CUDA kernels behind the signature of our rasterisers, and the comparison that admits them."""

import torch
from torch import Tensor

from ...scene.errors import MissingDependency
from .dense import rasterize_dense
from .projection import EPS2D, project


def rasterize_gsplat(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near: float,
    far: float,
) -> tuple[Tensor, Tensor]:
    """Blended colors with camera-space z as last channel [..., V, H, W, C + 1], premultiplied; alpha [..., V, H, W].

    colors: [..., V, N, C]; the other arguments as `rasterize` takes them. Raises MissingDependency without gsplat.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise MissingDependency(
            f'gsplat cannot be imported ({error}); `pip install gsplat` (CUDA only), or use `backend="tiled"`.'
        ) from error
    lead, count, channels = viewmats.shape[:-2], means.shape[-2], colors.shape[-1]
    scenes = lead[:-1].numel()
    flat = [
        t.reshape(scenes, *t.shape[len(lead) - 1 :]).contiguous()
        for t in (means, quats, scales, opacities, colors, viewmats, Ks)
    ]
    if count == 0 or lead.numel() == 0:
        zero = sum(t.sum() for t in flat[:5])
        return means.new_zeros(*lead, height, width, channels + 1) + zero, means.new_zeros(*lead, height, width) + zero
    blended, alphas = [], []
    for mean, quat, scale, opacity, color, viewmat, K in zip(*flat):
        image, alpha, _ = rasterization(
            mean,
            quat,
            scale,
            opacity,
            color,
            viewmat,
            K,
            width,
            height,
            near_plane=near,
            far_plane=far,
            eps2d=EPS2D,
            radius_clip=0.0,
            packed=False,
            rasterize_mode="classic",
            render_mode="RGB+D",
        )
        blended.append(image)
        alphas.append(alpha[..., 0])
    return (
        torch.stack(blended).reshape(*lead, height, width, channels + 1),
        torch.stack(alphas).reshape(*lead, height, width),
    )


def compare(device: torch.device) -> float:
    """Worst difference between gsplat and the dense twin on a small scene: colors, depth, alpha, and all gradients.

    One pixel in a thousand may differ (a Gaussian at the threshold 1/255 falls on either side by rounding); gradients
    are relative to the largest of their tensor.
    """
    inputs, viewmats, Ks, width, height = small_scene(device)
    near, far = 0.01, 1e10
    results = []
    for own in (True, False):
        leaves = [t.clone().requires_grad_() for t in inputs]
        means, quats, scales, opacities, colors = leaves
        views = colors.expand(viewmats.shape[0], *colors.shape)
        if own:
            projected = project(*leaves[:4], viewmats, Ks, width, height, near, far)
            features = torch.cat([views, projected.depth[..., None]], -1)
            blended, alpha = rasterize_dense(projected, opacities, features, width, height)
        else:
            blended, alpha = rasterize_gsplat(
                means, quats, scales, opacities, views, viewmats, Ks, width, height, near, far
            )
        image = torch.cat([blended, alpha[..., None]], -1)
        ramp = torch.linspace(-1, 1, image.numel(), device=device).view(image.shape)
        grads = torch.autograd.grad((image * ramp).mean(), leaves)
        results.append((image.detach(), grads))
    (image, grads), (other, others) = results
    pixels = (image - other).abs().amax(-1).flatten().sort().values
    worst = float(pixels[int(0.999 * (pixels.numel() - 1))])
    for ours, theirs in zip(grads, others):
        worst = max(worst, 0.1 * float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12)))
    return worst if worst == worst else float("inf")


def small_scene(device: torch.device, count: int = 60, width: int = 45, height: int = 37):
    """A fixed scene of Gaussians of all shapes seen from two sides, some of them behind the camera or off the image."""
    generator = torch.Generator().manual_seed(20)
    means = (torch.rand(count, 3, generator=generator) - 0.5) * 1.2
    means[0] = torch.tensor([0.0, 0.0, -4.0])
    quats = torch.randn(count, 4, generator=generator)
    scales = 0.02 + 0.12 * torch.rand(count, 3, generator=generator)
    opacities = 0.02 + 0.95 * torch.rand(count, generator=generator)
    colors = torch.rand(count, 3, generator=generator)
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, :3, :3] = torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    viewmats[:, 2, 3] = 1.5
    Ks = torch.tensor([[40.0, 0, width / 2], [0, 41.0, height / 2], [0, 0, 1]]).repeat(2, 1, 1)
    inputs = [t.to(device) for t in (means, quats, scales, opacities, colors)]
    return inputs, viewmats.to(device), Ks.to(device), width, height
