"""The decoders, trained to read the linear latents: occupancy, dual grid and materials, also from inexact latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.sparse_resample import subdivide
from ...models.trellis2.sc_vae import ShapeDecoder, SparseVaeDecoder
from ...models.trellis2.sparse_structure_vae import SparseStructureDecoder
from ...scene.sparse import SparseTensor
from .data import RESOLUTION, Shards
from .derived import Latents
from .latents import CELL

MISSING = -1


def is_hidden(name: str, _: nn.Parameter) -> bool:
    """Muon takes the matrices of the inner MLPs."""
    return ".mlp." in name


@dataclass(frozen=True)
class GridTargets:
    """What a batch of objects decodes to.

    cells [N, 4] int32: tokens (item, x, y, z); exact [N, C]: their latents; levels: per subdivision the dense bool grid
    [B, r, r, r] of the voxels that exist after it; rows [B, R, R, R] int64: row of each fine voxel in the targets
    below, `MISSING` where there is none; dual, flags, materials [M, ...].
    """

    cells: Tensor
    exact: Tensor
    levels: list[Tensor]
    rows: Tensor
    dual: Tensor
    flags: Tensor
    materials: Tensor
    batch: int


def make_targets(
    shards: Shards, latents: Latents, indices: Tensor, generator: torch.Generator, cells: list[Tensor] | None = None
) -> GridTargets:
    """Targets of some objects; tokens are the occupied cells and some of those near the surface (or `cells`)."""
    samples = [shards[int(index)] for index in indices]
    tokens, exact, duals, flags, materials = [], [], [], [], []
    rows = torch.full((len(samples), *[RESOLUTION] * 3), MISSING)
    total = 0
    for item, sample in enumerate(samples):
        grid, index = sample.grid(), int(indices[item])
        chosen = token_cells(latents, index, generator) if cells is None else cells[item].long()
        tokens.append(F.pad(chosen, (1, 0), value=item).int())
        exact.append(latents.code(index, chosen))
        rows[(item, *grid.coords.long().T)] = torch.arange(total, total + len(grid.coords))
        total += len(grid.coords)
        duals.append(grid.dual)
        flags.append(grid.intersected)
        materials.append(sample.materials.float() / 255)
    levels, level = [], (rows != MISSING).float()[:, None]
    while level.shape[-1] > RESOLUTION // CELL:
        levels.append(level[:, 0] > 0)
        level = F.max_pool3d(level, 2)
    return GridTargets(
        torch.cat(tokens), torch.cat(exact), levels[::-1], rows, torch.cat(duals), torch.cat(flags),
        torch.cat(materials), len(samples),
    )  # fmt: skip


def token_cells(latents: Latents, index: int, generator: torch.Generator, most: float = 0.5) -> Tensor:
    """Cells [N, 3] of an object: all occupied ones, and a share, drawn up to `most`, of the others near the surface."""
    near, share = latents.near[index], most * torch.rand((), generator=generator)
    return torch.nonzero(latents.occupied[index] | (near & (torch.rand(near.shape, generator=generator) < share)))


def children(coords: Tensor, level: Tensor) -> Tensor:
    """[N, 8] bool, the children of voxels coords [N, 4] that exist in the dense grid of the next level."""
    b, x, y, z = coords.long().unbind(1)
    return torch.stack([level[b, 2 * x + (k & 1), 2 * y + (k >> 1 & 1), 2 * z + (k >> 2)] for k in range(8)], 1)


def guided(
    decoder: SparseVaeDecoder, z: SparseTensor, levels: list[Tensor], extra: bool
) -> tuple[SparseTensor, list[tuple[Tensor, Tensor]]]:
    """The decoder run along the true voxels, and with `extra` those it would keep besides.

    Returns its raw rows and, per level, predicted logits and true masks [N, 8].
    """
    h, found = z.replace(decoder.from_latent(z.feats)), []
    for level, blocks in enumerate(decoder.blocks[:-1]):
        *inner, up = blocks
        for block in inner:
            h = block(h)
        mask = keep = children(h.coords, levels[level])
        if decoder.config.pred_subdiv:
            logits = up.subdivision(h).feats.float()
            found.append((logits, mask))
            keep = mask | (logits > 0) if extra else mask
        h = up(h, subdivide(h, keep))
    for block in decoder.blocks[-1]:
        h = block(h)
    return h.replace(decoder.output_layer(F.layer_norm(h.feats.float(), h.feats.shape[-1:]))), found


def perturbed(exact: Tensor, cells: Tensor, batch: int, generator: torch.Generator, most: float = 0.5) -> Tensor:
    """Latents with errors such as a flow makes: shrunk toward the mean and noisy, by an amount drawn per object."""
    amount = most * torch.rand(batch, 1, generator=generator)[cells[:, 0].long()]
    rising = torch.linspace(0.4, 1.0, exact.shape[1])
    return exact * (1 - 0.5 * amount * rising) + amount * rising * torch.randn(exact.shape, generator=generator)


def shape_terms(decoder: ShapeDecoder, given: Tensor, targets: GridTargets, extra: bool = True) -> dict[str, Tensor]:
    """Loss terms of the shape decoder for the latents `given` [N, C] on the tokens of the targets."""
    with torch.autocast("cpu", torch.bfloat16):
        raw, found = guided(decoder, SparseTensor(given, targets.cells, targets.batch), targets.levels, extra)
    row = targets.rows[tuple(raw.coords.long().T)]
    true = row != MISSING
    feats = raw.feats.float()
    flags = torch.where(true[:, None], targets.flags[row.clamp_min(0)], False).float()
    vertex = 2 * torch.sigmoid(feats[:, :3]) - 0.5
    subdivision = sum(
        F.binary_cross_entropy_with_logits(logits, mask.float(), pos_weight=torch.tensor(2.0)) for logits, mask in found
    )
    return {
        "flags": F.binary_cross_entropy_with_logits(feats[:, 3:6], flags, pos_weight=torch.tensor(1.5)),
        "dual": 5 * (vertex[true] - targets.dual[row[true]]).square().mean(),
        "subdivision": subdivision,
        "split": 0.01 * feats[:, 6].square().mean(),  # no diagonal is preferred
    }


def texture_terms(decoder: SparseVaeDecoder, given: Tensor, targets: GridTargets) -> dict[str, Tensor]:
    """Loss of the texture decoder for texture latents `given` [N, C]: L1 on [-1, 1] materials, alpha 1."""
    with torch.autocast("cpu", torch.bfloat16):
        raw, _ = guided(decoder, SparseTensor(given, targets.cells, targets.batch), targets.levels, False)
    row = targets.rows[tuple(raw.coords.long().T)]
    wanted = F.pad(targets.materials[row] * 2 - 1, (0, 1), value=1.0)
    return {"texture": (raw.feats.float() - wanted).abs().mean()}


def structure_terms(
    decoder: SparseStructureDecoder, latent: Tensor, occupied: Tensor, generator: torch.Generator, most: float = 0.6
) -> dict[str, Tensor]:
    """Loss of the structure decoder on latents [B, C, r, r, r] with errors, and their occupancy [B, 2r, 2r, 2r]."""
    amount = most * torch.rand(len(latent), 1, 1, 1, 1, generator=generator)
    smooth = F.avg_pool3d(F.pad(latent, [1] * 6, mode="replicate"), 3, 1)
    blur = torch.rand(amount.shape, generator=generator) * amount
    given = (1 - blur) * latent + blur * smooth + 0.5 * amount * torch.randn(latent.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(given)[:, 0].float()
    target = occupied.float()
    probability = torch.sigmoid(logits)
    dice = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
    return {
        "occupancy": 5 * F.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor(1.5)),
        "dice": dice,
    }


def structure_tuning_terms(
    decoder: SparseStructureDecoder, latent: Tensor, occupied: Tensor, near: Tensor
) -> dict[str, Tensor]:
    """Loss of the structure decoder on latents the flow sampled; occupied, near [B, 2r, 2r, 2r] bool.

    A missing cell is a hole in the surface, a cell too many beside the surface costs nothing (the shape decoder keeps
    no voxel there), so that the two weigh differently.
    """
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder(latent)[:, 0].float()
    weight = torch.where(occupied, 3.0, torch.where(near, 0.15, 1.0))
    error = F.binary_cross_entropy_with_logits(logits, occupied.float(), reduction="none")
    return {"occupancy": 5 * (error * weight).mean()}
