"""Pictures of what a run makes so far: its objects beside the input pictures, or beside themselves for autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.trellis2.cascade import Normalization
from ...models.trellis2.samplers import SamplerSettings
from ...models.trellis2.stages import sample_latent, sample_structure
from .stages import joined_coords

SIZE, COUNT, STEPS = 192, 4, 12


@torch.no_grad()
def write_samples(run: Any, path: Path) -> None:
    """One row per object as a PNG: what the stage read, and what it makes of it, seen along the depth axis.

    Structures and autoencoders show occupancy by depth; shape and texture flows the norm of their latents there.
    """
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    items = [run.data.draw(i % len(run.data), generator) for i in range(COUNT)]
    rows = [torch.cat(_row(run, [item], generator), dim=1) for item in items]
    pixels = (torch.cat(rows).clamp(0, 1) * 255).byte().cpu().numpy()
    Image.fromarray(pixels).save(path)


def _row(run: Any, items: list[dict[str, Any]], generator: torch.Generator) -> list[Tensor]:
    """Panels [SIZE, SIZE, 3] of one object."""
    recipe, networks = run.recipe, run.average.module
    device = run.accelerator.device
    if not recipe.is_flow:
        return [_panel(part) for part in _reconstruction(recipe, networks, items, device)]
    objective = run.accelerator.unwrap_model(run.objective)
    cond = objective.conditioner[0](items, device)
    flow, settings = networks["denoiser"], SamplerSettings(STEPS, 3.0, 0.0, (0.0, 1.0), 3.0)
    picture = items[0]["view"].picture
    if "coords" not in items[0]:
        latent = sample_structure(flow, cond, settings, generator, device=device)
        true = items[0]["latent"].to(device)
        return [_panel(picture), _panel(true.square().mean(0).sqrt()), _panel(latent[0].square().mean(0).sqrt())]
    coords = joined_coords(items).to(device)
    concat = items[0]["concat"].to(device) if "concat" in items[0] else None
    channels = items[0]["latent"].shape[1]
    plain = Normalization((0.0,) * channels, (1.0,) * channels)
    made = sample_latent(flow, coords, cond, settings, plain, generator, shape_latent=concat)
    side = recipe.networks["denoiser"]["args"]["resolution"]
    return [_panel(picture), *(_panel(_volume(coords, f, side)) for f in (items[0]["latent"].to(device), made.feats))]


def _reconstruction(recipe, networks, items, device) -> list[Tensor]:
    encoder, decoder = networks["encoder"], networks["decoder"]
    if recipe.stage == "structure_vae":
        occupied = torch.stack([item["occupied"] for item in items]).to(device)
        return [occupied[0, 0], (decoder(encoder(occupied)[0])[0, 0] > 0).float()]
    coords, side = joined_coords(items).to(device), recipe.data.resolution
    if recipe.stage == "shape_vae":
        code = encoder.encode(coords, items[0]["vertices"].to(device), items[0]["intersected"].to(device))
        found = decoder(code.mean).voxels
        return [_volume(one, torch.ones(len(one), 1, device=device), side) for one in (coords, found.coords)]
    from ...scene.sparse import SparseTensor

    given = items[0]["attributes"].to(device)
    code = encoder(SparseTensor(given * 2 - 1, coords))
    found = decoder(code.mean, code.subdivisions).voxels.feats / 2 + 0.5
    return [_volume(coords, one[:, :3], side, colors=True) for one in (given, found)]


def _volume(coords: Tensor, feats: Tensor, side: int, colors: bool = False) -> Tensor:
    """A grid [side, side, side] of the rows' norms, or a picture [3, side, side] of the nearest colors."""
    if not colors:
        grid = feats.new_zeros(side, side, side)
        grid[tuple(coords[:, 1:].long().T)] = feats.float().square().mean(1).sqrt()
        return grid
    picture = feats.new_zeros(3, side, side)
    order = torch.argsort(coords[:, 3])  # the nearest is written last
    picture[:, side - 1 - coords[order, 2].long(), coords[order, 1].long()] = feats[order].float().T
    return picture


def _panel(part: Tensor) -> Tensor:
    """A picture [3, H, W], or a grid [X, Y, Z] as its largest values along z, as [SIZE, SIZE, 3]."""
    part = part.float().cpu()
    if part.shape[0] != 3:
        flat = part.amax(dim=2).T.flip(0)
        part = (flat / flat.amax().clamp(min=1e-6)).expand(3, -1, -1)
    return torch.nn.functional.interpolate(part[None], size=(SIZE, SIZE), mode="nearest")[0].permute(1, 2, 0)
