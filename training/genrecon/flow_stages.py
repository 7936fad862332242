"""The three flows of the embedded family: the released architecture, small, trained as a whole on frozen tokens.

The published recipe (`recipe.py`) puts LoRA, an aggregator and `proj_linears` on a frozen flow of 1.3 billion
parameters that knows objects already. There is no such flow at this size, so base, aggregator and `proj_linears` are
trained together, and there is no LoRA. All stages are trained as the sparse class on some of a chunk's cells: the
structure flow on upright columns of them, whose weights the dense class takes as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.view_projection import voxel_centers
from ...models.genrecon.aggregator import ViewAggregator
from ...models.genrecon.flows import ConditionedLatentFlow, ConditionedStructureFlow, SceneCondition, ViewTokens
from ...models.trellis2.config import FlowConfig
from ...models.trellis2.tiny_encoder import TinyImageEncoder
from ...scene.sparse import SparseTensor
from ..cascade.stages import math_attention
from .data import Rooms, RoomSample
from .encoder_stage import SHAPE, TEXTURE
from .lifting import aggregate_visible, clear_unused, join, visible_samples
from .volumes import CELLS

COMMON = dict(
    resolution=CELLS, model_channels=128, cond_channels=128, num_heads=2, mlp_ratio=4.0, pe_mode="ape",
    share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True,
)  # fmt: skip
CONFIGS = {
    "structure": FlowConfig(in_channels=2, out_channels=2, num_blocks=3, **COMMON),
    "shape": FlowConfig(in_channels=SHAPE, out_channels=SHAPE, num_blocks=3, **COMMON),
    "texture": FlowConfig(in_channels=SHAPE + TEXTURE, out_channels=TEXTURE, num_blocks=2, **COMMON),
}
AGGREGATOR = {"use_camera": True}
COLUMN = 8  # cells along x and y that a structure step sees of a chunk
WHOLE = 0.06  # share of structure steps that see whole chunks, few at a time
SLOPES = 0.4  # of texture slopes in the normalized latent
DROPPED = 0.05
PATCHES, PREFIX = 24, 5


def make_flow(stage: str, aggregator: ViewAggregator | None = None, config: FlowConfig | None = None) -> nn.Module:
    """A fresh flow whose aggregator begins as the encoder stage's; the first block takes its features as they are."""
    flow = ConditionedLatentFlow(config or CONFIGS[stage], None, AGGREGATOR)
    width = flow.config.model_channels
    for block in flow.blocks:
        block.modulation.data.zero_()
        block.modulation.data[2 * width : 3 * width] = 1
        block.modulation.data[5 * width :] = 1
        for layer in (block.self_attn.to_out, block.mlp.mlp[2], block.cross_attn.to_out):
            layer.weight.data.mul_(0.4)
            layer.bias.data.zero_()
    flow.adaLN_modulation[1].weight.data.mul_(0.2)
    flow.adaLN_modulation[1].bias.data.zero_()
    nn.init.eye_(flow.proj_linears[0].weight)
    flow.out_layer.weight.data.zero_()
    flow.out_layer.bias.data.zero_()
    clear_unused(flow.aggregator)
    if aggregator is not None:
        flow.aggregator.load_state_dict(aggregator.state_dict())
    return flow


def dense_flow(flow: nn.Module) -> ConditionedStructureFlow:
    """The structure flow as the class that samples it: the same weights, all cells of a chunk."""
    dense = ConditionedStructureFlow(flow.config, None, AGGREGATOR)
    dense.load_state_dict({**dense.state_dict(), **flow.state_dict()})
    return dense.eval().requires_grad_(False)


def is_hidden(name: str, _: nn.Parameter) -> bool:
    """Muon takes the matrices of the blocks."""
    return name.startswith("blocks.")


# ---- tokens ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def encode_rooms(encoder: TinyImageEncoder, rooms: Rooms, path: Path) -> Tensor:
    """Tokens [rooms, V, prefix + P, D] float16 of all pictures, kept in a .npy file that is mapped."""
    if not path.exists():
        partial, out = path.with_suffix(".part"), None
        for i in range(len(rooms)):
            with torch.autocast("cpu", torch.bfloat16):
                tokens = encoder(rooms[i].images.float() / 255).half().numpy()
            if out is None:
                shape = (len(rooms), *tokens.shape)
                out = np.lib.format.open_memmap(partial, "w+", dtype=np.float16, shape=shape)
            out[i] = tokens
        out.flush()
        partial.replace(path)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


# ---- what one step sees ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FlowBatch:
    """x0 [N, C] normalized at coords [N, 4] of B chunks; concat [N, K] or None; tokens [B, V, L, D]; extrinsics
    [B, V, 4, 4] and lens [B, V, 3, 3]."""

    x0: Tensor
    coords: Tensor
    concat: Tensor | None
    tokens: Tensor
    extrinsics: Tensor
    lens: Tensor


@dataclass(frozen=True)
class Scales:
    """What standardized codes are multiplied by: shape [16], texture [14]."""

    shape: Tensor
    texture: Tensor

    @classmethod
    def of(cls, shape_std: Tensor) -> Scales:
        weights = [1.0] * 5 + [SLOPES] * (TEXTURE - 5)
        return cls((shape_std / shape_std[0]).sqrt(), torch.tensor(weights))


def structure_cells(rng: np.random.Generator, whole: bool) -> Tensor:
    """Places [N, 3] of the cells a structure step sees."""
    axis = torch.arange(CELLS)
    if whole:
        return torch.cartesian_prod(axis, axis, axis)
    x, y = (int(v) for v in rng.integers(0, CELLS - COLUMN + 1, 2))
    return torch.cartesian_prod(axis[x : x + COLUMN], axis[y : y + COLUMN], axis)


def surface_rows(room: RoomSample, chunk: int, rng: np.random.Generator, most: float = 0.4) -> tuple[Tensor, Tensor]:
    """Rows and places of the cells a shape or texture step sees: all occupied ones, some of those beside them."""
    rows, place = room.inside(chunk)
    share = most * rng.random()
    beside = torch.from_numpy(rng.random(len(rows)) < share)
    kept = room.occupied[rows] | beside
    return rows[kept], place[kept]


def make_batch(
    stage: str, rooms: Sequence[RoomSample], tokens: Sequence[Tensor], chosen: Sequence[tuple[Tensor, int]],
    scales: Scales, rng: np.random.Generator, whole: bool = False,
) -> FlowBatch:  # fmt: skip
    """The chunks chosen (views [V], chunk) of some rooms; tokens: of all views of each room."""
    x0, coords, concat = [], [], []
    for item, (room, (_, chunk)) in enumerate(zip(rooms, chosen)):
        if stage == "structure":
            place = structure_cells(rng, whole)
            x0.append(room.block(chunk)[:, place[:, 0], place[:, 1], place[:, 2]].T)
        else:
            rows, place = surface_rows(room, chunk, rng)
            shape = room.code(rows) * scales.shape
            if stage == "shape":
                x0.append(shape)
            else:
                x0.append(room.code(rows, texture=True) * scales.texture)
                noise = torch.from_numpy(rng.normal(size=shape.shape)).float() * scales.shape
                concat.append(shape + 0.4 * rng.random() * noise)  # as the shape flow errs
        coords.append(F.pad(place, (1, 0), value=item).int())
    views = [v for v, _ in chosen]
    return FlowBatch(
        torch.cat(x0), torch.cat(coords), torch.cat(concat) if concat else None,
        torch.stack([t[v].float() for t, v in zip(tokens, views)]),
        torch.stack([room.extrinsics(c)[v] for room, (v, c) in zip(rooms, chosen)]),
        torch.stack([room.lens[v] for room, v in zip(rooms, views)]),
    )  # fmt: skip


def batch_condition(flow: nn.Module, batch: FlowBatch) -> Tensor:
    """[N, D] what the views say about each cell, with gradients into the aggregator."""
    seen = []
    for item in range(len(batch.tokens)):
        points = voxel_centers(CELLS, batch.coords[batch.coords[:, 0] == item, 1:])
        seen.append(visible_samples(points, batch.extrinsics[item], batch.lens[item], PATCHES, PREFIX))
    joined = join(seen, batch.tokens.shape[1] * batch.tokens.shape[2])
    return aggregate_visible(flow.aggregator, batch.tokens.flatten(0, 2), joined)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Flow times [count]: the sigmoid of N(1, 1), every fourth close to 1, where few-step sampling starts."""
    t = torch.sigmoid(1 + torch.randn(count, generator=generator))
    late = 1 - 0.03 * torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.25, late, t)


def flow_terms(flow: nn.Module, batch: FlowBatch, generator: torch.Generator, dropped: float = DROPPED) -> dict:
    """Velocity error of a batch; `dropped` of the chunks have no condition."""
    count, item = len(batch.tokens), batch.coords[:, 0].long()
    t = draw_times(count, generator)
    noise = torch.randn(batch.x0.shape, generator=generator)
    at = t[item][:, None]
    kept = (torch.rand(count, generator=generator) >= dropped).float()
    with torch.autocast("cpu", torch.bfloat16):
        voxels = batch_condition(flow, batch) * kept[item][:, None]
        views = [ViewTokens(tokens[0] * keep) for tokens, keep in zip(batch.tokens, kept)]
        x = SparseTensor((1 - at) * batch.x0 + at * noise, batch.coords, count)
        v = flow(x, 1000 * t, SceneCondition(views, voxels), batch.concat).feats.float()
    return {"velocity": (v - (noise - batch.x0)).square().mean()}


def flow_loss(stage: str, rooms: Rooms, tokens: Tensor, scales: Scales, batch: int):
    """A flow stage's loss(flow, step)."""

    def loss(flow: nn.Module, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0xF10, step])
        whole = stage == "structure" and rng.random() < WHOLE
        some = max(1, batch // 8) if whole else batch
        picked = rng.choice(len(rooms), some, replace=some > len(rooms)).tolist()
        count = int(rng.integers(8, 17))
        chosen = []
        for i in picked:
            room = rooms[i]
            views = torch.from_numpy(rng.permutation(len(room.images))[:count].copy())
            chosen.append((views, int(rng.integers(len(room.offsets)))))
        made = make_batch(stage, [rooms[i] for i in picked], [tokens[i] for i in picked], chosen, scales, rng, whole)
        with math_attention():
            return flow_terms(flow, made, torch.Generator().manual_seed(step))

    return loss


def flow_args(flow: nn.Module, stage: str) -> dict:
    """Constructor arguments as a file states them."""
    args = {k: v for k, v in asdict(flow.config).items() if v is not None and k != "dtype"}
    return args | {"dense": stage == "structure", "aggregator": AGGREGATOR}
