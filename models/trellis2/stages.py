"""The stages TRELLIS.2 and Pixal3D share: structure, latent, cascade to a higher resolution, decoding.

Every stage takes the networks it needs and plain tensors. World frame of the grids: the cube [-0.5, 0.5]^3; voxel
(i, j, k) of an R grid covers [(i, j, k), (i, j, k) + 1] / R - 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor, pack_coords, unpack_coords
from .cascade import Normalization
from .conditions import AnyCondition, negative
from .samplers import SamplerSettings, dense_std, dense_velocity, sample_flow, sparse_std, sparse_velocity
from .sc_vae import ShapeDecoder
from .sparse_structure_vae import SparseStructureDecoder, occupied_coords

Callback = Callable[[int, int, Tensor, Tensor], None]


def noise(generator: torch.Generator, *shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal float32 numbers drawn on the CPU and moved, so that a seed means the same on every device.

    One generator per picture, used in the order structure, low shape, high shape, texture, reproduces the reference.
    """
    return torch.randn(*shape, generator=generator).to(device)


def sample_structure(
    model: nn.Module,
    cond: AnyCondition,
    settings: SamplerSettings,
    generator: torch.Generator,
    *,
    samples: int = 1,
    device: torch.device | str = "cpu",
    batched: bool = False,
    callback: Callback | None = None,
) -> Tensor:
    """The structure latent [samples, C, R, R, R] float32.

    cond: one item per sample. batched: both guidance branches in one pass. callback: see `sample_flow`.
    """
    cfg = model.config
    start = noise(generator, samples, cfg.in_channels, *[cfg.resolution] * 3, device=device)
    velocity, pair = dense_velocity(model)
    return sample_flow(
        velocity,
        start,
        cond,
        negative(cond),
        settings,
        std=dense_std,
        pair=pair if batched else None,
        callback=callback,
    )


@torch.no_grad()
def decode_structure(decoder: SparseStructureDecoder, latent: Tensor, resolution: int | None = None) -> Tensor:
    """Occupied voxels [N, 4] int32 (item, x, y, z) at `resolution`; raises InputError where an item has none."""
    coords = occupied_coords(decoder(latent), resolution)
    for item in range(latent.shape[0]):
        if not bool((coords[:, 0] == item).any()):
            raise InputError(
                f"The structure of item {item} is empty; another seed or a picture of the whole object may help."
            )
    return coords


def sample_latent(
    model: nn.Module,
    coords: Tensor,
    cond: AnyCondition,
    settings: SamplerSettings,
    normalization: Normalization,
    generator: torch.Generator,
    *,
    shape_latent: Tensor | None = None,
    batched: bool = False,
    callback: Callback | None = None,
) -> SparseTensor:
    """A latent on the voxels `coords` [N, 4], denormalized, features [N, C] float32.

    shape_latent: normalized shape latent [N, K] of the same voxels, for texture models. callback: see `sample_flow`.
    """
    items = int(coords[:, 0].max()) + 1 if len(coords) else 1
    channels = model.config.in_channels - (0 if shape_latent is None else shape_latent.shape[-1])
    if channels < 1:
        raise InputError(
            f"The shape latent has {shape_latent.shape[-1]} channels; noise and shape together are "
            f"{model.config.in_channels} in this texture model."
        )
    voxels = SparseTensor(noise(generator, len(coords), channels, device=coords.device), coords, items)
    velocity, pair = sparse_velocity(model, voxels, shape_latent)
    feats = sample_flow(
        velocity,
        voxels.feats,
        cond,
        negative(cond),
        settings,
        std=sparse_std(voxels.layout),
        pair=pair if batched else None,
        callback=callback,
    )
    return voxels.replace(normalization.denormalize(feats))


def quantize_floor(coords: Tensor, fine: int, grid: int) -> Tensor:
    """Voxels of a `fine` grid -> voxels of a `grid`, TRELLIS.2's rule: int((c + 0.5) / fine * grid), float32."""
    return ((coords + 0.5) / fine * grid).int()


def quantize_round(coords: Tensor, fine: int, grid: int) -> Tensor:
    """Voxels of a `fine` grid -> voxels of a `grid`, Pixal3D's rule: round((c + 0.5) / fine * (grid - 1))."""
    return torch.round((coords + 0.5) / fine * (grid - 1)).int()


class CascadeGrid(NamedTuple):
    """Voxels of the high stage: coords [N, 4] int32 sorted, and the output resolution they were quantized for."""

    coords: Tensor
    resolution: int


@torch.no_grad()
def refine_coords(
    decoder: ShapeDecoder,
    latent: SparseTensor,
    low_resolution: int,
    high_resolution: int,
    *,
    quantize: Callable[[Tensor, int, int], Tensor],
    max_num_tokens: int = 49152,
) -> CascadeGrid:
    """Where the high stage puts its tokens: the low shape, subdivided to the full low resolution and quantized.

    latent: denormalized low shape latent. While `max_num_tokens` or more voxels result, the resolution is lowered by
    eight tokens per axis (128 for the published models), but not below twice the low one; there the limit may be
    exceeded. quantize: `quantize_floor` or `quantize_round`. Source: TRELLIS.2 and Pixal3D, shape cascade.
    """
    fine = decoder.upsample(latent, len(decoder.blocks) - 1)
    return quantize_to_limit(fine, decoder.config.factor, low_resolution, high_resolution, quantize, max_num_tokens)


def quantize_to_limit(
    fine: Tensor, factor: int, low_resolution: int, high_resolution: int, quantize, max_num_tokens: int
) -> CascadeGrid:
    """The second half of `refine_coords`: fine [M, 4] voxels of the low resolution -> token voxels of the high one."""
    floor, step = 2 * low_resolution, 8 * factor
    resolution = high_resolution
    while True:
        grid = quantize(fine[:, 1:], low_resolution, resolution // factor)
        keys = torch.unique(pack_coords(torch.cat([fine[:, :1], grid], dim=1)))
        if len(keys) < max_num_tokens or resolution - step < floor:
            return CascadeGrid(unpack_coords(keys), resolution)
        resolution -= step
