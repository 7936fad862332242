"""SAM 3D Objects, alone or with RelaxFlow: picture, mask and point map -> an object and its pose, completed by priors.

picture, mask, point map -> tokens -> structure and pose (two branches) -> visibility from the pose -> latents (two
branches, seen voxels left to the picture) -> Gaussians, mesh. Objects lie in the cube [-0.5, 0.5]^3, z up. Source:
SAM 3D Objects and RelaxFlow's pipeline on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..kernels.logit_blur import LogitBlur
from ..models.relaxflow.priors import check_priors, pool_priors
from ..models.relaxflow.sampling import Guidance, attention_options, can_share_uncond, sample, sparse_evaluator
from ..models.relaxflow.settings import PRESETS, RelaxSettings, StageSettings
from ..models.relaxflow.visibility import AS_RELEASED, VisibilitySettings, check_mask, visibility_from_pose
from ..models.sam3d.evaluate import structure_evaluator
from ..models.sam3d.family import DECODERS, Sam3d
from ..models.sam3d.pose import Pose, decode_pose, fixed_intrinsics
from ..models.sam3d.preprocess import Prepared, prepare
from ..models.sam3d.structure import prune_inner, shrink
from ..models.sam3d.times import SamplerSettings, flow_times, shortcut_times
from ..models.trellis1.mesh import ColoredMesh
from ..models.trellis2.sparse_structure_vae import occupied_coords
from ..scene.errors import InputError
from ..scene.point_maps import check_point_map
from ..scene.sparse import SparseTensor
from ..scene.splats import Splats
from .relaxflow import as_splats

KEEP, PRIOR_KEEP = "full", "cropped_and_mask"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class ObjectPicture:
    """A picture as the encoders of both stages see it.

    structure, latent: encoder inputs; mask: [H, W] bool, of the picture's own size; known: whether there was a point
    map.
    """

    structure: Prepared
    latent: Prepared
    mask: Tensor

    @property
    def known(self) -> bool:
        return self.structure.scale is not None


@dataclass(eq=False)
class Structure:
    """An object after the first stage.

    coords: [N, 4] int32 voxels of a grid of `resolution` per axis; pose: where its cube stands before the camera;
    seen_from: the pose under the picture alone, which the visibility is tested with, None if it was not sampled;
    visible: [N] what the picture shows of the voxels, None without a test. evaluations: of the flows, by stage and
    condition.
    """

    coords: Tensor
    resolution: int
    pose: Pose
    seen_from: Pose | None = None
    visible: Tensor | None = None
    evaluations: Counter = field(default_factory=Counter)


def prepare_object(image: Tensor, mask: Tensor, pointmap: Tensor | None = None) -> ObjectPicture:
    """The picture of the object.

    image: [3, H, W] in 0..1, background and all; mask: [H, W], above 0.5 is what is seen of the object; pointmap:
    [3, h, w] in PyTorch3D axes (x left, y up, z in), of the same aspect, not finite where unknown. Without one the
    structure stage sees the picture whole, as in the released code. Raises InputError for a mask that selects nothing
    or everything and for a point map that does not fit the picture or knows nothing of the object.
    """
    selected = _selected(image, mask)
    if bool(selected.all()):
        raise InputError("The mask selects the whole picture, background and all; paint the object alone.")
    if pointmap is None:
        structure = prepare(image, selected.float(), crop=False)
        return ObjectPicture(structure, prepare(image, selected.float()), selected)
    points = check_point_map(pointmap, selected)
    structure = prepare(image, selected.float(), points)
    if not bool(torch.isfinite(structure.scale).all()):  # more than half of the picture is sky
        structure = prepare(image, selected.float(), torch.where(points.isinf(), torch.nan, points))
    if not bool((structure.scale > 0).all()):
        raise InputError("The point map has one and the same point everywhere; give the map of this picture.")
    return ObjectPicture(structure, prepare(image, selected.float()), selected)


def prepare_prior(image: Tensor, mask: Tensor | None = None) -> ObjectPicture:
    """A prior picture; mask: its object, default all of it. Whole in the structure stage, cropped in the other."""
    mask = torch.ones(image.shape[1:]) if mask is None else mask
    selected = _selected(image, mask)
    return ObjectPicture(
        prepare(image, selected.float(), crop=False), prepare(image, selected.float()), selected
    )  # fmt: skip


def _selected(image: Tensor, mask: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or tuple(mask.shape) != tuple(image.shape[1:]):
        sizes = f"{mask.shape[-1]} x {mask.shape[-2]} and the picture {image.shape[-1]} x {image.shape[-2]}"
        raise InputError(f"The mask is {sizes}; both must have one size.")
    selected = mask > 0.5
    if not bool(selected.any()):
        raise InputError("The mask is empty: nothing in the picture is selected; paint the object.")
    return selected


@torch.no_grad()
def encode(family: Sam3d, part: str, pictures: Sequence[Prepared], keep: Sequence[str]) -> list[Tensor]:
    """Tokens [1, T, D] of pictures under the embedder `part`; keep: of each, see `EmbedderFuser.forward`."""
    with family.on_device(part) as embedder:
        return [
            embedder({name: value[None].to(family.device) for name, value in one.inputs.items()}, which)
            for one, which in zip(pictures, keep)
        ]


def structure_blur(options: StageSettings) -> LogitBlur | None:
    """The blur of the structure stage: of cross-attention alone, the released code reaches no other here."""
    if options.attention == "self":
        return None
    return (options.changed(attention="cross") if options.attention == "both" else options).blur()


def sample_structure(
    family: Sam3d,
    picture: ObjectPicture,
    priors: Sequence[ObjectPicture] = (),
    *,
    settings: RelaxSettings = PRESETS["paper"],
    sampler: SamplerSettings | None = None,
    seed: int = 42,
    branch: str = "blend",
    keep: str = KEEP,
    prior_keep: str = PRIOR_KEEP,
    visibility: VisibilitySettings = AS_RELEASED,
    occluded: bool = False,
    distilled: bool = False,
    progress: Progress | None = None,
) -> Structure:
    """Where the object is: voxels and pose.

    priors: none for plain SAM 3D. branch: "blend", "obs" or "prior". keep, prior_keep: which inputs count, "full",
    "cropped" or "cropped_and_mask". visibility: how strict the test is (its resolution follows the network). occluded:
    outside the mask nothing counts as seen. distilled: the network is told the step size and there is no guidance, for
    runs of few steps. progress(stage, done, steps). The noise is drawn on the CPU: first the picture's own run, then
    the blend. Raises InputError for an empty structure.
    """
    options, sampler = settings.structure, sampler or family.structure_sampler
    branch = branch if priors else _alone(branch)
    keeps = [keep, *[prior_keep] * len(priors)]
    obs, *others = encode(family, "ss_condition_embedder", [one.structure for one in (picture, *priors)], keeps)
    prior = _pooled(obs, others, options)
    blur, counts = structure_blur(options), Counter()
    times, told = shortcut_times(sampler.steps, sampler.rescale_t, distilled)
    low, high = (value / 1000 for value in sampler.interval)
    guidance = Guidance(0.0 if distilled else sampler.strength, (low, high))
    tested = branch == "blend" and settings.latent.masked and settings.latent.prior_weight > 0
    generator = torch.Generator().manual_seed(seed)
    with family.on_device("ss_generator") as flow:
        shapes = flow.latent_shapes()
        own, shared = ({n: torch.randn(shape, generator=generator) for n, shape in shapes.items()} for _ in range(2))
        total, before = sampler.steps * (1 + tested), 0
        kept = family.keeps(cached_bytes(flow, obs, prior, streams=2))

        def run(noise, which):
            options_of = attention_options(blur, shared_uncond=True, cache=kept)
            evaluate = structure_evaluator(flow, obs, prior, options_of, told)
            show = progress and (lambda done, steps, x, alpha: progress("structure", before + done, total))
            return sample(
                evaluate, {name: value.to(family.device) for name, value in noise.items()}, times, guidance,
                options.mix(sampler.steps), branch=which, shared_uncond=True, counts=counts, callback=show,
            )  # fmt: skip

        alone = run(own, "obs") if tested or branch == "obs" else None
        before = sampler.steps * tested
        latents = alone if branch == "obs" else run(shared, branch)
    coords, size, factor = _voxels(family, latents, generator)
    moments = picture.structure.scale, picture.structure.shift
    counts = Counter({f"structure {name}": number for name, number in counts.items()})
    structure = Structure(coords, size, decode_pose(latents, *moments).scaled(factor), evaluations=counts)
    if tested:
        _, _, own_factor = _voxels(family, alone, generator)
        structure.seen_from = decode_pose(alone, *moments).scaled(own_factor)
        find_visible(structure, picture, visibility, occluded)
    return structure


def _alone(branch: str) -> str:
    if branch == "prior":
        raise InputError("There are no priors; give at least one picture of what the hidden part should look like.")
    return "obs"


def _pooled(obs: Tensor, others: Sequence[Tensor], options: StageSettings) -> Tensor:
    if not others:
        return obs
    check_priors(others)
    return pool_priors(
        others, options.pooling, temperature=options.temperature, agreement_boost=options.agreement_boost
    )  # fmt: skip


def cached_bytes(flow: nn.Module, obs: Tensor, prior: Tensor, streams: int = 1) -> int:
    """What the keys and values of both conditions take in all blocks, for every stream of tokens that attends them."""
    tokens = obs.shape[1] + (0 if prior is obs else prior.shape[1])
    width = 2 * flow.config.model_channels * flow.torso_dtype.itemsize
    return flow.config.num_blocks * streams * tokens * width


@torch.no_grad()
def _voxels(family: Sam3d, latents: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, int, int]:
    """Voxels [N, 4], voxels per axis, and how many times their grid was shrunk."""
    shape = latents["shape"]
    side = round(shape.shape[1] ** (1 / 3))
    with family.on_device("ss_decoder") as decoder:
        logits = decoder(shape.mT.reshape(len(shape), -1, side, side, side))
    coords = occupied_coords(logits)
    if not len(coords):
        raise InputError("The structure is empty; another seed, or a picture that shows more of the object, may help.")
    if family.prune:
        coords = prune_inner(coords, family.prune)
    coords, factor = shrink(coords, generator=generator)
    return coords, logits.shape[-1], factor


def find_visible(
    structure: Structure, picture: ObjectPicture, settings: VisibilitySettings = AS_RELEASED, occluded: bool = False
) -> None:
    """Fill in what the picture shows of a structure; raises InputError where no pose was sampled to test with.

    occluded: outside the mask nothing counts as seen. Source: RelaxFlow; the camera has a fixed field of view of 40
    degrees, whatever the point map's.
    """
    pose = structure.seen_from
    if pose is None:
        raise InputError("There is no pose of the picture alone; sample the structure with priors, or give a mask.")
    height, width = picture.mask.shape
    structure.visible = visibility_from_pose(
        structure.coords, pose.translation, pose.rotation, pose.scale, fixed_intrinsics(height, width), height, width,
        selected=picture.mask.float() if occluded else None,
        settings=replace(settings, resolution=structure.resolution),
    )[0, :, 0]  # fmt: skip


def sample_latents(
    family: Sam3d,
    picture: ObjectPicture,
    structure: Structure,
    priors: Sequence[ObjectPicture] = (),
    *,
    settings: RelaxSettings = PRESETS["paper"],
    sampler: SamplerSettings | None = None,
    seed: int = 42,
    branch: str = "blend",
    visible: Tensor | None = None,
    keep: str = KEEP,
    prior_keep: str = PRIOR_KEEP,
    progress: Progress | None = None,
) -> SparseTensor:
    """What the voxels look like: denormalized latents on them.

    visible: [N] a mask of one's own instead of the structure's. Other arguments as `sample_structure`; evaluations are
    counted in `structure.evaluations`.
    """
    options, sampler = settings.latent, sampler or family.latent_sampler
    branch = branch if priors else _alone(branch)
    mask = structure.visible if visible is None else check_mask(visible, len(structure.coords))
    keeps = [keep, *[prior_keep] * len(priors)]
    obs, *others = encode(family, "slat_condition_embedder", [one.latent for one in (picture, *priors)], keeps)
    prior = _pooled(obs, others, options)
    blur = options.blur() if settings.sparse_blur else None
    shared, seen = can_share_uncond(blur), Counter()
    low, high = (value / 1000 for value in sampler.interval)
    generator = torch.Generator().manual_seed(seed)
    with family.on_device("slat_generator") as flow:
        noise = torch.randn((len(structure.coords), flow.config.in_channels), generator=generator).to(family.device)
        voxels = SparseTensor(noise, structure.coords.to(family.device))
        kept = family.keeps(cached_bytes(flow, obs, prior))
        feats = sample(
            sparse_evaluator(flow, voxels, obs, prior, attention_options(blur, shared_uncond=shared, cache=kept)),
            noise, flow_times(sampler.steps, sampler.rescale_t), Guidance(sampler.strength, (low, high)),
            options.mix(sampler.steps, None if mask is None else mask.to(noise)[:, None]),
            branch=branch, shared_uncond=shared, counts=seen,
            callback=progress and (lambda done, steps, x, alpha: progress("latent", done, steps)),
        )  # fmt: skip
    earlier = {name: number for name, number in structure.evaluations.items() if not name.startswith("latent")}
    structure.evaluations = Counter(earlier | {f"latent {name}": number for name, number in seen.items()})
    return voxels.replace(feats * family.std.to(feats) + family.mean.to(feats))


@torch.no_grad()
def decode(family: Sam3d, latents: SparseTensor, form: str) -> Splats | ColoredMesh:
    """Latents as "gaussian" or "gaussian_4" (so many Gaussians a voxel) or as "mesh", z up; colors [V, 3] sRGB."""
    if form not in DECODERS:
        raise InputError(f"The format {form!r} is unknown; known are {', '.join(DECODERS)}.")
    with family.on_device(DECODERS[form]) as decoder:
        out = decoder(latents)
        if form == "mesh":
            (mesh,) = decoder.meshes(out)
            colors = None if mesh.colors is None else mesh.colors[:, :3]
            return ColoredMesh(mesh.vertices, mesh.faces, colors)
        return as_splats(decoder.gaussians(out)[0], decoder.config.representation_config)
