"""SAM 3D Objects, alone or with RelaxFlow: loader and two samplers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.relaxflow.visibility import VisibilitySettings, mask_of_voxels
from ..models.relaxflow.visibility_preview import mask_picture
from ..models.sam3d.family import load_sam3d
from ..models.sam3d.fuser import KEEP
from ..models.sam3d.pose import pose_camera, preview_camera
from ..models.sam3d.times import LATENT, STRUCTURE, SamplerSettings
from ..models.sam3d.weights import SAM3D
from ..pipelines.relaxflow_sam3d import (
    PRIOR_KEEP,
    ObjectPicture,
    prepare_object,
    prepare_prior,
    sample_latents,
    sample_structure,
    structure_blur,
)
from ..scene.errors import InputError
from ..scene.images import check_image
from . import host
from .host import io
from .host import sam3d as room
from .relax_settings import PAPER, relax_input
from .sampler_widgets import rescale_input, seed_input, steps_input
from .trellis2_models import NONE

CATEGORY = f"{host.CATEGORY}/SAM 3D Objects"
FOLDER = room.SAM3D_FOLDER
PRECISIONS = ("as published", "float32", "bfloat16", "float16")
RELEASED = VisibilitySettings(centered=False)


def model_input() -> io.Input:
    return room.Sam3dModels.Input("model", tooltip="The models of Load SAM 3D Objects Models.")


def sampler_inputs(published: SamplerSettings, guided: str) -> list:
    """The widgets of a sampler with the published defaults of its stage."""
    return [
        seed_input(),
        steps_input(published.steps),
        io.Float.Input("guidance", default=published.strength, min=0.0, max=100.0, step=0.1, tooltip=guided),
        rescale_input(published.rescale_t),
    ]  # fmt: skip


class SAM3DLoader(io.ComfyNode):
    """SAM 3D Objects as published -> models."""

    @classmethod
    def define_schema(cls):
        families = room.sam3d_families() or [NONE]
        return io.Schema(
            node_id="SightlineSAM3DLoader",
            display_name="Load SAM 3D Objects Models",
            category=CATEGORY,
            description="Load SAM 3D Objects as published: pipeline.yaml and the checkpoints beside it, or checkpoints "
                        "alone, which are told by their keys. Every network is read when it is first used. Files are "
                        "never executed.",
            search_aliases=["sam3d", "sam 3d objects", "image to 3d model", "meta sam", "relaxflow"],
            inputs=[
                io.Combo.Input(
                    "models", options=families, default=families[0],
                    tooltip=f"A pipeline.yaml (or ss_generator.ckpt) in models/{FOLDER} with the files it names, as "
                            f"facebook/sam-3d-objects is published. Licence: {SAM3D.licence}; the repository is gated.",
                ),
                io.Combo.Input(
                    "precision", options=list(PRECISIONS), default=PRECISIONS[0], optional=True, advanced=True,
                    tooltip="Of the networks' inner layers. As published, the structure is in float32 and the rest in "
                            "float16; float16 takes half the memory for the structure, too. Without a GPU as published "
                            "means float32.",
                ),
            ],
            outputs=[
                room.Sam3dModels.Output(id="model", display_name="model", tooltip="The models, for the SAM 3D nodes."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, models, precision=PRECISIONS[0]):
        return models if models == NONE else f"{host.file_state(host.weight_path(FOLDER, models))} {precision}"

    @classmethod
    @host.one_sentence
    def execute(cls, models, precision=PRECISIONS[0]) -> io.NodeOutput:
        if models == NONE:
            places = " or ".join(map(str, host.folders(FOLDER)))
            raise InputError(f"There is no pipeline.yaml of SAM 3D Objects in {places}; put the published files there.")
        dtype = None if precision == PRECISIONS[0] else precision
        dtype = "float32" if dtype is None and room.runs_on_cpu() else dtype
        family = load_sam3d(host.weight_path(FOLDER, models), formats=(), dtype=dtype)
        host.tell(f"{models}: {len(family.networks)} networks")
        return io.NodeOutput(room.HostedSam3d.of(family))


class SAM3DStructure(io.ComfyNode):
    """Picture, mask, point map, priors -> voxels and pose."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSAM3DStructure",
            display_name="Structure and Pose (SAM 3D)",
            category=CATEGORY,
            description="First stage of SAM 3D Objects: which voxels the masked object fills and where it stands "
                        "before the camera. With priors, RelaxFlow completes what the picture does not show; what it "
                        "shows is found by the pose.",
            search_aliases=["sam3d structure", "object pose", "layout", "relaxflow", "amodal completion", "occupancy"],
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="The whole picture, background and all."),
                io.Mask.Input("mask", tooltip="What is seen of the object (white), for example from SAM."),
                *sampler_inputs(
                    STRUCTURE, "How strongly the picture is followed in the noisy half of the steps; 0 follows it "
                               "plainly, at half the cost."
                ),
                io.Boolean.Input(
                    "distilled", default=False, advanced=True,
                    tooltip="Few steps: the network is told how long they are and there is no guidance. For 2 to 8 "
                            "steps; needs the published shortcut model.",
                ),
                io.Combo.Input(
                    "keep", options=list(KEEP), default="full", advanced=True,
                    tooltip="What the network sees of the picture: everything, or the cut-out alone, with or without "
                            "its mask.",
                ),
                io.Combo.Input(
                    "prior_keep", options=list(KEEP), default=PRIOR_KEEP, advanced=True,
                    tooltip="The same for the priors.",
                ),
                io.Float.Input(
                    "tolerance", default=RELEASED.tolerance, min=0.0, max=64.0, step=0.1, advanced=True,
                    tooltip="How far behind the surface a voxel still counts as seen, in voxels.",
                ),
                io.Float.Input(
                    "falloff", default=RELEASED.falloff, min=0.0, max=100.0, step=0.1, advanced=True,
                    tooltip="How fast visibility drops behind the surface; higher is sharper.",
                ),
                io.Float.Input(
                    "dilate", default=RELEASED.dilate, min=0.0, max=16.0, step=0.1, advanced=True,
                    tooltip="How wide every voxel covers the picture, in voxels, so that the surface has no gaps.",
                ),
                io.Boolean.Input(
                    "outside_hidden", default=False, advanced=True,
                    tooltip="Nothing counts as seen outside the mask: for objects with another one in front of them.",
                ),
                room.PointMapType.Input(
                    "point_map", optional=True,
                    tooltip="Point Map of the whole picture. Without it size and distance are a guess and the object "
                            "is not cut out for this stage, as released.",
                ),
                io.Image.Input(
                    "priors", optional=True,
                    tooltip="Pictures of what the hidden part may look like; a batch counts as many. Without them this "
                            "is SAM 3D Objects itself.",
                ),
                io.Mask.Input(
                    "prior_masks", optional=True,
                    tooltip="Where the objects of the priors are (white): one for all or one each. Without them the "
                            "alpha channel, or all of each picture.",
                ),
                relax_input(),
            ],
            outputs=[
                room.StructureType.Output(
                    id="structure", display_name="structure", tooltip="For the Latent Sampler (SAM 3D)."
                ),
                io.Voxel.Output(id="voxel", display_name="voxel", tooltip="The voxels of the object, Z up."),
                host.VisibilityType.Output(
                    id="visibility", display_name="visibility",
                    tooltip="What the picture shows of the voxels, by the pose it has without priors; all of them "
                            "where there is no test.",
                ),
                host.CamerasType.Output(
                    id="camera", display_name="camera",
                    tooltip="The picture's camera before the object (40 degrees, as released), Z up.",
                ),
                io.Image.Output(
                    id="preview", display_name="preview",
                    tooltip="The voxels from the camera and from behind: seen green, hidden red.",
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, image, mask, seed, steps, guidance, rescale_t, distilled, keep, prior_keep, tolerance, falloff,
        dilate, outside_hidden, point_map=None, priors=None, prior_masks=None, relax=None,
    ) -> io.NodeOutput:  # fmt: skip
        picture, others = one_picture(image, mask, point_map), prior_pictures(priors, prior_masks)
        bar, settings = host.Progress(), relax or PAPER
        sampler = SamplerSettings(steps, rescale_t, guidance, model.structure_sampler.interval)
        structure = sample_structure(
            model, picture, others, settings=settings, sampler=sampler, seed=seed, keep=keep, prior_keep=prior_keep,
            visibility=VisibilitySettings(falloff, tolerance, dilate, centered=False), occluded=outside_hidden,
            distilled=distilled, progress=lambda stage, done, total: bar(done, total),
        )  # fmt: skip
        side, rows = structure.resolution, structure.coords[:, 1:].long().cpu()
        grid, seen = torch.zeros(1, side, side, side), torch.zeros(side, side, side)
        grid[0][tuple(rows.T)] = 1
        visible = torch.ones(len(rows)) if structure.visible is None else structure.visible
        seen[tuple(rows.T)] = visible
        seen_from = structure.seen_from or structure.pose
        camera = pose_camera(seen_from, *picture.mask.shape)
        shown = (mask_picture(rows, seen, preview_camera(seen_from), side).float() / 255)[None]
        told = "" if structure.visible is None else f", {100 * float(visible.mean()):.0f} % of them seen"
        if others and settings.structure.blur() is not None and structure_blur(settings.structure) is None:
            told += " (`self` blurs nothing in this stage, as released)"
        host.tell(f"{len(rows):,} voxels{told}; distance {float(structure.pose.translation[0, 2]):.2f}, "
                  f"size {float(structure.pose.scale[0, 0]):.2f}")  # fmt: skip
        found = room.SampledObject(structure, picture, others, settings, keep, prior_keep)
        return io.NodeOutput(
            found, host.dense_voxels(grid), seen, camera, host.result(shown), ui=host.show_images(shown)
        )  # fmt: skip


def one_picture(image: Tensor, mask: Tensor, points: Tensor | None) -> ObjectPicture:
    """The picture of one object; InputError for a batch."""
    pictures, masks = host.pictures(image), host.masks(mask)
    if len(pictures) != 1 or len(masks) != 1:
        raise InputError(f"`image` and `mask` are of {len(pictures)} and {len(masks)} pictures; SAM 3D takes one each.")
    check_image(pictures[0], "`image`")
    return prepare_object(pictures[0, :3], masks[0], points)


def prior_pictures(priors: Tensor | None, masks: Tensor | None) -> list[ObjectPicture]:
    """The prior pictures, none without."""
    if priors is None:
        return []
    pictures = host.pictures(priors)
    if masks is not None:
        masks = host.masks(masks)
        if len(masks) not in (1, len(pictures)):
            raise InputError(f"There are {len(pictures)} priors and {len(masks)} masks; give one, or one each.")
        masks = masks.expand(len(pictures), -1, -1)
    elif pictures.shape[1] == 4:
        masks = pictures[:, 3]
    found = []
    for number, picture in enumerate(pictures):
        try:
            check_image(picture, "The picture")
            found.append(prepare_prior(picture[:3], None if masks is None else masks[number]))
        except InputError as error:
            raise InputError(f"Prior {number + 1}: {error}") from None
    return found


class SAM3DLatent(io.ComfyNode):
    """Structure -> latents."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSAM3DLatent",
            display_name="Latent Sampler (SAM 3D)",
            category=CATEGORY,
            description="Second stage of SAM 3D Objects: form and color on the voxels, by the picture and the priors "
                        "of the first stage. What is seen is left to the picture.",
            search_aliases=["sam3d slat", "structured latent", "relaxflow latent", "sam3d texture"],
            inputs=[
                model_input(),
                room.StructureType.Input("structure", tooltip="From Structure and Pose (SAM 3D)."),
                *sampler_inputs(
                    LATENT, "How strongly the picture is followed in the noisy half of the steps; 0 follows it "
                            "plainly, at half the cost."
                ),
                relax_input(),
                host.VisibilityType.Input(
                    "visibility", optional=True,
                    tooltip="A mask of your own, for example from Visibility Mask; without it that of the first stage.",
                ),
            ],
            outputs=[
                io.Latent.Output(id="latent", display_name="latent", tooltip="The latents, for the SAM 3D decoders."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, structure, seed, steps, guidance, rescale_t, relax=None, visibility=None
    ) -> io.NodeOutput:  # fmt: skip
        given, bar = structure, host.Progress()
        visible = None
        if visibility is not None:
            visible = mask_of_voxels(visibility, given.structure.coords[:, 1:].cpu(), given.structure.resolution)
        latents = sample_latents(
            model, given.picture, given.structure, given.priors, settings=relax or given.settings, seed=seed,
            sampler=SamplerSettings(steps, rescale_t, guidance, model.latent_sampler.interval), visible=visible,
            keep=given.keep, prior_keep=given.prior_keep, progress=lambda stage, done, total: bar(done, total),
        )  # fmt: skip
        return io.NodeOutput(room.sam3d_latent(model, latents, given.structure))
