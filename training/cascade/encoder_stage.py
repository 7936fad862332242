"""First stage: the image encoder, trained by reading the latents off its patches with linear maps.

Every depth slab of the cube has a linear map of its own from the patch features to the latents of the slab's cells,
read where the cells project to. So the features end up holding, linearly, what the projecting flows need. The maps
are dropped afterwards; they are also the regression that a flow has to beat.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.trellis2.tiny_encoder import TinyEncoderConfig, TinyImageEncoder
from .data import KINDS
from .derived import CHANNELS, STEP, Latents

DEFAULT = TinyEncoderConfig()


def resampling(resolution: int, fov: Tensor, cells: int, size: int) -> Tensor:
    """Interpolation matrices [B, R (slab), R (cell), cells] from map columns to the cells of each depth slab.

    fov [B] radians. The front camera sees the cells of one slab as a regular grid, so bilinear reading is separable:
    rows use the same matrices with the cells in reverse order. Equals `front_uv` and `sample_map`.
    """
    line = torch.linspace(-1.0, 1.0, resolution) / 2
    half = torch.tan(fov / 2)
    depth = (0.5 / half)[:, None] - line  # [B, slab]
    pixel = size / 2 / half[:, None, None] * line / depth[..., None] + size / 2  # [B, slab, cell]
    place = ((pixel + 0.5) / size * cells - 0.5).clamp(0, cells - 1)
    return (1 - (place[..., None] - torch.arange(cells)).abs()).clamp_min(0)


def row_resampling(resolution: int, fov: Tensor, cells: int, size: int) -> Tensor:
    """The same for rows: v falls as y grows, and the reading is half a picture pixel lower, not mirrored."""
    line = torch.linspace(-1.0, 1.0, resolution) / 2
    half = torch.tan(fov / 2)
    depth = (0.5 / half)[:, None] - line
    pixel = -size / 2 / half[:, None, None] * line / depth[..., None] + size / 2
    place = ((pixel + 0.5) / size * cells - 0.5).clamp(0, cells - 1)
    return (1 - (place[..., None] - torch.arange(cells)).abs()).clamp_min(0)


class EncoderTask(nn.Module):
    """The encoder and its reading heads."""

    def __init__(self, cfg: TinyEncoderConfig = DEFAULT, structure_channels: int = 16):
        super().__init__()
        self.encoder = TinyImageEncoder(cfg)
        self.cells = cfg.image_size // TinyImageEncoder.patch_size
        self.fine, self.coarse = self.cells, self.cells // 2
        self.dense = nn.Linear(cfg.channels, self.fine * (CHANNELS + 2))
        self.structure = nn.Linear(cfg.channels, self.coarse * structure_channels)
        self.patches = nn.Linear(cfg.channels, 6)
        self.kind = nn.Linear(cfg.channels * self.encoder.prefix_tokens, len(KINDS) + 1)
        for block in self.encoder.blocks:
            for layer in (block.to_out, block.mlp[2]):
                layer.weight.data.mul_(0.5)

    def read(self, patches: Tensor, head: nn.Linear, resolution: int, fov: Tensor) -> Tensor:
        """patches [B, P, C] -> [B, channels, x, y, z] of the R^3 grid."""
        size = self.encoder.config.image_size
        maps = head(patches).float().unflatten(1, (self.cells, self.cells)).unflatten(-1, (resolution, -1))
        columns = resampling(resolution, fov, self.cells, size)  # [B, z, x, u]
        rows = row_resampling(resolution, fov, self.cells, size)  # [B, z, y, v]
        maps = maps.permute(0, 3, 4, 1, 2)  # [B, z, c, v, u]
        read = rows[:, :, None] @ maps @ columns[:, :, None].transpose(-1, -2)  # [B, z, c, y, x]
        return read.permute(0, 2, 4, 3, 1)

    def forward(self, images: Tensor, fov: Tensor) -> dict[str, Tensor]:
        """images [B, 3, S, S] in [0, 1], fov [B] radians -> the heads' predictions."""
        tokens = self.encoder(images)
        prefix, patches = tokens[:, : self.encoder.prefix_tokens], tokens[:, self.encoder.prefix_tokens :]
        return {
            "dense": self.read(patches, self.dense, self.fine, fov),
            "structure": self.read(patches, self.structure, self.coarse, fov),
            "patches": self.patches(patches).transpose(1, 2).unflatten(-1, (self.cells, self.cells)),
            "kind": self.kind(prefix.flatten(1)),
        }


def draw(count: int, batch: int, step: int, seed: int) -> Tensor:
    """The objects of one step."""
    return torch.from_numpy(np.random.default_rng([seed, step]).choice(count, batch, replace=batch > count))


def encoder_terms(task: EncoderTask, data: Latents, rows: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Loss terms of the objects `rows`; scale [C]: weight of the shape code's channels."""
    fov = data.fov[rows] * (math.pi / 180)
    with torch.autocast("cpu", torch.bfloat16):
        out = task(data.image[rows].float() / 255, fov)
    dense, side = out["dense"].float(), task.fine
    code = data.shape[rows].float().mul(STEP).unflatten(1, (side,) * 3).permute(0, 4, 1, 2, 3)
    near, occupied = data.near[rows].float()[:, None], data.occupied[rows].float()[:, None]
    structure = data.structure[rows].float()
    distance = structure[:, :8].unflatten(1, (1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(occupied.shape)
    error = (dense[:, :CHANNELS] - code).square() * scale.view(1, -1, 1, 1, 1) * near
    materials, coverage = data.patches[rows][:, :5].float() / 255, data.patches[rows][:, 5:].float() / 255
    patches, kinds = out["patches"].float(), out["kind"].float()
    return {
        "structure": (out["structure"].float() - structure).square().mean(),
        "distance": (dense[:, CHANNELS] - distance[:, 0]).square().mean(),
        "occupied": F.binary_cross_entropy_with_logits(dense[:, CHANNELS + 1 :], occupied),
        "code": 0.5 * error.sum() / near.sum() / scale.sum(),
        "patches": ((patches[:, :5] - materials).square() * coverage).sum() / coverage.sum()
        + 0.2 * (patches[:, 5:] - coverage).square().mean(),
        "kind": 0.05 * F.cross_entropy(kinds[:, :-1], data.kind[rows]) + (kinds[:, -1] - fov).square().mean(),
    }


@torch.no_grad()
def regression_figures(task: EncoderTask, data: Latents, scale: Tensor, batch: int = 50) -> dict[str, float]:
    """Held-out figures of the regression: IoU of the occupied cells at the best of a few thresholds, and the terms."""
    sums: dict[str, float] = {}
    thresholds = (-1.5, -1.0, -0.7, -0.4, 0.0)
    iou = torch.zeros(len(thresholds))
    for start in range(0, len(data), batch):
        rows = torch.arange(start, min(len(data), start + batch))
        for name, value in encoder_terms(task, data, rows, scale).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(rows) / len(data)
        with torch.autocast("cpu", torch.bfloat16):
            out = task(data.image[rows].float() / 255, data.fov[rows] * (math.pi / 180))
        found, true = out["dense"][:, CHANNELS + 1].float(), data.occupied[rows]
        for k, level in enumerate(thresholds):
            both, either = ((found > level) & true), ((found > level) | true)
            iou[k] += (both.sum((1, 2, 3)) / either.sum((1, 2, 3)).clamp_min(1)).sum() / len(data)
    return {f"held_out_{k}": v for k, v in sums.items()} | {
        "iou": float(iou.max()),
        "at": thresholds[int(iou.argmax())],
    }


def is_hidden(name: str, _: nn.Parameter) -> bool:
    """Which matrices Muon takes."""
    return ".blocks." in name or name.startswith("blocks.")
