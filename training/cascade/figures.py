"""Held-out figures of single stages while they train, on the validation split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...scene.sparse import SparseTensor
from . import decoders, encoder_stage, flows
from .derived import shape_code
from .sampling import intersection_over_union, sample_latents, sample_structures
from .stages import RADIANS, Bench, gather, generator


@torch.no_grad()
def structure_flow_figures(bench: Bench, flow: nn.Module, count: int = 64) -> dict[str, float]:
    """IoU of sampled and true occupancy, their sizes' ratio, and the share of sampled cells near the surface."""
    data, tokens = bench.latents("validation"), bench.tokens("validation")
    decoder = bench.trained("structure_decoder")
    cond = flows.dense_condition(tokens[:count], data.fov[:count] * RADIANS, flow.config.resolution)
    latent = sample_structures(flow, cond)
    found, true = decoder(latent)[:, 0] > 0, data.occupied[:count]
    return {
        "error": float((latent - data.structure[:count].float()).square().mean()),
        "iou": float(intersection_over_union(found, true).mean()),
        "size": float(found.sum() / true.sum()),
        "recall": float((found & true).sum() / true.sum()),
        "near": float((found & data.near[:count]).sum() / found.sum()),
    }


def _latent_figures(bench: Bench, flow: nn.Module, count: int, texture: bool) -> tuple[Tensor, Tensor]:
    data, tokens = bench.latents("validation"), bench.tokens("validation")
    rows = torch.arange(count)
    coords, shape, code = gather(bench, "validation", rows, generator(9), 0.2, texture)
    cond = flows.sparse_condition(tokens[:count], data.fov[:count] * RADIANS, coords, flow.config.resolution)
    found = sample_latents(flow, coords, cond, concat=shape if texture else None)
    true = code if texture else shape
    return (found - true).square(), true


@torch.no_grad()
def shape_flow_figures(bench: Bench, flow: nn.Module, count: int = 48) -> dict[str, float]:
    """Squared error of sampled shape latents on true tokens, relative to their variance: all channels, two of them."""
    error, true = _latent_figures(bench, flow, count, False)
    relative = error.mean(0) / true.square().mean(0)
    total = error.mean() / true.square().mean()
    return {"relative": float(total), "channel_0": float(relative[0]), "channel_5": float(relative[5])}


@torch.no_grad()
def texture_flow_figures(bench: Bench, flow: nn.Module, count: int = 48) -> dict[str, float]:
    """The same for texture latents; color: root mean square error of the base color in [0, 1]."""
    error, true = _latent_figures(bench, flow, count, True)
    color = (error[:, :3] * 0.27**2).mean().sqrt()
    return {"relative": float(error.mean() / true.square().mean()), "color": float(color)}


def encoder_figures(bench: Bench, task: nn.Module) -> dict[str, float]:
    std = shape_code(bench.folder).std
    return encoder_stage.regression_figures(task, bench.latents("validation"), std / std[0])


@torch.no_grad()
def shape_decoder_figures(bench: Bench, decoder: nn.Module, count: int = 24) -> dict[str, float]:
    """IoU of the fine voxels decoded from exact latents, freely running."""
    data, shards = bench.latents("validation"), bench.shards("validation")
    targets = decoders.make_targets(shards, data, torch.arange(count), generator(9))
    out = decoder(SparseTensor(targets.exact, targets.cells, count))
    found = torch.zeros_like(targets.rows, dtype=torch.bool)
    found[tuple(out.voxels.coords.long().T)] = True
    return {"iou": float(intersection_over_union(found, targets.rows != decoders.MISSING).mean())}


FIGURES: dict[str, Callable[[Bench, nn.Module], dict[str, float]]] = {
    "encoder": encoder_figures,
    "structure_flow": structure_flow_figures,
    "shape_flow": shape_flow_figures,
    "texture_flow": texture_flow_figures,
    "shape_decoder": shape_decoder_figures,
}
