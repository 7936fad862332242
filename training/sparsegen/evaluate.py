"""Held-out quality of one-step prediction, beside predicting the mean image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.metrics import psnr, ssim
from ...models.sparsegen import SparseGen
from ...models.sparsegen.embeddings import assemble_views, view_times
from ...models.sparsegen.rendering import render_views
from .procedural_data import MAX_ELEVATION, ViewShard, to_batch

BINS = 3  # the mean image is taken per third of the elevation range


@dataclass
class Report:
    """Means over objects: PSNR and SSIM of views that were not given, PSNR of the given ones, and of mean images."""

    psnr_novel: float
    ssim_novel: float
    psnr_input: float
    psnr_mean_image: float
    per_kind: dict[str, dict[str, float]]
    objects: int
    novel_views: int

    @property
    def gain(self) -> float:
        """dB above predicting the mean image."""
        return self.psnr_novel - self.psnr_mean_image


def mean_images(shard: ViewShard, limit: int = 2000) -> Tensor:
    """The best constant prediction: per-pixel mean on white of all training views in each elevation bin, [3, 3, S, S].

    Object orientations are uniform and the world is turned by the first view, so azimuths tell nothing.
    """
    side = shard.rgba.shape[2]
    total, count = torch.zeros(BINS, 3, side, side), torch.zeros(BINS)
    for k in range(min(limit, len(shard.kinds))):
        images = to_batch(shard.rgba[k][None], shard.azimuth[k][None], shard.elevation[k][None]).images[0]
        place = elevation_bin(shard.elevation[k])
        total.index_add_(0, place, images)
        count.index_add_(0, place, torch.ones(len(place)))
    return total / count.clamp_min(1).view(-1, 1, 1, 1)


def elevation_bin(elevation: np.ndarray) -> Tensor:
    return torch.from_numpy((elevation / MAX_ELEVATION * BINS).clip(0, BINS - 1).astype(np.int64))


@torch.no_grad()
def predict(model: SparseGen, clean: Tensor, cameras: Tensor, virtual: int = 0, seed: int = 0):
    """One-step Gaussians from clean views [B, Nc, 3, S, S] in [-1, 1] and cameras [B, Nc+virtual, 4, 4]."""
    noise = torch.randn((len(clean), virtual, *clean.shape[2:]), generator=torch.Generator().manual_seed(seed))
    views = assemble_views(model.config, clean, noise, cameras)
    times = view_times(clean.shape[1], virtual, torch.full((len(clean),), 1000.0))
    return model(views, times, cameras, layers="last")[-1]


@torch.no_grad()
def evaluate(
    model: SparseGen,
    shard: ViewShard,
    means: Tensor,
    *,
    objects: int | None = None,
    clean: int = 1,
    virtual: int = 0,
    novel: int = 5,
    batch: int = 8,
    renderer=None,
) -> tuple[Report, Tensor]:
    """One-step quality on held-out objects: ``clean`` given views, ``novel`` compared ones (the shard's next views).

    ``virtual`` pure-noise views join the input at the first novel cameras. PSNR is the mean over pictures, clamped to
    [0, 1]. Returns the report and the pictures [n, 2 * (clean + novel), 3, S, S]: truth of all views, then renders.
    """
    training = model.training
    model.eval()
    count = min(objects or len(shard.kinds), len(shard.kinds))
    rows, sheets = [], []
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        views = clean + max(novel, virtual)
        azimuth = shard.azimuth[part, :views] - shard.azimuth[part, :1]
        data = to_batch(shard.rgba[part, :views], azimuth, shard.elevation[part, :views])
        cameras = data.world_to_camera()
        gaussians = predict(model, data.images[:, :clean] * 2 - 1, cameras[:, : clean + virtual], virtual)
        shown = cameras[:, : clean + novel]
        color, _ = render_views(gaussians, shown, model.config, size=data.images.shape[-1], renderer=renderer)
        color, truth = ((color + 1) / 2).clamp(0, 1), data.images[:, : clean + novel]
        for k in range(len(color)):
            index = start + k
            base = means[elevation_bin(shard.elevation[index, : clean + novel])]
            rows.append(
                (
                    shard.kinds[index],
                    float(psnr(color[k, clean:], truth[k, clean:]).mean()),
                    float(ssim(color[k, clean:], truth[k, clean:])),
                    float(psnr(color[k, :clean], truth[k, :clean]).mean()),
                    float(psnr(base[clean:], truth[k, clean:]).mean()),
                )
            )
        sheets.append(torch.cat([truth, color], 1))
    model.train(training)
    numbers = np.array([row[1:] for row in rows])
    names = ("psnr_novel", "ssim_novel", "psnr_input", "psnr_mean_image")
    per_kind = {
        kind: dict(zip(names, numbers[[row[0] == kind for row in rows]].mean(0).tolist()))
        for kind in sorted({row[0] for row in rows})
    }
    average = numbers.mean(0).tolist()
    return Report(*average, per_kind=per_kind, objects=count, novel_views=novel), torch.cat(sheets)


def held_out_table(recipe, checkpoint) -> dict[str, Report]:
    """Reports of averaged weights: unseen objects of known kinds (1 to 3 given views), an unseen kind."""
    from .export import averaged_model
    from .procedural_data import read_shards

    model, _ = averaged_model(recipe, checkpoint)
    folder, size = recipe.data.folder, recipe.data.size
    means = mean_images(read_shards(folder, f"train-{size}"))
    known, unseen = read_shards(folder, f"heldout-{size}"), read_shards(folder, f"unseen-{size}")
    table = {f"known kinds, {n} view{'s' * (n > 1)}": evaluate(model, known, means, clean=n)[0] for n in (1, 2, 3)}
    table["known kinds, 1 view and 3 noise views"] = evaluate(model, known, means, virtual=3)[0]
    table["unseen kind, 1 view"] = evaluate(model, unseen, means)[0]
    return table


def sheet(pictures: Tensor, columns: int = 1) -> Tensor:
    """Pictures [n, 2 k, 3, S, S] of ``evaluate`` as one uint8 image [H, W, 3]: a row of truth over a row of renders."""
    views = pictures.shape[1] // 2
    rows = [torch.cat([torch.cat(list(p[:views]), -1), torch.cat(list(p[views:]), -1)], -2) for p in pictures]
    rows += [torch.ones_like(rows[0])] * (-len(rows) % columns)
    lines = [torch.cat(rows[k : k + columns], -1) for k in range(0, len(rows), columns)]
    return (torch.cat(lines, -2).permute(1, 2, 0).clamp(0, 1) * 255).round().byte()
