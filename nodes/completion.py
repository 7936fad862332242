"""RelaxFlow on this pack's own TRELLIS.2-like models: a partly hidden object completed in one node."""

from __future__ import annotations

import torch

from ..models.relaxflow.visibility_preview import mask_picture
from ..pipelines.relaxflow_cascade import complete_projected, world_camera
from ..scene.errors import InputError
from . import host
from .host import io
from .relax_settings import PAPER, relax_input
from .relaxflow import CATEGORY
from .trellis2_condition import ObjectPictures


class CompletionSampler(io.ComfyNode):
    """Picture, priors -> structure, shape and texture of the whole object."""

    @classmethod
    def define_schema(cls):
        prior = host.PictureConditionType.Input(
            "prior", tooltip="Projection Conditioner of a prior picture; one of a batch of pictures counts as many."
        )
        return io.Schema(
            node_id="SightlineCompletionSampler",
            display_name="Completion Sampler",
            category=CATEGORY,
            description="Complete an object of which the picture shows a part: all three stages of this pack's own "
                        "Pixal3D models in one pass each, by the picture where it shows something and by the priors "
                        "elsewhere. For ComfyUI's own models: Dual-Branch Guider.",
            search_aliases=["relaxflow", "amodal completion", "complete hidden part", "occluded object", "prior"],
            inputs=[
                host.Trellis2Models.Input("model", tooltip="The models of Load TRELLIS.2 or Pixal3D Models."),
                host.PictureConditionType.Input(
                    "condition",
                    tooltip="Projection Conditioner of the picture; its mask is the part of the object that is seen.",
                ),
                io.Autogrow.Input(
                    "priors", template=io.Autogrow.TemplatePrefix(prior, prefix="prior", min=1, max=8),
                    tooltip="Conditions of pictures that show what the hidden part may look like, in about the pose of "
                            "the picture.",
                ),
                io.Int.Input(
                    "seed", default=42, min=0, max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Number that chooses the starting noise.",
                ),
                io.Boolean.Input(
                    "hold_seen", default=True,
                    tooltip="What is seen keeps the states and voxels of the picture's own run, whatever the hidden "
                            "part becomes. Off, as in the paper: it is only guided by the picture, in half the time.",
                ),
                relax_input(),
                host.VisibilityType.Input(
                    "visibility", optional=True,
                    tooltip="From Visibility Mask. Without it: what the front camera sees beside the `occluder`.",
                ),
                io.Mask.Input(
                    "occluder", optional=True,
                    tooltip="Where something stands in front of the object (white), in the prepared picture; not used "
                            "with `visibility`.",
                ),
            ],
            outputs=[
                io.Voxel.Output(id="voxel", display_name="voxel", tooltip="The voxels of the completed object."),
                io.Latent.Output(
                    id="shape", display_name="shape", tooltip="Its shape latent, for Decode Shape and Texture."
                ),
                io.Latent.Output(
                    id="texture", display_name="texture", tooltip="Its texture latent, for Decode Shape and Texture."
                ),
                io.Image.Output(
                    id="preview", display_name="preview",
                    tooltip="The voxels: those that the picture decided green, those of the priors red.",
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, priors, seed, hold_seen, relax=None, visibility=None, occluder=None
    ) -> io.NodeOutput:  # fmt: skip
        picture, camera = one_picture(condition, "condition")
        others = [single(one, "priors") for given in priors.values() if given for one in given]
        if not model.projects:
            raise InputError(
                "`model` is TRELLIS.2, which looks at pictures without a camera; the Completion Sampler takes a "
                "Pixal3D family, the Dual-Branch Guider both."
            )
        done = complete_projected(
            model, picture, [one for one, _ in others], camera, prior_cameras=[one for _, one in others],
            occluder=None if occluder is None else host.masks(occluder)[0], visible=visibility,
            settings=relax or PAPER, seed=seed, anchored=hold_seen, progress=host.Progress(),
        )  # fmt: skip
        side = done.visible.shape[0]
        grid = torch.zeros(1, side, side, side)
        grid[0][tuple(done.coords.long().T.cpu())] = 1
        config, latents = model.config, done.latents
        rows = latents.shape.coords[:, 1:]
        shape = host.sparse_latent([(config.shape_normalization.normalize(latents.shape.feats), rows)], side, "y_up")
        color = host.sparse_latent([(config.tex_normalization.normalize(latents.texture.feats), rows)], side, "y_up")
        shown = mask_picture(done.coords.cpu(), done.visible, world_camera(camera, host.PREVIEW_SIZE), side)
        image = (shown.float() / 255)[None]
        host.tell(
            f"{len(done.coords):,} voxels, {len(done.observed):,} from the picture alone; seen part {done.iou():.2f}"
        )
        return io.NodeOutput(
            host.dense_voxels(grid), shape, color, host.result(image), ui=host.show_images(image)
        )  # fmt: skip


def one_picture(condition: list[ObjectPictures], name: str):
    """The picture and camera of one object."""
    if len(condition) != 1:
        raise InputError(f"`{name}` is of {len(condition)} objects; the picture of one is needed.")
    return single(condition[0], name)


def single(one: ObjectPictures, name: str):
    """The only picture of an object and the camera in front of it."""
    if len(one.pictures) != 1 or not hasattr(one.camera, "fov"):
        raise InputError(f"`{name}` has {len(one.pictures)} posed views; connect `image` of Projection Conditioner.")
    return one.pictures[0], one.camera
