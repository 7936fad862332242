"""RelaxFlow on this pack's own TRELLIS.2-like networks that project pictures: a picture partly hidden, and priors.

picture -> structure of the observation alone -> which cells its camera sees -> structure, shape and texture by two
branches, the seen cells left to the picture. The result lies in the mesh frame: x right, y up, z toward the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..models.relaxflow.layout import SceneView
from ..models.relaxflow.priors import pool_priors
from ..models.relaxflow.sampling import (
    Guidance,
    attention_options,
    can_share_uncond,
    dense_evaluator,
    sample,
    sparse_evaluator,
)
from ..models.relaxflow.settings import PRESETS, RelaxSettings
from ..models.relaxflow.visibility import VisibilitySettings, mask_of_voxels, mask_on_grid, visibility_from_camera
from ..models.trellis2.cascade import SAMPLERS, Cascade
from ..models.trellis2.conditions import Condition
from ..models.trellis2.image_condition import FrontCamera, Pictures, projected_condition
from ..models.trellis2.latents import Latents
from ..models.trellis2.samplers import SamplerSettings, flow_times, sparse_std
from ..models.trellis2.sparse_structure_vae import occupied_coords
from ..scene.cameras import Cameras, look_at
from ..scene.errors import InputError
from ..scene.sparse import SparseTensor

Progress = Callable[[int, int], None]
HELD = 0.1  # visibility above which a voxel is held to the observation: the threshold of the released diagnostics
SIZES = {"512": 1, "1024": 2}  # names of the stages -> times the family's low resolution


@dataclass(frozen=True)
class Completed:
    """What was sampled.

    latents: of the completed object, None where only the structure was asked for. coords: its occupied voxels [N, 3];
    observed: those of the observation alone. visible: [R, R, R] mask on the occupancy grid, 1 = the picture decides.
    """

    latents: Latents | None
    coords: Tensor
    observed: Tensor
    visible: Tensor

    def iou(self) -> float:
        """Overlap of both occupancies over the cells that count as seen."""
        grids = []
        for coords in (self.coords, self.observed):
            grid = torch.zeros_like(self.visible, dtype=torch.bool)
            grid[tuple(coords.cpu().long().T)] = True
            grids.append(grid & (self.visible > 0.5))
        union = int((grids[0] | grids[1]).sum())
        return int((grids[0] & grids[1]).sum()) / union if union else 1.0


def _kept(coords: Tensor, observed: Tensor, visible: Tensor) -> Tensor:
    """Voxels [N, 4] of the completion where nothing is seen, of the observation where something is; in order."""
    grids = []
    for rows in (coords, observed):
        grid = torch.zeros_like(visible, dtype=torch.bool)
        grid[tuple(rows[:, 1:].cpu().long().T)] = True
        grids.append(grid)
    chosen = torch.where(visible > 0.5, grids[1], grids[0])
    return torch.nn.functional.pad(torch.argwhere(chosen), (1, 0)).to(coords)


def world_camera(camera: FrontCamera, size: int) -> Cameras:
    """The front camera as one of the cube's own frame (x right, y up, z toward it), for a picture of size x size."""
    half = np.tan(camera.fov / 2)
    distance = camera.distance if camera.distance is not None else 0.5 / (camera.mesh_scale * half)
    eye = (0.0, 0.0, float(distance))
    return look_at(eye, (0.0, 0.0, 0.0), float(np.degrees(camera.fov)), size, size, up=(0.0, 1.0, 0.0))


def stage_size(cascade: Cascade) -> str:
    """The size whose shape and texture a family makes in one pass each: "512", or "1024" (the published Pixal3D).

    Raises InputError where it has neither.
    """
    for size in SIZES:
        stages = [f"{name}_{size}" for name in ("shape", "tex")]
        roles = [f"{name}_slat_flow_model_{size}" for name in ("shape", "tex")]
        if all(role in cascade for role in roles) and all(stage in cascade.config.image_stages for stage in stages):
            return size
    raise InputError("This family has no shape and texture network of one size, 512 or 1024; load all of its files.")


def complete_projected(
    cascade: Cascade,
    picture: np.ndarray,
    priors: Sequence[np.ndarray],
    camera: FrontCamera,
    *,
    prior_cameras: Sequence[FrontCamera] | None = None,
    occluder: Tensor | None = None,
    visible: Tensor | None = None,
    layout: SceneView | None = None,
    settings: RelaxSettings = PRESETS["paper"],
    seed: int = 42,
    structure_only: bool = False,
    anchored: bool = True,
    visibility: VisibilitySettings | None = None,
    progress: Progress | None = None,
) -> Completed:
    """A completed object of a family that projects pictures, in one pass a stage (see `stage_size`).

    picture, priors: prepared uint8 [S, S, 3]; the priors are projected with cameras of their own, or with that of the
    picture. occluder: [H, W], 1 where something hides the object in the picture; layout: camera, place and neighbors
    from a known scene; visible: a mask [V, V, V] of one's own instead of the depth test. Every stage follows
    `settings`; the structure uses the mask where `settings.structure.masked`. anchored: what is seen keeps the states
    of the observation alone (see `sampling.sample`) and its occupancy; without it, it is only guided by the
    observation, as in the paper.
    progress(done, total) in steps of all stages.
    Raises InputError where there is no prior or nothing is occupied.
    """
    if not len(priors):
        raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
    if prior_cameras is not None and len(prior_cameras) != len(priors):
        raise InputError(f"There are {len(priors)} priors and {len(prior_cameras)} cameras of them; give one each.")
    config, device = cascade.config, cascade.device
    size = stage_size(cascade)
    resolution = SIZES[size] * config.lr_resolution
    generator = torch.Generator().manual_seed(seed)
    views = [Pictures(cascade.encoder(), [one], device=device, lend=cascade.on_device) for one in (picture, *priors)]
    samplers = cascade.settings(None)
    cameras = [camera, *(prior_cameras or [camera] * len(priors))]
    passes, done_before = [2 if anchored else 1] * 3, [0]
    passes[0] = 2  # the observation's structure is always sampled: its surface is what the depth test needs
    total = sum(p * samplers[name].steps for p, name in zip(passes, SAMPLERS))

    def told(done: int, steps: int, *_) -> None:
        if progress:
            progress(done_before[0] + done, total)
        done_before[0] += steps if done == steps else 0

    def conditions(stage: str, coords: Tensor | None, options) -> tuple[Condition, Condition]:
        reads, naf = config.stage(stage), cascade.naf
        where = None if coords is None else coords[:, 1:]
        obs, *others = (projected_condition(view, reads, one, where, naf) for view, one in zip(views, cameras))
        tokens = pool_priors([one.tokens for one in others], options.pooling, temperature=options.temperature)
        return obs, Condition(tokens, torch.stack([one.projected for one in others]).mean(0))

    def run(sampler: SamplerSettings, options, make, start: Tensor, mask: Tensor | None, branch: str, std=None, **more):
        blur = options.blur()
        shared = can_share_uncond(blur)
        extra = {"rescale": sampler.guidance_rescale, "sigma_min": sampler.sigma_min} | ({"std": std} if std else {})
        guidance = Guidance(sampler.guidance_strength - 1, sampler.guidance_interval, **extra)
        return sample(
            make(attention_options(blur, shared_uncond=shared)), start, flow_times(sampler.steps, sampler.rescale_t),
            guidance, options.mix(sampler.steps, mask), branch=branch, shared_uncond=shared, **more,
        )  # fmt: skip

    factor = cascade.get("shape_slat_decoder").config.factor
    options, sampler = settings.structure, samplers["sparse_structure_sampler"]
    with cascade.on_device("sparse_structure_flow_model") as flow:
        cfg = flow.config
        start = torch.randn(1, cfg.in_channels, *[cfg.resolution] * 3, generator=generator).to(device)
        obs, prior = conditions("ss", None, options)

        def dense(chosen):
            return dense_evaluator(flow, obs, prior, chosen)

        states: list[Tensor] = []

        def keep(done, steps, x, alpha):
            states.append(x)
            told(done, steps)

        alone = run(sampler, options, dense, start, None, "obs", callback=keep)
        decoder = cascade.get("sparse_structure_decoder")
        with cascade.on_device(decoder) as decoder, torch.no_grad():
            observed = occupied_coords(decoder(alone), resolution // factor)
        if not len(observed):
            raise InputError("The picture alone gives no voxel; show more of the object, or try another seed.")
        grid = resolution // factor
        where = {
            "surface": observed,
            "selected": None if occluder is None else 1 - occluder.float(),
            "settings": replace(visibility or VisibilitySettings(), resolution=grid),
        }
        if visible is None and layout is not None:
            visible = layout.visibility(None, **where).view(grid, grid, grid)
        elif visible is None:
            visible = visibility_from_camera(None, world_camera(camera, 512), **where).view(grid, grid, grid)
        visible = mask_on_grid(visible, grid).cpu()
        coarse = mask_on_grid(visible, cfg.resolution, most=True).to(start)[None, None]
        latent = run(sampler, options, dense, start, coarse, "blend", anchor=states if anchored else None,
                     callback=told)  # fmt: skip
    with cascade.on_device(cascade.get("sparse_structure_decoder")) as decoder, torch.no_grad():
        coords = occupied_coords(decoder(latent), grid)
    if anchored:
        coords = _kept(coords, observed, visible)
    if not len(coords):
        raise InputError("The completed structure is empty; another seed or other priors may help.")
    if structure_only:
        return Completed(None, coords[:, 1:], observed[:, 1:], visible)

    options, at = settings.latent, mask_of_voxels(visible, coords, grid).to(start)[:, None]
    if anchored:
        at = (at > HELD).to(at)

    def sparse_stage(role: str, stage: str, sampler_role: str, shape: Tensor | None) -> SparseTensor:
        with cascade.on_device(role) as flow:
            channels = flow.config.in_channels - (0 if shape is None else shape.shape[1])
            begin = torch.randn(len(coords), channels, generator=generator).to(device)
            voxels = SparseTensor(begin, coords.to(device))
            obs, prior = conditions(stage, coords, options)

            def evaluator(chosen):
                return sparse_evaluator(flow, voxels, obs, prior, chosen, shape)

            states: list[Tensor] = []
            given, std = (samplers[sampler_role], options, evaluator, begin, at), sparse_std(voxels.layout)

            def keep(done, steps, x, alpha):
                states.append(x)
                told(done, steps)

            if anchored:
                run(*given, "obs", std, callback=keep)
            feats = run(*given, "blend", std, anchor=states or None, callback=told)
            return voxels.replace(feats)

    shape = sparse_stage(f"shape_slat_flow_model_{size}", f"shape_{size}", "shape_slat_sampler", None)
    texture = sparse_stage(f"tex_slat_flow_model_{size}", f"tex_{size}", "tex_slat_sampler", shape.feats)
    shape = shape.replace(config.shape_normalization.denormalize(shape.feats))
    texture = texture.replace(config.tex_normalization.denormalize(texture.feats))
    latents = Latents(coords, None, shape, texture, resolution)
    return Completed(latents, coords[:, 1:], observed[:, 1:], visible)
