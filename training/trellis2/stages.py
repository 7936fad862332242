"""What is minimized in every stage: batches of objects in, named and weighted loss terms out.

Whatever is random is drawn from the batch's own generator, so that a batch means the same in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.metrics import lpips_missing
from ...models.trellis2.cascade import ImageStage
from ...models.trellis2.conditions import AnyCondition, Condition, negative
from ...models.trellis2.image_condition import Pictures, projected_condition
from ...models.trellis2.naf import Naf
from ...models.trellis2.sc_vae import Encoded, shape_head
from ...scene.errors import MissingDependency
from ...scene.sparse import SparseTensor
from .recipe import Recipe, TimeOptions
from .surface_terms import surface_terms

Terms = dict[str, Tensor]


class Conditioner:
    """From pictures to the condition of a flow; the encoders are frozen and not part of what is trained."""

    def __init__(self, recipe: Recipe, encoder: nn.Module, naf: Naf | None = None):
        flow = recipe.networks["denoiser"]["args"]
        self.projects, self.naf, self.encoder = recipe.projects, naf, encoder.requires_grad_(False).eval()
        self.stage = ImageStage(recipe.data.image_size, int(flow["resolution"]), recipe.condition.naf_target)

    @torch.no_grad()
    def __call__(self, items: Sequence[dict[str, Any]], device: torch.device) -> AnyCondition:
        """The condition of a batch: dense without `coords` in the items, else for their voxels one after the other."""
        size = self.stage.image_size
        pictures = [Pictures(self.encoder, item["view"].picture, device=device) for item in items]
        if not self.projects:
            return torch.cat([one.tokens(size) for one in pictures])
        parts = [
            projected_condition(one, self.stage, item["view"].camera, item.get("coords"), self.naf)
            for one, item in zip(pictures, items)
        ]
        return Condition(torch.cat([p.tokens for p in parts]), torch.cat([p.projected for p in parts]))


def drop_items(cond: AnyCondition, dropped: Tensor, rows: Tensor | None) -> AnyCondition:
    """The condition with zeros for the items that are `dropped` [B]; rows [N]: the item of every sparse row."""
    if not bool(dropped.any()):
        return cond
    zeros = negative(cond)
    if isinstance(cond, Condition):
        which = dropped[:, None, None] if rows is None else dropped[rows][:, None]
        return Condition(
            torch.where(dropped[:, None, None], zeros.tokens, cond.tokens),
            torch.where(which, zeros.projected, cond.projected),
        )
    return torch.where(dropped[:, None, None], zeros, cond)


def flow_times(count: int, options: TimeOptions, generator: torch.Generator) -> Tensor:
    """Flow times [count] in (0, 1)."""
    if options.kind == "uniform":
        return torch.rand(count, generator=generator)
    return torch.sigmoid(torch.randn(count, generator=generator) * options.std + options.mean)


class Flow(nn.Module):
    """Conditional flow matching: x_t = (1 - t) x0 + (s + (1 - s) t) noise, the velocity (1 - s) noise - x0 is learned.

    Source: TRELLIS.2, `ImageConditionedFlowMatchingCFGTrainer` and its sparse and projecting forms.
    """

    def __init__(self, recipe: Recipe, networks: dict[str, nn.Module], conditioner: Conditioner):
        super().__init__()
        self.recipe = recipe
        self.denoiser = networks["denoiser"]
        self.conditioner = [conditioner]  # in a list: no part of this module

    def forward(self, items: Sequence[dict[str, Any]], generator: torch.Generator) -> Terms:
        """The error of the velocity on a batch of objects."""
        recipe, device = self.recipe, next(self.denoiser.parameters()).device
        t = flow_times(len(items), recipe.time, generator)
        dropped = torch.rand(len(items), generator=generator) < recipe.unconditional
        cond = self.conditioner[0](items, device)
        sparse = "coords" in items[0]
        latents = [item["latent"] for item in items]
        x0 = torch.cat(latents) if sparse else torch.stack(latents)
        noise = torch.randn(x0.shape, generator=generator)
        rows = torch.repeat_interleave(torch.arange(len(items)), torch.tensor([len(one) for one in latents]))
        at = t[rows][:, None] if sparse else t.view(-1, *[1] * (x0.ndim - 1))
        sigma = recipe.sigma_min
        x = (1 - at) * x0 + (sigma + (1 - sigma) * at) * noise
        target = ((1 - sigma) * noise - x0).to(device)
        cond = drop_items(cond, dropped.to(device), rows.to(device) if sparse else None)
        times = (1000 * t).to(device)
        if sparse:
            coords = joined_coords(items).to(device)
            concat = torch.cat([item["concat"] for item in items]).to(device) if "concat" in items[0] else None
            voxels = SparseTensor(x.to(device), coords, len(items))
            velocity = self.denoiser(voxels, times, cond, concat).feats
        else:
            velocity = self.denoiser(x.to(device), times, cond)
        return {"mse": F.mse_loss(velocity.float(), target)}


class StructureVae(nn.Module):
    """The dense autoencoder of the occupancy. Source: TRELLIS, `SparseStructureVaeTrainer`."""

    def __init__(self, recipe: Recipe, networks: dict[str, nn.Module]):
        super().__init__()
        self.recipe, self.encoder, self.decoder = recipe, networks["encoder"], networks["decoder"]

    def forward(self, items: Sequence[dict[str, Any]], generator: torch.Generator) -> Terms:
        """Reconstruction of the occupancy, and the divergence from a normal distribution."""
        device = next(self.decoder.parameters()).device
        occupied = torch.stack([item["occupied"] for item in items]).to(device)
        mean, logvar = self.encoder(occupied)
        logits = self.decoder(posterior(mean, logvar, generator)).float()
        options = self.recipe.losses
        if options.structure == "bce":
            error = F.binary_cross_entropy_with_logits(logits, occupied)
        else:
            probability = torch.sigmoid(logits)
            overlap = (probability * occupied).sum()
            error = 1 - (2 * overlap + 1) / (probability.sum() + occupied.sum() + 1)
        return {options.structure: error, "kl": options.kl * divergence(mean, logvar)}


class ShapeVae(nn.Module):
    """The sparse autoencoder of dual grids, subdivided along the truth. Source: TRELLIS.2, `ShapeVaeTrainer`."""

    def __init__(self, recipe: Recipe, networks: dict[str, nn.Module]):
        super().__init__()
        self.recipe, self.encoder, self.decoder = recipe, networks["encoder"], networks["decoder"]
        if recipe.losses.normal and recipe.losses.lpips:
            missing = lpips_missing()
            if missing:
                raise MissingDependency(f"{missing[:-1]}; --set losses.lpips=0 trains without it.")

    def forward(self, items: Sequence[dict[str, Any]], generator: torch.Generator) -> Terms:
        """Crossed edges, dual vertices, subdivision, divergence, and pictures of the surface if they are weighted."""
        device, options = next(self.decoder.parameters()).device, self.recipe.losses
        coords = joined_coords(items).to(device)
        vertices = torch.cat([item["vertices"] for item in items]).to(device)
        crossed = torch.cat([item["intersected"] for item in items]).to(device)
        code: Encoded = self.encoder.encode(coords, vertices, crossed, len(items))
        z = code.mean.replace(posterior(code.mean.feats, code.logvar, generator))
        decoded = self.decoder(z, code.subdivisions, supervise=True)
        raw = decoded.voxels.feats.float()
        vertex, _, weight = shape_head(raw, self.decoder.config.voxel_margin)
        subdivision = sum(
            F.binary_cross_entropy_with_logits(logits.feats.float(), plan.mask.float())
            for logits, plan in zip(decoded.logits, code.subdivisions)
        )
        terms = {
            "intersected": options.intersected * F.binary_cross_entropy_with_logits(raw[:, 3:6], crossed.float()),
            "vertex": options.vertex * F.mse_loss(vertex, vertices),
            "subdivision": options.subdivision * subdivision,
            "kl": options.kl * divergence(code.mean.feats, code.logvar),
        }
        if options.depth or options.normal or options.mask:
            resolution = self.recipe.data.resolution
            given = (coords, vertices, vertex, crossed, raw[:, 3:6] > 0, weight)
            terms |= surface_terms(*given, resolution, len(items), options, generator)
        return terms


class TextureVae(nn.Module):
    """The sparse autoencoder of PBR voxels. Source: TRELLIS.2, `PbrVaeTrainer`."""

    def __init__(self, recipe: Recipe, networks: dict[str, nn.Module]):
        super().__init__()
        self.recipe, self.encoder, self.decoder = recipe, networks["encoder"], networks["decoder"]

    def forward(self, items: Sequence[dict[str, Any]], generator: torch.Generator) -> Terms:
        """L1 on attributes in [-1, 1], and the divergence."""
        device = next(self.decoder.parameters()).device
        attributes = torch.cat([item["attributes"] for item in items]).to(device) * 2 - 1
        code = self.encoder(SparseTensor(attributes, joined_coords(items).to(device), len(items)))
        z = code.mean.replace(posterior(code.mean.feats, code.logvar, generator))
        decoded = self.decoder(z, code.subdivisions).voxels.feats.float()
        kl = self.recipe.losses.kl * divergence(code.mean.feats, code.logvar)
        return {"l1": F.l1_loss(decoded, attributes), "kl": kl}


def joined_coords(items: Sequence[dict[str, Any]]) -> Tensor:
    """Rows (item, x, y, z) [N, 4] int32 of all items."""
    return torch.cat([F.pad(item["coords"], (1, 0), value=i) for i, item in enumerate(items)]).int()


def posterior(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """A draw from the encoder's distribution."""
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    return mean + (0.5 * logvar).exp() * noise


def divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the posterior from the standard normal distribution."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


OBJECTIVES = {"structure_vae": StructureVae, "shape_vae": ShapeVae, "texture_vae": TextureVae}
