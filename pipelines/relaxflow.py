"""RelaxFlow on this pack's own networks: picture, priors -> an object whose hidden part follows the priors.

picture and priors -> tokens -> structure (two branches) -> visibility -> latents (two branches, seen voxels left to
the picture) -> Gaussians, mesh, radiance field. Results lie in the cube [-0.5, 0.5]^3, z up. TRELLIS (v1) here; on
core's TRELLIS.2 and Pixal3D the same is done by the Dual-Branch Guider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.relaxflow.priors import check_priors, pool_priors
from ..models.relaxflow.sampling import (
    Guidance,
    attention_options,
    can_share_uncond,
    dense_evaluator,
    sample,
    sparse_evaluator,
)
from ..models.relaxflow.settings import PRESETS, RelaxSettings, StageSettings
from ..models.relaxflow.visibility import VisibilitySettings, check_mask, visibility_from_camera
from ..models.trellis1.family import DECODERS, Trellis1
from ..models.trellis1.gaussians import RawGaussians
from ..models.trellis1.mesh import ColoredMesh
from ..models.trellis1.radiance import Strivec
from ..models.trellis2.preprocess import crop_to_object, image_tensor
from ..models.trellis2.samplers import SamplerSettings, flow_times
from ..models.trellis2.sparse_structure_vae import occupied_coords
from ..scene.cameras import Cameras
from ..scene.errors import InputError
from ..scene.sparse import SparseTensor
from ..scene.splats import Splats

PADDING = 1.2
Progress = Callable[[str, int, int], None]


@dataclass
class Completion:
    """An object between sampling and decoding.

    latent: denormalized, on its voxels. visible: [N] what the picture shows of them, None without a mask. evaluations:
    of the networks, by stage and condition.
    """

    latent: SparseTensor
    visible: Tensor | None = None
    evaluations: Counter = field(default_factory=Counter)


def prepare_picture(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] with the object's alpha -> the square uint8 [S, S, 3] on black that the encoder sees."""
    return crop_to_object(rgba, PADDING)


@torch.no_grad()
def encode(family: Trellis1, pictures: Sequence[np.ndarray]) -> list[Tensor]:
    """Tokens [1, T, D] of prepared pictures."""
    size = family.encoder.config.img_size
    encoder = family.encoder.to(family.device)
    return [encoder(image_tensor(picture, size).to(family.device).reshape(1, 3, size, size)) for picture in pictures]


def complete(
    family: Trellis1,
    picture: np.ndarray,
    priors: Sequence[np.ndarray],
    *,
    settings: RelaxSettings = PRESETS["paper"],
    seed: int = 42,
    camera: Cameras | None = None,
    visible: Tensor | None = None,
    occluder: Tensor | None = None,
    branch: str = "blend",
    progress: Progress | None = None,
) -> Completion:
    """An object from a picture of which part is hidden, and priors of what that part may look like.

    picture, priors: prepared, see `prepare_picture`. camera: that of the picture, world = the cube; with it the seen
    voxels are left to the picture (`visible` is a mask of one's own instead: a function of coords, or [N]). occluder:
    [H, W], 1 where something stands in front. branch: "blend", "obs" or "prior". progress(stage, done, steps).
    Raises InputError where there is no prior. Source: RelaxFlow, TRELLIS pipeline; the mask is ours there.
    """
    if not len(priors) and branch != "obs":
        raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
    generator = torch.Generator().manual_seed(seed)
    obs, *others = encode(family, [picture, *priors])
    check_priors(others)
    counts: Counter = Counter()

    def run(stage: str, options: StageSettings, sampler: SamplerSettings, make, noise: Tensor, mask, blurs: bool):
        prior = obs
        if others:
            prior = pool_priors(
                others, options.pooling, temperature=options.temperature, agreement_boost=options.agreement_boost,
                aligned=False,
            )  # fmt: skip
        blur = options.blur() if blurs else None
        shared, seen = can_share_uncond(blur), Counter()
        evaluate = make(obs, prior, attention_options(blur, shared_uncond=shared))
        guidance = Guidance(sampler.guidance_strength - 1, sampler.guidance_interval)
        out = sample(
            evaluate, noise, flow_times(sampler.steps, sampler.rescale_t), guidance, options.mix(sampler.steps, mask),
            branch=branch, shared_uncond=shared, counts=seen,
            callback=progress and (lambda done, steps, x, alpha: progress(stage, done, steps)),
        )  # fmt: skip
        counts.update({f"{stage} {name}": number for name, number in seen.items()})
        return out

    flow = family.get("sparse_structure_flow_model")
    size, patch = flow.config.resolution, flow.patch_size
    shape = (1, flow.config.in_channels // patch**3, *[size * patch] * 3)
    noise = torch.randn(shape, generator=generator).to(family.device)

    def dense(obs, prior, options):
        return dense_evaluator(flow, obs, prior, options)

    latent = run("structure", settings.structure, family.structure_sampler, dense, noise, None, True)
    decoder = family.get("sparse_structure_decoder")
    with torch.no_grad():
        coords = occupied_coords(decoder(latent))
    if not len(coords):
        raise InputError("The structure is empty; another seed, or a picture that shows more of the object, may help.")

    mask = None
    resolution = latent.shape[-1] * decoder.factor
    if visible is not None:
        mask = check_mask(visible, len(coords))
    elif camera is not None:
        where = VisibilitySettings(resolution=resolution)
        seen = None if occluder is None else 1 - occluder
        mask = visibility_from_camera(coords, camera, settings=where, selected=seen)
    flow = family.get("slat_flow_model")
    noise = torch.randn((len(coords), flow.config.in_channels), generator=generator).to(family.device)
    voxels = SparseTensor(noise, coords.to(family.device))

    def sparse(obs, prior, options):
        return sparse_evaluator(flow, voxels, obs, prior, options)

    at = None if mask is None else mask.to(noise)[:, None]
    feats = run("latent", settings.latent, family.latent_sampler, sparse, noise, at, settings.sparse_blur)
    feats = feats * family.std.to(feats) + family.mean.to(feats)
    return Completion(voxels.replace(feats), mask, counts)


@torch.no_grad()
def decode(family: Trellis1, completion: Completion, formats: Sequence[str] = ("gaussian", "mesh")) -> dict[str, Any]:
    """What the latents mean: {"gaussian": Splats, "mesh": ColoredMesh, "radiance_field": Strivec}, z up."""
    found: dict[str, Splats | ColoredMesh | Strivec] = {}
    for name in formats:
        if name not in DECODERS:
            raise InputError(f"The format {name!r} is unknown; known are {', '.join(DECODERS)}.")
        decoder = family.get(DECODERS[name])
        out = decoder(completion.latent)
        if name == "gaussian":
            found[name] = as_splats(decoder.gaussians(out)[0], decoder.config.representation_config)
        elif name == "mesh":
            found[name] = decoder.meshes(out)[0]
        else:
            found[name] = decoder.fields(out)[0]
    return found


def as_splats(gaussians: RawGaussians, config: dict) -> Splats:
    """Gaussians as splats, world frame z up."""
    values = gaussians.activated(config)
    fields = (values["xyz"], values["scaling"], values["rotation"], values["opacity"][:, 0], values["features"])
    return Splats(*(value.float().cpu() for value in fields))


def without_prior(settings: RelaxSettings) -> RelaxSettings:
    """The same settings with the priors left out of the latent stage (structure only)."""
    return replace(settings, latent=settings.latent.changed(prior_weight=0.0))
