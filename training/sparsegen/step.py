"""One SparseGen training step: noise the noisy views, drop views, condition on itself, render, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from ...models.sparsegen import SparseGen
from ...models.sparsegen.embeddings import assemble_views, view_times
from ...models.sparsegen.rendering import render_views
from .losses import LossOptions, sparsegen_losses
from .view_dropout import drop_views

TRAIN_STEPS = 1000
PUBLISHED_LOSSES = LossOptions()


@dataclass
class TrainingViews:
    """B training samples, clean views first, then noisy ones, then views that are only rendered.

    ``images`` [B, M, 3, S, S] in [-1, 1] on the background, ``occupancy`` [B, M, 1, S, S] in [0, 1] or None,
    ``world_to_camera`` [B, M, 4, 4] OpenCV. ``pose`` [B, Nc+Nn, 6, S, S] replaces the pose channels where given.
    """

    images: Tensor
    occupancy: Tensor | None
    world_to_camera: Tensor
    clean: int
    noisy: int
    pose: Tensor | None = None


@dataclass
class StepDraws:
    """The random numbers of one step; ``draw`` takes them in the order of the published training."""

    noise: Tensor  # [B, Nn, 3, S, S]
    clean_uniform: float
    noisy_start: int
    self_uniform: float

    @classmethod
    def draw(cls, views: TrainingViews, generator: torch.Generator | None = None) -> StepDraws:
        shape = (views.images.shape[0], views.noisy, *views.images.shape[2:])
        return cls(
            noise=torch.randn(shape, generator=generator),
            clean_uniform=float(torch.rand(1, generator=generator)),
            noisy_start=int(torch.randint(max(views.noisy, 1), (1,), generator=generator)),
            self_uniform=float(torch.rand(1, generator=generator)),
        )


@dataclass(frozen=True)
class StepOptions:
    """What a step does: dropout of views, self-conditioning, which decoder layers are supervised.

    ``layers``: "all" or "last" or indices. ``early_layer_views``: how many of the rendered views supervise layers
    before the last one (None: all of them). ``render_size``: side of the renders (None: that of the pictures).
    """

    drop_all_clean: float = 0.2
    noisy_dropout: float = 0.5
    penalize: str = "seen_and_one_more"
    self_condition: float = 0.5
    layers: str | tuple[int, ...] = "all"
    early_layer_views: int | None = None
    render_size: int | None = None


@dataclass
class StepResult:
    """Weighted loss terms and what they were made from."""

    terms: dict[str, Tensor]
    x_self: Tensor
    keep: list[int]
    render: list[int]
    color: Tensor  # [B, len(render), 3, S, S] renders of the last layer in [-1, 1]


def add_noise(images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Rectified flow: (1 - t/1000) x + t/1000 noise, images [B, V, ...], one time t [B] (0..1000) per sample."""
    sigma = (t.float() / TRAIN_STEPS).view(-1, *[1] * (images.ndim - 1))
    return (1 - sigma) * images + sigma * noise


def training_step(
    model: SparseGen,
    views: TrainingViews,
    t: Tensor,
    draws: StepDraws,
    options: StepOptions | None = None,
    losses: LossOptions = PUBLISHED_LOSSES,
    *,
    perceptual: nn.Module | None = None,
    renderer: Callable | None = None,
    network: Callable | None = None,
) -> StepResult:
    """Loss terms of one step; backward is the caller's.

    ``t`` [B] in 0..1000 is the time of the noisy views. ``network`` is what is called in place of ``model`` where it
    is wrapped for several processes. ``renderer`` as in ``render_views``.
    """
    config, network, options = model.config, network or model, options or StepOptions()
    given, size = views.clean + views.noisy, views.images.shape[-1]
    clean = views.images[:, : views.clean]
    noisy = add_noise(views.images[:, views.clean : given], draws.noise.to(clean), t.to(clean.device))
    times = view_times(views.clean, views.noisy, t.to(clean.device))
    cameras = views.world_to_camera[:, :given]
    keep, render = drop_views(
        views.clean,
        views.noisy,
        draws.clean_uniform,
        draws.noisy_start,
        drop_all_clean=options.drop_all_clean,
        noisy_dropout=options.noisy_dropout,
        penalize=options.penalize,
    )
    render = render + list(range(given, views.images.shape[1]))

    def see(x_self: Tensor) -> Tensor:
        return assemble_views(config, clean, noisy, cameras, x_self, views.pose)

    x_self = torch.zeros_like(noisy)
    if views.noisy and draws.self_uniform < options.self_condition:
        with torch.no_grad():
            first = model(see(x_self), times, cameras, keep=keep, layers="last")[-1]
            x_self, _ = render_views(first, cameras[:, views.clean :], config, size=size, renderer=renderer)

    layers = network(see(x_self), times, cameras, keep=keep, layers=options.layers)
    side = options.render_size or size
    colors, targets, alphas, occupancies, last = [], [], [], [], None
    resized = _resize(views.images, side)
    occupancy = None if views.occupancy is None else _resize(views.occupancy, side)
    for position, gaussians in enumerate(layers):
        final = position == len(layers) - 1
        shown = render if final or options.early_layer_views is None else render[: options.early_layer_views]
        color, alpha = render_views(gaussians, views.world_to_camera[:, shown], config, size=side, renderer=renderer)
        colors.append(color)
        alphas.append(alpha)
        targets.append(resized[:, shown])
        occupancies.append(None if occupancy is None else occupancy[:, shown])
        last = color
    terms = sparsegen_losses(
        torch.cat(colors, 1),
        torch.cat(targets, 1),
        torch.cat(alphas, 1),
        None if occupancy is None else torch.cat(occupancies, 1),
        torch.stack([g.xyz_offset for g in layers]),
        losses,
        perceptual,
    )
    return StepResult(terms, x_self, keep, render, last.detach())


def _resize(images: Tensor, side: int) -> Tensor:
    if images.shape[-1] == side:
        return images
    flat = nn.functional.interpolate(images.flatten(0, 1), (side, side), mode="bilinear", antialias=True)
    return flat.unflatten(0, images.shape[:2])
