"""The three flows on frozen image features: start values, losses, and what they are conditioned on."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...kernels.projection import bilinear_corners, grid_points, weighted_rows
from ...models.trellis2.conditions import Condition
from ...models.trellis2.config import FlowConfig
from ...models.trellis2.image_condition import FrontCamera
from ...models.trellis2.slat_flow import StructuredLatentFlow
from ...models.trellis2.sparse_structure_flow import SparseStructureFlow
from ...models.trellis2.tiny_encoder import TinyImageEncoder
from ...scene.sparse import SparseTensor
from .encoder_stage import resampling, row_resampling

COMMON = dict(
    cond_channels=128, proj_in_channels=128, num_heads=2, mlp_ratio=4.0, pe_mode="ape", share_mod=True,
    qk_rms_norm=True, qk_rms_norm_cross=True, image_attn_mode="proj",
)  # fmt: skip
STRUCTURE_FLOW = FlowConfig(resolution=8, in_channels=16, out_channels=16, model_channels=160, num_blocks=4, **COMMON)
SHAPE_FLOW = FlowConfig(resolution=16, in_channels=16, out_channels=16, model_channels=160, num_blocks=4, **COMMON)
TEXTURE_FLOW = FlowConfig(resolution=16, in_channels=30, out_channels=14, model_channels=128, num_blocks=3, **COMMON)


def initialize(flow: nn.Module) -> nn.Module:
    """Start values for short runs: open gates, small residual branches, a last layer of zeros."""
    channels = flow.config.model_channels
    for block in flow.blocks:
        block.modulation.data.zero_()
        block.modulation.data[2 * channels : 3 * channels] = 1
        block.modulation.data[5 * channels :] = 1
        for layer in (block.self_attn.to_out, block.mlp.mlp[2], block.cross_attn.cross_attn_block.to_out):
            layer.weight.data.mul_(0.4)
            layer.bias.data.zero_()
    flow.adaLN_modulation[1].weight.data.mul_(0.2)
    flow.adaLN_modulation[1].bias.data.zero_()
    flow.out_layer.weight.data.zero_()
    flow.out_layer.bias.data.zero_()
    return flow


def is_hidden(name: str, _: nn.Parameter) -> bool:
    """Muon takes the matrices of the blocks."""
    return name.startswith("blocks.")


@torch.no_grad()
def encode_images(encoder: TinyImageEncoder, images: Tensor, batch: int = 64) -> Tensor:
    """uint8 [N, 3, S, S] -> tokens [N, prefix + P, C] float16."""
    found = []
    for part in images.split(batch):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(encoder(part.float() / 255).half())
    return torch.cat(found)


def dense_condition(tokens: Tensor, fov: Tensor, resolution: int, prefix: int = 5, size: int = 128) -> Condition:
    """Condition of the structure flow: tokens [B, prefix + P, C] projected onto the R^3 grid; fov [B] radians."""
    side = math.isqrt(tokens.shape[1] - prefix)
    maps = tokens[:, prefix:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)[:, None]  # [B, 1, C, v, u]
    columns, rows = resampling(resolution, fov, side, size), row_resampling(resolution, fov, side, size)
    read = rows[:, :, None] @ maps @ columns[:, :, None].transpose(-1, -2)  # [B, z, C, y, x]
    return Condition(tokens[:, :prefix].float(), read.permute(0, 4, 3, 1, 2).flatten(1, 3))


def sparse_condition(
    tokens: Tensor, fov: Tensor, coords: Tensor, resolution: int, prefix: int = 5, size: int = 128
) -> Condition:
    """Condition of the sparse flows: tokens projected onto the voxels coords [N, 4]; fov [B] radians."""
    side = math.isqrt(tokens.shape[1] - prefix)
    maps, item = tokens[:, prefix:].float().flatten(0, 1), coords[:, 0].long()
    pixels = []
    for index, part in enumerate(coords[:, 1:].split(torch.bincount(item, minlength=len(tokens)).tolist())):
        pixels.append(FrontCamera(float(fov[index])).uv(grid_points(resolution, part), size)[0])
    index, weight = bilinear_corners(torch.cat(pixels), (size, size), side, side)
    return Condition(tokens[:, :prefix].float(), weighted_rows(maps, index + (item * side * side)[:, None], weight))


def drop_condition(cond: Condition, kept: Tensor, item: Tensor | None = None) -> Condition:
    """Zeros in place of the condition of the items that are not `kept` [B]; item [N]: of each sparse row."""
    rows = kept[:, None, None] if item is None else kept[item][:, None]
    return Condition(cond.tokens * kept[:, None, None], cond.projected * rows)


def draw_times(batch: int, generator: torch.Generator, mean: float = 1.0, spread: float = 1.0) -> Tensor:
    """Flow times [B], the sigmoid of a normal number."""
    return torch.sigmoid(mean + spread * torch.randn(batch, generator=generator))


def structure_flow_terms(
    flow: SparseStructureFlow, latent: Tensor, tokens: Tensor, fov: Tensor, generator: torch.Generator,
    dropped: float = 0.08,
) -> dict[str, Tensor]:  # fmt: skip
    """Velocity error for latents [B, C, r, r, r]; tokens [B, prefix + P, C], fov [B] radians."""
    batch = len(latent)
    t = draw_times(batch, generator)
    noise = torch.randn(latent.shape, generator=generator)
    at = t.view(-1, 1, 1, 1, 1)
    cond = dense_condition(tokens, fov, flow.config.resolution)
    cond = drop_condition(cond, (torch.rand(batch, generator=generator) >= dropped).float())
    with torch.autocast("cpu", torch.bfloat16):
        v = flow((1 - at) * latent + at * noise, 1000 * t, cond)
    return {"velocity": (v.float() - (noise - latent)).square().mean()}


def latent_flow_terms(
    flow: StructuredLatentFlow, latent: Tensor, coords: Tensor, tokens: Tensor, fov: Tensor,
    generator: torch.Generator, concat: Tensor | None = None, dropped: float = 0.08, mean: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Velocity error for normalized latents [N, C] on voxels coords [N, 4]; concat: as the flow takes it."""
    batch, item = len(tokens), coords[:, 0].long()
    t = draw_times(batch, generator, mean)
    noise = torch.randn(latent.shape, generator=generator)
    at = t[item][:, None]
    cond = sparse_condition(tokens, fov, coords, flow.config.resolution)
    cond = drop_condition(cond, (torch.rand(batch, generator=generator) >= dropped).float(), item)
    x = SparseTensor((1 - at) * latent + at * noise, coords, batch)
    with torch.autocast("cpu", torch.bfloat16):
        v = flow(x, 1000 * t, cond, concat).feats
    return {"velocity": (v.float() - (noise - latent)).square().mean()}


class Tokens:
    """Encoded pictures of a split, kept in a file: `tokens` [N, prefix + P, C] float16."""

    def __init__(self, path: Path | str, encoder: TinyImageEncoder | None = None, images: Tensor | None = None):
        path = Path(path)
        if not path.exists():
            partial = path.with_suffix(".part")
            torch.save({"tokens": encode_images(encoder, images)}, partial)
            partial.replace(path)
        self.tokens = torch.load(path, weights_only=True, mmap=True)["tokens"]
