"""First stage: the image encoder and an aggregator, trained by reading off linearly what the flows will need.

From every patch: what is seen there (part of the room, color, distance, height, normal). From every voxel's aggregated
feature: the latents of its cell, beside a table of the mean at each place of a chunk. The readings are dropped; the
encoder is frozen, and the flows' aggregators begin as this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.view_projection import voxel_centers
from ...models.genrecon.aggregator import ViewAggregator
from ...models.trellis2.tiny_encoder import TinyEncoderConfig, TinyImageEncoder
from ..cascade.stages import math_attention
from .data import DENSE, IMAGE, Rooms, RoomSample
from .lifting import aggregate_visible, begin_as_fusion, clear_unused, join, visible_samples
from .volumes import CELLS

ENCODER = TinyEncoderConfig(image_size=IMAGE, channels=128, stem=(48,), num_blocks=3, num_heads=4, mlp_ratio=3.0)
SHAPE, TEXTURE = 16, 14
OUTPUTS = 2 + 1 + SHAPE + TEXTURE  # structure latent, occupancy logit, shape code, texture code
LEAST_VIEWS, MOST_VIEWS = 6, 14


class EncoderTask(nn.Module):
    """The encoder, an aggregator, and the linear readings of both.

    `meters` reads the distance of what a patch sees; the second stage begins the aggregator with it.
    """

    def __init__(self, cfg: TinyEncoderConfig = ENCODER):
        super().__init__()
        self.encoder = TinyImageEncoder(cfg)
        self.aggregator = clear_unused(ViewAggregator(cfg.channels, use_camera=True))
        self.patches = nn.Linear(cfg.channels, DENSE)
        self.meters = nn.Linear(cfg.channels, 1)
        self.cells = nn.Linear(cfg.channels, OUTPUTS)
        self.places = nn.Parameter(torch.zeros(CELLS**3, OUTPUTS))
        for block in self.encoder.blocks:
            for layer in (block.to_out, block.mlp[2]):
                layer.weight.data.mul_(0.5)


@torch.no_grad()
def begin_fusion(task: EncoderTask, trained: EncoderTask, rooms: Rooms, count: int = 24) -> EncoderTask:
    """A task that goes on with a trained encoder and readings of patches; its aggregator begins as a fusion of the
    distances (`lifting.begin_as_fusion`) that a ridge regression reads off the features of `count` rooms."""
    names = ("encoder.", "patches.")
    state = {k: v for k, v in trained.state_dict().items() if k.startswith(names)}
    task.load_state_dict({**task.state_dict(), **state})
    width = task.meters.in_features
    left, right = torch.zeros(width + 1, width + 1, dtype=torch.float64), torch.zeros(width + 1, dtype=torch.float64)
    for i in range(min(count, len(rooms))):
        with torch.autocast("cpu", torch.bfloat16):
            tokens = task.encoder(rooms[i].images[::2].float() / 255)[:, task.encoder.prefix_tokens :]
        rows = F.pad(tokens.double().flatten(0, 1), (0, 1), value=1.0)
        left += rows.T @ rows
        right += rows.T @ rooms[i].dense[::2, 9].double().exp().flatten()
    found = torch.linalg.solve(left + torch.eye(width + 1, dtype=torch.float64), right).float()
    task.meters.weight.data[0], task.meters.bias.data[0] = found[:-1], found[-1]
    begin_as_fusion(task.aggregator, found[:-1], float(found[-1]))
    return task


def is_hidden(name: str, _: nn.Parameter) -> bool:
    """Which matrices Muon takes."""
    return ".blocks." in name


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """uint8 [V, 3, S, S] -> [0, 1], as bright as another exposure would be, some a little blurred."""
    out = images.float() / 255 * float(rng.uniform(0.85, 1.15))
    soft = torch.from_numpy(rng.random(len(out)) < 0.4)
    if bool(soft.any()):
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = (line[:, None] * line)[None, None].expand(3, 1, 3, 3)
        out[soft] = F.conv2d(F.pad(out[soft], [1] * 4, mode="replicate"), kernel, groups=3)
    return out.clamp_(0, 1)


def choose(room: RoomSample, rng: np.random.Generator, count: int) -> tuple[Tensor, int]:
    """Views of a room and one of its chunks."""
    views = torch.from_numpy(rng.permutation(len(room.images))[:count].copy())
    return views, int(rng.integers(len(room.offsets)))


def cell_targets(room: RoomSample, chunk: int, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of a chunk's cells [4096, OUTPUTS] (codes standardized, shape times `scale` [16]), whether a cell is
    occupied [4096], and whether it is near the surface, so that it has codes."""
    rows, place = room.inside(chunk)
    index = (place[:, 0] * CELLS + place[:, 1]) * CELLS + place[:, 2]
    out, occupied, near = torch.zeros(CELLS**3, OUTPUTS), torch.zeros(CELLS**3), torch.zeros(CELLS**3)
    out[:, :2] = room.block(chunk).flatten(1).T
    occupied[index], near[index] = room.occupied[rows].float(), 1.0
    out[index, 3 : 3 + SHAPE] = room.code(rows) * scale
    out[index, 3 + SHAPE :] = room.code(rows, texture=True)
    return out, occupied, near


def texture_weight() -> Tensor:
    """[14] color means count in full, metallic and roughness half, slopes little."""
    return torch.tensor([1.0] * 3 + [0.5] * 2 + [0.1] * (TEXTURE - 5))


def cell_terms(read: Tensor, target: Tensor, occupied: Tensor, near: Tensor) -> dict[str, Tensor]:
    """Losses of the readings [N, OUTPUTS] of cells."""
    on, weight = occupied[:, None], texture_weight()
    error = (read - target).square()
    return {
        "structure": error[:, :2].mean(),
        "occupied": F.binary_cross_entropy_with_logits(read[:, 2], occupied),
        "shape": 2 * (error[:, 3 : 3 + SHAPE] * near[:, None]).sum() / near.sum() / SHAPE,
        "texture": 0.5 * (error[:, 3 + SHAPE :] * weight * on).sum() / on.sum() / weight.sum(),
    }


def patch_terms(read: Tensor, meters: Tensor, dense: Tensor) -> dict[str, Tensor]:
    """Losses of the readings [B, P, DENSE] and [B, P] of patches against `data.RoomSample.dense` [B, DENSE, s, s]."""
    target = dense.float().flatten(2).transpose(1, 2)
    error = (read[..., 4:] - target[..., 4:]).square()
    return {
        "part": 0.3 * F.cross_entropy(read[..., :4].flatten(0, 1), target[..., :4].flatten(0, 1)),
        "color": 4 * error[..., :5].mean(),
        "distance": 3 * error[..., 5].mean(),
        "meters": 0.6 * (meters - target[..., 9].exp()).square().mean(),
        "height": 0.5 * error[..., 6].mean(),
        "normal": 0.5 * error[..., 7:].mean(),
    }


def encoder_terms(
    task: EncoderTask, rooms: Sequence[RoomSample], chosen: Sequence[tuple[Tensor, int]], images: Tensor, scale: Tensor,
    stretch: Sequence[float] | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Loss terms of rooms seen in the same number of `chosen` views each; images [B V, 3, S, S] in [0, 1]."""
    with torch.autocast("cpu", torch.bfloat16):
        tokens = task.encoder(images)
        seen, targets = [], []
        side = round((tokens.shape[1] - task.encoder.prefix_tokens) ** 0.5)
        for i, (room, (views, chunk)) in enumerate(zip(rooms, chosen)):
            extrinsics = room.extrinsics(chunk)[views]
            if stretch is not None:
                extrinsics = extrinsics * torch.tensor([stretch[i]] * 3 + [1.0])[:, None]
            seen.append(visible_samples(voxel_centers(CELLS), extrinsics, room.lens[views], side))
            targets.append(cell_targets(room, chunk, scale))
        joined = join(seen, len(chosen[0][0]) * tokens.shape[1])
        voxels = aggregate_visible(task.aggregator, tokens.flatten(0, 1), joined)
        read = task.cells(voxels).float() + task.places.repeat(len(rooms), 1)
        seen_by = tokens[:, task.encoder.prefix_tokens :]
        patches, meters = task.patches(seen_by).float(), task.meters(seen_by).float()[..., 0]
    dense = torch.cat([room.dense[views] for room, (views, _) in zip(rooms, chosen)])
    target, occupied, near = (torch.cat(parts) for parts in zip(*targets))
    return cell_terms(read, target, occupied, near) | patch_terms(patches, meters, dense)


def encoder_loss(rooms: Rooms, scale: Tensor, batch: int):
    """The stage's loss(task, step)."""

    def loss(task: EncoderTask, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0xE9C, step])
        count = int(rng.integers(LEAST_VIEWS, MOST_VIEWS + 1))
        picked = [rooms[int(i)] for i in rng.choice(len(rooms), batch, replace=batch > len(rooms))]
        chosen = [choose(room, rng, count) for room in picked]
        images = torch.cat([augmented(room.images[views], rng) for room, (views, _) in zip(picked, chosen)])
        with math_attention():
            return encoder_terms(task, picked, chosen, images, scale, rng.uniform(0.95, 1.05, batch).tolist())

    return loss


@torch.no_grad()
def encoder_figures(task: EncoderTask, rooms: Rooms, scale: Tensor, count: int = 24) -> dict[str, float]:
    """Held-out terms, the error of the distance, and the IoU of the occupancy the linear reading gives at the best of a
    few thresholds, beside that of the table of places alone."""
    sums: dict[str, float] = {}
    levels = (-1.5, -1.0, -0.5, 0.0, 0.5)
    both, either = torch.zeros(2, len(levels)), torch.zeros(2, len(levels))
    count = min(count, len(rooms))
    for i in range(count):
        room, rng = rooms[i], np.random.default_rng([0xE9D, i])
        chosen = choose(room, rng, min(12, len(room.images)))
        images = room.images[chosen[0]].float() / 255
        for name, value in encoder_terms(task, [room], [chosen], images, scale).items():
            sums[name] = sums.get(name, 0.0) + float(value) / count
        with torch.autocast("cpu", torch.bfloat16):
            tokens = task.encoder(images)
            side = round((tokens.shape[1] - task.encoder.prefix_tokens) ** 0.5)
            points = voxel_centers(CELLS)
            seen = visible_samples(points, room.extrinsics(chosen[1])[chosen[0]], room.lens[chosen[0]], side)
            voxels = aggregate_visible(task.aggregator, tokens.flatten(0, 1), seen)
            logit = task.cells(voxels).float()[:, 2] + task.places[:, 2]
        _, true, _ = cell_targets(room, chosen[1], scale)
        for k, level in enumerate(levels):
            for row, one in enumerate((logit, task.places[:, 2])):
                both[row, k] += ((one > level) & (true > 0)).sum()
                either[row, k] += ((one > level) | (true > 0)).sum()
    iou = both / either.clamp_min(1)
    figures = {f"held_out_{k}": v for k, v in sums.items()}
    return figures | {"iou": float(iou[0].max()), "at": levels[int(iou[0].argmax())], "iou_places": float(iou[1].max())}
