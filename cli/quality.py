"""How well the splats of a run repeat pictures: the ones they were made from, and held-out ones."""

from __future__ import annotations

import math

import torch

from ..kernels.metrics import input_view_bias, lpips, lpips_missing, psnr, ssim
from ..pipelines.sparsegen import render_splats
from ..scene.camera_files import read_views
from ..scene.images import read_rgba
from ..scene.splats import Splats
from ..scene.views import ViewSet, square, view_set


def read_held_out(path: str, config) -> ViewSet:
    """The pictures that a JSON file names, with their cameras, on white."""
    files, cameras = read_views(path, config.input_size, config.fov)
    return view_set([read_rgba(file)[None] for file in files], [], [], 1.0, config.fov, cameras=cameras)


def measure(splats: Splats, given: ViewSet, held_out: ViewSet | None, size: int) -> dict[str, dict[str, float]]:
    """Mean PSNR, SSIM and, where installed, LPIPS of the given views and of held-out ones; with both, their gap.

    size: the pictures are compared at this many pixels a side, the size the weights work at.
    Keys: input_views, held_out, input_view_bias (our definition: the mean over the given views less that over others).
    """
    values = {"input_views": _compare(splats, given, size)}
    if held_out is not None:
        values["held_out"] = _compare(splats, held_out, size)
    report = {
        name: {metric: float(v[torch.isfinite(v)].mean()) for metric, v in metrics.items()}
        for name, metrics in values.items()
    }
    if held_out is not None:
        report["input_view_bias"] = input_view_bias(values["input_views"], values["held_out"])
    return {
        name: {k: round(v, 4) for k, v in sorted(metrics.items()) if math.isfinite(v)}
        for name, metrics in report.items()
    }


def _compare(splats: Splats, views: ViewSet, size: int) -> dict[str, torch.Tensor]:
    rendered = render_splats(splats, views.cameras.resized(size, size)).color.permute(0, 3, 1, 2).clamp(0, 1)
    images = square(views.images, size)
    metrics = {"psnr": psnr(rendered, images), "ssim": ssim(rendered, images, reduction="none")}
    if lpips_missing() is None:
        metrics["lpips"] = lpips(rendered, images)
    return metrics
