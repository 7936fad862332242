"""Random scenes for the splat tests."""

import math

import torch


def scene(seed=0, lead=(), views=2, count=40, width=40, height=32, size=0.08, channels=3, dtype=torch.float32):
    """Gaussians of all shapes around the origin and cameras around them: five tensors, viewmats, Ks, width, height."""
    g = torch.Generator().manual_seed(seed)
    means = (torch.rand(*lead, count, 3, generator=g) - 0.5) * 1.2
    quats = torch.randn(*lead, count, 4, generator=g)
    scales = size * torch.exp(0.7 * torch.randn(*lead, count, 3, generator=g))
    opacities = torch.rand(*lead, count, generator=g)
    colors = torch.rand(*lead, count, channels, generator=g)
    azimuth = 2 * math.pi * torch.rand(*lead, views, generator=g)
    eye = 1.4 * torch.stack([azimuth.cos(), azimuth.sin(), 0.5 * torch.rand(*lead, views, generator=g)], -1)
    forward = torch.nn.functional.normalize(-eye, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, torch.tensor([0.0, 0, 1]).expand_as(forward)), dim=-1
    )
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    viewmats = torch.eye(4).repeat(*lead, views, 1, 1)
    viewmats[..., :3, :3] = rotation
    viewmats[..., :3, 3:] = -rotation @ eye[..., None]
    focal = 0.9 * width
    Ks = torch.tensor([[focal, 0, 0.5 * width + 1.3], [0, 1.1 * focal, 0.5 * height - 0.7], [0, 0, 1]])
    Ks = Ks.expand(*lead, views, 3, 3)
    inputs = [t.to(dtype) for t in (means, quats, scales, opacities, colors)]
    return inputs, viewmats.to(dtype), Ks.to(dtype), width, height


def planes(render):
    """Color, alpha and alpha-weighted depth as one tensor [..., H, W, C + 2]."""
    depth = render.depth * render.alpha
    return torch.cat([render.color, render.alpha[..., None], depth[..., None]], -1)


def assert_same(a, b, atol=3e-5, share=0.999):
    """Equal but for the few pixels where rounding moves a Gaussian over the threshold 1/255."""
    error = (a - b).abs().amax(-1).flatten().sort().values
    assert error[-1] < 0.02, f"worst pixel {error[-1]:.1e}"
    if len(error):
        at = (
            error[min(len(error) - 1, int(share * len(error)))]
            if len(error) > 1000
            else error[-2 if len(error) > 1 else -1]
        )
        assert at <= atol, f"{at:.1e} at the {share:%} of pixels"
