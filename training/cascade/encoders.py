"""The encoders, trained to give the linear latents of existing meshes from their dual grids and materials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.trellis2.sc_vae import ShapeEncoder, SparseVaeEncoder
from ...models.trellis2.sparse_structure_vae import SparseStructureEncoder
from ...scene.sparse import SparseTensor
from .encoder_stage import draw

if TYPE_CHECKING:
    from .stages import Bench


def _batch(bench: Bench, rows: Tensor):
    """Voxels coords [M, 4], dual, flags, materials of some objects."""
    parts = []
    for item, index in enumerate(rows):
        sample = bench.shards()[int(index)]
        grid = sample.grid()
        coords = F.pad(grid.coords, (1, 0), value=item)
        parts.append((coords, grid.dual, grid.intersected, sample.materials.float() / 255))
    return tuple(torch.cat(part) for part in zip(*parts))


def _wanted(source, rows: Tensor, coords: Tensor) -> Tensor:
    return torch.cat([source.code(int(i), coords[coords[:, 0] == k][:, 1:]) for k, i in enumerate(rows)])


def structure_encoder_loss(bench: Bench, batch: int):
    """Squared error of the mean against the structure latent, from the occupancy alone."""
    data = bench.latents()

    def loss(encoder: SparseStructureEncoder, step: int) -> dict[str, Tensor]:
        rows = draw(len(data), batch, step, 10)
        with torch.autocast("cpu", torch.bfloat16):
            mean, logvar = encoder(data.occupied[rows][:, None].float())
        error = mean.float() - data.structure[rows].float()
        return {"code": error.square().mean(), "variance": 1e-3 * logvar.float().square().mean()}

    return loss


def shape_encoder_loss(bench: Bench, batch: int):
    """Squared error of the mean against the shape code, and a log variance held at zero."""
    data = bench.latents()

    def loss(encoder: ShapeEncoder, step: int) -> dict[str, Tensor]:
        rows = draw(len(data), batch, step, 7)
        coords, dual, flags, _ = _batch(bench, rows)
        with torch.autocast("cpu", torch.bfloat16):
            out = encoder.encode(coords, dual, flags, batch)
        error = out.mean.feats.float() - _wanted(data, rows, out.mean.coords)
        return {"code": error.square().mean(), "variance": 1e-3 * out.logvar.float().square().mean()}

    return loss


def texture_encoder_loss(bench: Bench, batch: int):
    """The same for the texture code."""
    data, textures = bench.latents(), bench.textures()

    def loss(encoder: SparseVaeEncoder, step: int) -> dict[str, Tensor]:
        rows = draw(len(data), batch, step, 8)
        coords, _, _, materials = _batch(bench, rows)
        feats = F.pad(materials * 2 - 1, (0, 1), value=1.0)
        with torch.autocast("cpu", torch.bfloat16):
            out = encoder(SparseTensor(feats, coords, batch))
        error = out.mean.feats.float() - _wanted(textures, rows, out.mean.coords)
        return {"code": error.square().mean(), "variance": 1e-3 * out.logvar.float().square().mean()}

    return loss
