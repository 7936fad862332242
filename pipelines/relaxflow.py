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

from ..models.relaxflow.layout import SceneView
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
from ..models.relaxflow.visibility import VisibilitySettings, check_mask, mask_on_grid, visibility_from_camera
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
StageProgress = Callable[[int, int], None]


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
    encoder = family.image_encoder()
    size = encoder.config.img_size
    return [encoder(image_tensor(picture, size).to(family.device).reshape(1, 3, size, size)) for picture in pictures]


@dataclass(frozen=True)
class Branches:
    """The conditions of one run: tokens [1, T, D] of the picture and of every prior, and which of them is sampled.

    branch: "blend", "obs" or "prior"; without priors only "obs" can be sampled, which is TRELLIS itself.
    """

    obs: Tensor
    priors: Sequence[Tensor] = ()
    branch: str = "blend"

    def __post_init__(self) -> None:
        if not len(self.priors) and self.branch != "obs":
            raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
        check_priors(self.priors)

    def pooled(self, settings: StageSettings) -> Tensor:
        """The one condition of the prior branch; the picture's own where there are no priors."""
        if not len(self.priors):
            return self.obs
        return pool_priors(
            self.priors, settings.pooling, temperature=settings.temperature,
            agreement_boost=settings.agreement_boost, aligned=False,
        )  # fmt: skip


def _run(conditions, settings, sampler, make, noise, mask, blurs, progress, counts, anchored) -> Tensor:
    """One stage: both branches from one noise; anchored: the observation alone first, to which seen parts are held."""
    prior, blur = conditions.pooled(settings), settings.blur() if blurs else None
    shared = can_share_uncond(blur)
    evaluate = make(conditions.obs, prior, attention_options(blur, shared_uncond=shared))
    guidance = Guidance(sampler.guidance_strength - 1, sampler.guidance_interval)
    times, mix = flow_times(sampler.steps, sampler.rescale_t), settings.mix(sampler.steps, mask)
    options = {"shared_uncond": shared, "counts": counts}
    states: list[Tensor] = []
    anchored = anchored and mix.visible is not None and conditions.branch == "blend"
    passes = 2 if anchored else 1

    def told(before: int):
        return progress and (lambda done, steps, x, alpha: progress(before + done, passes * steps))

    if anchored:

        def keep(done, steps, x, alpha):
            states.append(x)
            if progress:
                progress(done, passes * steps)

        sample(evaluate, noise, times, guidance, mix, branch="obs", callback=keep, **options)
    return sample(
        evaluate, noise, times, guidance, mix, branch=conditions.branch, callback=told(len(states)),
        anchor=states or None, **options,
    )  # fmt: skip


def sample_structure(
    family: Trellis1,
    conditions: Branches,
    settings: StageSettings,
    generator: torch.Generator,
    *,
    sampler: SamplerSettings | None = None,
    visible: Tensor | None = None,
    anchored: bool = False,
    progress: StageProgress | None = None,
    counts: Counter | None = None,
) -> Tensor:
    """The structure latent [1, C, R, R, R] of one object.

    generator: a CPU one, for the noise. sampler: default the family's. visible: [V, V, V] mask, 1 = the picture
    decides, used where `settings.masked`. anchored: what is seen keeps the states of the picture's own run (beyond the
    paper, one run more). progress(done, steps). counts: filled with evaluations by condition.
    """
    flow = family.get("sparse_structure_flow_model")
    size, patch = flow.config.resolution, flow.patch_size
    side = size * patch
    noise = torch.randn((1, flow.config.in_channels // patch**3, side, side, side), generator=generator)
    noise = noise.to(family.device)
    mask = None if visible is None else mask_on_grid(visible, side, most=True).to(noise)[None, None]

    def dense(obs, prior, options):
        return dense_evaluator(flow, obs, prior, options)

    sampler = sampler or family.structure_sampler
    return _run(conditions, settings, sampler, dense, noise, mask, True, progress, counts, anchored)


@torch.no_grad()
def occupied_voxels(family: Trellis1, latent: Tensor) -> tuple[Tensor, int]:
    """Voxels [N, 4] (item, x, y, z) of a structure latent, and voxels per axis; raises InputError where none is."""
    decoder = family.get("sparse_structure_decoder")
    coords = occupied_coords(decoder(latent.to(family.device)))
    if not len(coords):
        raise InputError("The structure is empty; another seed, or a picture that shows more of the object, may help.")
    return coords, latent.shape[-1] * decoder.factor


def sample_latent(
    family: Trellis1,
    coords: Tensor,
    conditions: Branches,
    settings: StageSettings,
    generator: torch.Generator,
    *,
    blurs: bool = True,
    sampler: SamplerSettings | None = None,
    visible: Tensor | None = None,
    anchored: bool = False,
    progress: StageProgress | None = None,
    counts: Counter | None = None,
) -> SparseTensor:
    """The latents of voxels [N, 4], denormalized.

    blurs: blur the prior's sparse attention, too. visible: [N] mask, 1 = the picture decides. Else as
    `sample_structure`.
    """
    flow = family.get("slat_flow_model")
    noise = torch.randn((len(coords), flow.config.in_channels), generator=generator).to(family.device)
    voxels = SparseTensor(noise, coords.to(family.device))

    def sparse(obs, prior, options):
        return sparse_evaluator(flow, voxels, obs, prior, options)

    at = None if visible is None else visible.to(noise)[:, None]
    sampler = sampler or family.latent_sampler
    feats = _run(conditions, settings, sampler, sparse, noise, at, blurs, progress, counts, anchored)
    return voxels.replace(feats * family.std.to(feats) + family.mean.to(feats))


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
    layout: SceneView | None = None,
    branch: str = "blend",
    anchored: bool = False,
    visibility: VisibilitySettings | None = None,
    progress: Progress | None = None,
) -> Completion:
    """An object from a picture of which part is hidden, and priors of what that part may look like.

    picture, priors: prepared, see `prepare_picture`. camera: that of the picture, world = the cube; with it the seen
    voxels are left to the picture (`visible` is a mask of one's own instead: a function of coords, or [N]). occluder:
    [H, W], 1 where something stands in front. layout: camera, place of the object and the boxes before it, from a
    known scene, instead of `camera`. branch: "blend", "obs" or "prior". anchored: what is seen keeps the states of the
    picture's own run. visibility: how strict the depth test is. progress(stage, done, steps).
    Raises InputError where there is no prior. Source: RelaxFlow, TRELLIS pipeline; the mask is ours there.
    """
    if not len(priors) and branch != "obs":
        raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
    generator = torch.Generator().manual_seed(seed)
    obs, *others = encode(family, [picture, *priors])
    conditions, counts = Branches(obs, others, branch), Counter()

    def options(stage: str, seen: Counter) -> dict:
        return {"counts": seen, "progress": progress and (lambda done, steps: progress(stage, done, steps))}

    def add(stage: str, seen: Counter) -> None:
        counts.update({f"{stage} {name}": number for name, number in seen.items()})

    seen: Counter = Counter()
    latent = sample_structure(family, conditions, settings.structure, generator, **options("structure", seen))
    add("structure", seen)
    coords, resolution = occupied_voxels(family, latent)
    mask, where = None, replace(visibility or VisibilitySettings(), resolution=resolution)
    hidden = None if occluder is None else 1 - occluder
    if visible is not None:
        mask = check_mask(visible, len(coords))
    elif layout is not None:
        mask = layout.visibility(coords, settings=where, selected=hidden)
    elif camera is not None:
        mask = visibility_from_camera(coords, camera, settings=where, selected=hidden)
    seen = Counter()
    latents = sample_latent(
        family, coords, conditions, settings.latent, generator, blurs=settings.sparse_blur, visible=mask,
        anchored=anchored, **options("latent", seen),
    )  # fmt: skip
    add("latent", seen)
    return Completion(latents, mask, counts)


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
