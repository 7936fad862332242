"""Drawing Gaussian splats: one picture, and the forward and backward pass of a training step."""

from __future__ import annotations

import math

from . import opponents
from .op import Contender, Missing, Op

FOV = 52.0
DISTANCE = 1.3


def _shell(case: dict):
    """Small flat Gaussians on a bumpy closed surface: what a reconstructed object looks like."""
    import torch

    generator = torch.Generator().manual_seed(0)
    count, side = case["count"], case["side"]
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = 0.45 * direction * (1 + 0.15 * torch.sin(5 * direction[:, :1]) * torch.sin(5 * direction[:, 1:2]))
    spacing = 0.45 * math.sqrt(4 * math.pi / count)
    scales = spacing * torch.exp(0.3 * torch.randn(count, 3, generator=generator)) * torch.tensor([1.0, 1.0, 0.3])
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)
    opacities = 0.05 + 0.94 * torch.rand(count, generator=generator)
    colors = torch.rand(count, 3, generator=generator)
    viewmats = torch.eye(4)[None].clone()
    viewmats[:, 2, 3] = DISTANCE
    focal = 0.5 * side / math.tan(math.radians(0.5 * FOV))
    Ks = torch.tensor([[[focal, 0, 0.5 * side], [0, focal, 0.5 * side], [0, 0, 1]]])
    return [t.to(case["device"]) for t in (means, quats, scales, opacities, colors, viewmats, Ks)]


def _picture(backend: str):
    def prepare(case):
        import torch

        from ...kernels.splat import rasterize

        if backend == "gsplat":
            _need_gsplat(case["device"])
        scene, side = _shell(case), case["side"]

        def draw():
            with torch.no_grad():
                render = rasterize(*scene, side, side, backend=backend)
            return {"color": render.color[0], "alpha": render.alpha[0]}

        return draw

    return prepare


def _render_splat(case):
    """Core ComfyUI's RenderSplat, the function behind the node."""
    module = opponents.comfyui("comfy_extras.nodes_gaussian_splat", case["device"])
    means, quats, scales, opacities, colors, *_ = _shell(case)
    side = case["side"]
    # Load3D's frame is Y up and looks down -Z, the splat's is Y down: our camera at z = -DISTANCE is theirs at
    # +DISTANCE.
    camera = {"position": {"x": 0, "y": 0, "z": DISTANCE}, "target": {"x": 0, "y": 0, "z": 0}, "fov": FOV}

    def draw():
        color, alpha = module._render_gaussian(
            means, colors, opacities, scales, quats, side, side, 1.0, (0, 0, 0), camera
        )
        return {"color": color, "alpha": alpha}

    return draw


def _batch(case: dict):
    """Scenes with a few hundred soft Gaussians each, and views around them, as SparseGen trains on."""
    import torch

    generator = torch.Generator().manual_seed(1)
    scenes, views, count, side = case["scenes"], case["views"], case["count"], case["side"]
    focal = 0.5 * side / math.tan(math.radians(0.5 * FOV))
    means = torch.rand(scenes, count, 3, generator=generator) - 0.5
    quats = torch.randn(scenes, count, 4, generator=generator)
    scales = case["sigma"] * DISTANCE / focal * torch.exp(0.4 * torch.randn(scenes, count, 3, generator=generator))
    opacities = 0.05 + 0.9 * torch.rand(scenes, count, generator=generator)
    colors = torch.rand(scenes, count, 3, generator=generator)
    azimuth = 2 * math.pi * torch.rand(scenes, views, generator=generator)
    elevation = 0.5 - torch.rand(scenes, views, generator=generator)
    center = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], -1)
    right = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros_like(azimuth)], -1)
    rotation = torch.stack([right, torch.linalg.cross(-center, right), -center], -2)
    viewmats = torch.eye(4).repeat(scenes, views, 1, 1)
    viewmats[..., :3, :3] = rotation
    viewmats[..., 2, 3] = DISTANCE
    Ks = torch.tensor([[focal, 0, 0.5 * side], [0, focal, 0.5 * side], [0, 0, 1]]).expand(scenes, views, 3, 3)
    target = torch.rand(scenes, views, side, side, 3, generator=generator)
    return [t.to(case["device"]) for t in (means, quats, scales, opacities, colors, viewmats, Ks, target)]


def _step(backend: str):
    def prepare(case):
        import torch

        from ...kernels.splat import rasterize

        if backend == "gsplat":
            _need_gsplat(case["device"])
        *scene, target = _batch(case)
        leaves, cameras, side = [t.requires_grad_() for t in scene[:5]], scene[5:], case["side"]
        white = torch.ones(3, device=case["device"])

        def step():
            render = rasterize(*leaves, *cameras, side, side, background=white, backend=backend)
            loss = (render.color - target).square().mean() + 0.1 * render.alpha.mean()
            names = ("means", "quats", "scales", "opacities", "colors")
            grads = torch.autograd.grad(loss, leaves)
            return {"color": render.color, **{f"d {name} (of max)": g / g.abs().max() for name, g in zip(names, grads)}}

        return step

    return prepare


def _need_gsplat(device: str) -> None:
    if not device.startswith("cuda"):
        raise Missing("needs --device cuda")
    opponents.library("gsplat")


OPS = [
    Op(
        "splat",
        "Gaussian splats to one picture, no gradient",
        {"S": dict(count=5_000, side=256), "M": dict(count=50_000, side=512), "L": dict(count=200_000, side=512)},
        (
            Contender("ours (tiled)", _picture("tiled")),
            Contender(
                "dense twin",
                _picture("dense"),
                sizes=("S",),
                note="every Gaussian at every pixel; minutes at M, an hour at L",
            ),
            Contender(
                "core RenderSplat",
                _render_splat,
                same=False,
                note="ComfyUI's own node: blends in linear light and in slabs of depth, weights in 3D",
            ),
            Contender("gsplat", _picture("gsplat")),
        ),
    ),
    Op(
        "splat_train",
        "forward and backward pass of all scenes and views of a training step",
        {
            "S": dict(scenes=8, views=4, count=512, side=64, sigma=2.0),
            "M": dict(scenes=8, views=4, count=768, side=64, sigma=2.5),
            "L": dict(scenes=8, views=4, count=1024, side=64, sigma=3.0),
        },
        (
            Contender("ours (tiled)", _step("tiled")),
            Contender("dense twin", _step("dense"), note="autograd, checkpointed"),
            Contender("gsplat", _step("gsplat")),
        ),
    ),
]
