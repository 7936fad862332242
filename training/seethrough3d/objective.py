"""What is minimized: the error of FLUX's velocity with condition tokens whose LoRA is trained, all else frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.seethrough3d.diffusers_flux import velocity
from ...models.seethrough3d.lora import ConditionLora, adapters
from ...models.seethrough3d.tokens import Condition, mask_cells, pack
from .recipe import Recipe
from .rows import Row, read_masks, read_pixels
from .words import EMPTY, PromptCache


class Objective(nn.Module):
    """MSE of the velocity against noise - picture, at uniformly drawn times. Source: SeeThrough3D, training."""

    def __init__(self, recipe: Recipe, lora: ConditionLora, transformer: nn.Module, vae: nn.Module, cache: PromptCache):
        super().__init__()
        self.recipe, self.lora = recipe, lora
        self.frozen = [transformer.requires_grad_(False).eval(), vae.requires_grad_(False).eval()]  # no part of us
        self.cache = cache

    def forward(self, rows: Sequence[Row], generator: torch.Generator) -> dict[str, Tensor]:
        """The mean error over the pictures of a pass, one at a time: their sizes differ."""
        errors = [self.error(row, generator) for row in rows]
        return {"mse": torch.stack(errors).mean()}

    def error(self, row: Row, generator: torch.Generator) -> Tensor:
        """The error for one picture."""
        recipe, (transformer, vae) = self.recipe, self.frozen
        device, dtype = next(transformer.parameters()).device, transformer.dtype
        dropped = float(torch.rand((), generator=generator)) < recipe.drop_caption
        time = torch.rand(1, generator=generator)
        target = self.latent(vae, read_pixels(row.target, recipe.size), generator)
        grid = target.shape[2] // 2, target.shape[3] // 2
        picture = pack(target)
        noise = torch.randn(picture.shape, generator=generator).to(device)
        tokens = pack(self.latent(vae, square(read_pixels(row.oscr, recipe.condition), recipe.condition), generator))
        # without words there is nothing to link to: the spans of the whole prompt would point at padding
        spans = () if dropped else row.call_ids
        side = recipe.condition // 16
        cells = mask_cells(read_masks(row.masks), (side, side)) if spans else torch.zeros(0, side, side)
        condition = Condition(tokens[0].to(dtype), (side, side), spans, cells.bool())
        text, pooled = self.cache[EMPTY if dropped else row.prompt]
        at = time.to(device)[:, None, None]
        found = velocity(
            transformer, ((1 - at) * picture + at * noise).to(dtype), text[None].to(device, dtype),
            pooled[None].to(device, dtype), time.to(device), torch.full((1,), recipe.guidance, device=device), grid,
            [[condition]], adapters(self.lora), checkpoint=recipe.checkpoint_blocks,
        )  # fmt: skip
        return F.mse_loss(found.float(), noise - picture)

    @staticmethod
    @torch.no_grad()
    def latent(vae: Any, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of the VAE's latent [1, c, h, w] float32, as FLUX scales it."""
        device = next(vae.parameters()).device
        posterior = vae.encode(pixels[None].to(device, vae.dtype)).latent_dist
        drawn = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator).to(device)
        return ((drawn - vae.config.shift_factor) * vae.config.scaling_factor).float()


def square(pixels: Tensor, size: int) -> Tensor:
    """A picture [3, H, W] at size x size."""
    if pixels.shape[1:] == (size, size):
        return pixels
    return F.interpolate(pixels[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
