"""The structure decoder of the embedded family: occupancy of the cells from their structure latents.

First on exact latents with errors added, then on what the structure flow samples.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.genrecon.flows import SceneCondition, ViewTokens
from ...models.trellis2.config import StructureVaeConfig
from ...models.trellis2.sparse_structure_vae import SparseStructureDecoder
from ...scene.sparse import SparseTensor
from ..cascade.stages import math_attention
from .data import Rooms, RoomSample
from .flow_stages import Scales, batch_condition, make_batch
from .volumes import CELLS

DECODER = StructureVaeConfig(latent_channels=2, num_res_blocks=1, num_res_blocks_middle=1, channels=(32,))
TUNING = (3.0, 0.2)  # weights of the second stage, which the flow's errors would else fill with holes
BIAS = 1.0  # logits are lowered by it in the loss, since a voxel is kept from -1 on


def occupied_block(room: RoomSample, chunk: int) -> tuple[Tensor, Tensor]:
    """Occupied and near cells [16, 16, 16] bool of a chunk."""
    rows, place = room.inside(chunk)
    occupied, near = torch.zeros(2, *[CELLS] * 3, dtype=torch.bool)
    near[tuple(place.T)] = True
    occupied[tuple(place[room.occupied[rows]].T)] = True
    return occupied, near


def decoder_terms(
    decoder: SparseStructureDecoder, latent: Tensor, occupied: Tensor, near: Tensor,
    weights: tuple[float, float] = (1.6, 0.5),
) -> dict[str, Tensor]:  # fmt: skip
    """Loss for latents [B, 2, r, r, r]; a missing cell is a hole, one too many beside the surface costs little.

    weights: of an occupied cell and of a free one near the surface; all others count 1.
    """
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(latent)[:, 0].float() + BIAS
    weight = torch.where(occupied, weights[0], torch.where(near, weights[1], 1.0))
    error = F.binary_cross_entropy_with_logits(logits, occupied.float(), reduction="none")
    return {"occupancy": 5 * (error * weight).mean()}


def exact_loss(rooms: Rooms, batch: int):
    """loss(decoder, step) on exact latents with errors."""

    def loss(decoder, step):
        rng = np.random.default_rng([0xDEC, step])
        draws = torch.Generator().manual_seed(step)
        latents, targets = [], []
        for i in rng.integers(len(rooms), size=batch):
            room = rooms[int(i)]
            chunk = int(rng.integers(len(room.offsets)))
            latents.append(room.block(chunk))
            targets.append(torch.stack(occupied_block(room, chunk)))
        latent, target = torch.stack(latents), torch.stack(targets)
        amount = 0.7 * torch.rand(batch, 1, 1, 1, 1, generator=draws)
        soft = F.avg_pool3d(F.pad(latent, [1] * 6, mode="replicate"), 3, 1)
        blur = torch.rand(amount.shape, generator=draws) * amount
        given = (1 - blur) * latent + blur * soft + 0.5 * amount * torch.randn(latent.shape, generator=draws)
        return decoder_terms(decoder, given, target[:, 0], target[:, 1])

    return loss


@torch.no_grad()
def sampled_chunks(flow, rooms, tokens, chosen, scales: Scales, steps: int, seed: int) -> Tensor:
    """Structure latents [B, 2, 16, 16, 16] the flow samples for whole chunks."""
    made = make_batch("structure", rooms, tokens, chosen, scales, np.random.default_rng(seed), True)
    count, draws = len(rooms), torch.Generator().manual_seed(seed)
    x = torch.randn(made.x0.shape, generator=draws)
    times = torch.linspace(1, 0, steps + 1)
    times = 3 * times / (1 + 2 * times)
    with torch.autocast("cpu", torch.bfloat16), math_attention():
        cond = SceneCondition([ViewTokens(t[0]) for t in made.tokens], batch_condition(flow, made))
        for t, after in zip(times, times[1:]):
            v = flow(SparseTensor(x, made.coords, count), torch.full((count,), 1000 * float(t)), cond).feats.float()
            x = x - (t - after) * v
    return x.view(count, CELLS, CELLS, CELLS, 2).permute(0, 4, 1, 2, 3)


def tuning_loss(rooms: Rooms, tokens: Tensor, flow, scales: Scales, batch: int):
    """loss(decoder, step) on latents that the flow samples."""

    def loss(decoder, step):
        rng = np.random.default_rng([0xDED, step])
        picked, chosen, targets = rng.integers(len(rooms), size=batch).tolist(), [], []
        for i in picked:
            room = rooms[i]
            views = torch.from_numpy(rng.permutation(len(room.images)).copy())
            chosen.append((views, int(rng.integers(len(room.offsets)))))
            targets.append(torch.stack(occupied_block(room, chosen[-1][1])))
        steps = 1 + step % 3
        seen = [rooms[i] for i in picked], [tokens[i] for i in picked]
        latent, target = sampled_chunks(flow, *seen, chosen, scales, steps, step), torch.stack(targets)
        return decoder_terms(decoder, latent, target[:, 0], target[:, 1], TUNING)

    return loss


def make_decoder() -> SparseStructureDecoder:
    return SparseStructureDecoder(DECODER)


def is_hidden(name, parameter) -> bool:
    """AdamW takes all of it."""
    return False


@torch.no_grad()
def structure_figures(
    decoder, flow, rooms: Rooms, tokens: Tensor, scales: Scales, steps: int = 1, count: int = 12, level: float = -1.0
) -> dict[str, float]:  # fmt: skip
    """Of held-out chunks: IoU of the cells above `level`, the share of true cells found, and of found cells that are
    near the surface."""
    both = either = found = true = good = 0
    for i in range(min(count, len(rooms))):
        room = rooms[i]
        chosen = [(torch.arange(len(room.images)), i % len(room.offsets))]
        latent = sampled_chunks(flow, [room], [tokens[i]], chosen, scales, steps, 7)
        made = decoder(latent)[0, 0] > level
        occupied, near = occupied_block(room, chosen[0][1])
        both, either = both + int((made & occupied).sum()), either + int((made | occupied).sum())
        found, true, good = found + int(made.sum()), true + int(occupied.sum()), good + int((made & near).sum())
    return {"iou": both / max(1, either), "recall": both / max(1, true), "beside": good / max(1, found)}
