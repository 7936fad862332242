"""TRELLIS.2: one picture -> a mesh with PBR voxels in a canonical pose.

picture -> crop -> structure -> (low shape latent -> finer voxels ->) shape latent -> texture latent -> mesh and voxels.
The result lies in the cube [-0.5, 0.5]^3, z up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ..models.trellis2.cascade import Cascade
from ..models.trellis2.image_condition import Pictures, token_condition
from ..models.trellis2.latents import Latents, TexturedMesh, decode_latents
from ..models.trellis2.preprocess import TRELLIS2_PADDING, crop_to_object
from ..models.trellis2.runner import Progress, Runner
from ..models.trellis2.stages import quantize_floor


def prepare_picture(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] with the object's alpha -> the square uint8 [S, S, 3] the networks see; see `crop_to_object`."""
    return crop_to_object(rgba, TRELLIS2_PADDING)


def sample_latents(
    cascade: Cascade,
    picture: np.ndarray,
    *,
    seed: int = 42,
    pipeline_type: str | None = None,
    samplers: Mapping[str, Mapping[str, Any]] | None = None,
    max_num_tokens: int | None = None,
    batched: bool = False,
    progress: Progress | None = None,
    memory: int | str | None = None,
) -> Latents:
    """Structure, shape and texture latents of one object.

    picture: prepared uint8 [S, S, 3]. pipeline_type: one of `PIPELINE_TYPES`, default the family's. max_num_tokens:
    above it a cascade lowers its resolution. samplers, batched, progress, memory: see `Runner`. Raises InputError for
    whatever does not fit. Source: TRELLIS.2, image-to-3D pipeline.
    """
    config = cascade.config
    resolution, two_steps = config.plan(pipeline_type)
    run = Runner(cascade, seed, samplers, batched, progress, memory)
    views = Pictures(cascade.encoder(), picture, device=cascade.device, lend=cascade.on_device)
    low_size, high_size = config.token_image_sizes

    def condition(image_size: int) -> Tensor:
        run.check_images(cascade.encoder(), image_size)
        return token_condition(views, image_size)

    first = config.lr_resolution if two_steps else resolution
    coords = structure = run.structure(condition(low_size), first)
    low = None
    if two_steps:
        low = run.shape("512", coords, condition(low_size), "low shape")
        coords, resolution = run.refine(low, resolution, quantize_floor, max_num_tokens)
    size = "512" if resolution == config.lr_resolution else "1024"
    cond = condition(low_size if size == "512" else high_size)
    shape = run.shape(size, coords, cond)
    texture = run.texture(size, shape, cond)
    return Latents(structure, low, shape, texture, resolution)


def image_to_3d(
    cascade: Cascade, image: np.ndarray, *, preprocess: bool = True, as_released: bool = False, **options: Any
) -> TexturedMesh:
    """A picture with alpha -> mesh and PBR voxels.

    image: uint8 [H, W, 4], or prepared [S, S, 3] with preprocess=False. as_released: see `decode_latents`. options: see
    `sample_latents`.
    """
    picture = prepare_picture(image) if preprocess else image
    latents = sample_latents(cascade, picture, **options)
    return decode_latents(cascade, latents, as_released=as_released, memory=options.get("memory"))
