"""Pixal3D: pictures and their cameras -> a mesh with PBR voxels that lines up with the pixels.

picture -> crop -> structure -> low shape latent -> finer voxels -> shape latent -> texture latent -> mesh and voxels.
The result lies in the mesh frame: x right, y up, z toward the camera of the (first) picture, inside [-0.5, 0.5]^3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..models.trellis2.cascade import Cascade
from ..models.trellis2.conditions import Condition
from ..models.trellis2.image_condition import AnyCamera, Pictures, projected_condition
from ..models.trellis2.latents import Latents, TexturedMesh, decode_latents
from ..models.trellis2.preprocess import PIXAL3D_PADDING, crop_to_object
from ..models.trellis2.runner import Progress, Runner
from ..models.trellis2.stages import quantize_round


def prepare_picture(rgba: np.ndarray, background: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """uint8 [H, W, 4] with the object's alpha -> the square uint8 [S, S, 3] the networks see; see `crop_to_object`."""
    return crop_to_object(rgba, PIXAL3D_PADDING, background)


def sample_latents(
    cascade: Cascade,
    pictures: np.ndarray | Sequence[np.ndarray],
    camera: AnyCamera,
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

    pictures: prepared uint8 [S, S, 3], one per camera of `camera`, the main view first. pipeline_type: one of
    `PIPELINE_TYPES`, default the family's. max_num_tokens: above it a cascade lowers its resolution. samplers, batched,
    progress, memory: see `Runner`. Raises InputError for whatever does not fit. Source: Pixal3D, image-to-3D pipeline.
    """
    config = cascade.config
    resolution, two_steps = config.plan(pipeline_type)
    run = Runner(cascade, seed, samplers, batched, progress, memory)
    views = Pictures(cascade.encoder(), pictures, device=cascade.device, lend=cascade.on_device)

    def condition(stage: str, grid: int | None = None, coords: Tensor | None = None) -> Condition:
        reads = config.stage(stage)
        reads = replace(reads, grid_resolution=grid or reads.grid_resolution)
        run.check_images(cascade.encoder(), reads.image_size, len(views))
        if reads.naf_target:
            points = reads.grid_resolution**3 if coords is None else len(coords)
            channels = views.tokens(reads.image_size).shape[-1]
            run.check_naf(cascade.naf, reads.image_size, reads.naf_target, points, channels)
        with cascade.on_device(cascade.naf if reads.naf_target else None) as naf:
            return projected_condition(views, reads, camera, None if coords is None else coords[:, 1:], naf)

    first = config.lr_resolution if two_steps else resolution
    coords = structure = run.structure(condition("ss"), first)
    low = None
    if two_steps:
        low = run.shape("512", coords, condition("shape_512", first // run.factor, coords), "low shape")
        coords, resolution = run.refine(low, resolution, quantize_round, max_num_tokens)
    size = "512" if resolution == config.lr_resolution else "1024"
    grid = resolution // run.factor
    shape = run.shape(size, coords, condition(f"shape_{size}", grid, coords))
    texture = run.texture(size, shape, condition(f"tex_{size}", grid, coords))
    return Latents(structure, low, shape, texture, resolution)


def image_to_3d(
    cascade: Cascade,
    image: np.ndarray | Sequence[np.ndarray],
    camera: AnyCamera,
    *,
    preprocess: bool = True,
    background: tuple[float, float, float] = (0, 0, 0),
    as_released: bool = False,
    **options: Any,
) -> TexturedMesh:
    """A picture with alpha and its camera -> mesh and PBR voxels.

    image: uint8 [H, W, 4] (several views: a sequence, with posed cameras), or prepared [S, S, 3] with
    preprocess=False. The camera is that of the prepared picture. as_released: see `decode_latents`. options: see
    `sample_latents`.
    """
    pictures = [image] if isinstance(image, np.ndarray) and image.ndim == 3 else list(image)
    if preprocess:
        pictures = [prepare_picture(picture, background) for picture in pictures]
    latents = sample_latents(cascade, pictures, camera, **options)
    return decode_latents(cascade, latents, as_released=as_released, memory=options.get("memory"))
