"""RelaxFlow on core's models: blurred attention, priors, visibility, and the guider that joins two conditions."""

from __future__ import annotations

import torch

from ..kernels.logit_blur import PADDINGS, WHERE, LogitBlur
from ..models.relaxflow.blends import BLENDS
from ..models.relaxflow.layout import scene_view
from ..models.relaxflow.priors import POOLINGS
from ..models.relaxflow.schedules import SCHEDULES
from ..models.relaxflow.settings import PRESETS, StageSettings, preset
from ..models.relaxflow.visibility import VisibilitySettings, mask_on_grid, visibility_from_camera
from ..models.relaxflow.visibility_preview import mask_picture
from ..scene.cameras import look_at
from ..scene.errors import InputError
from . import host
from .host import io, layout_types

CATEGORY = f"{host.CATEGORY}/RelaxFlow"
CUSTOM = "custom"
STAGES = ("structure", "latent")


def sigma_input(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=50.0, step=0.1, tooltip=tooltip)


class AttentionLogitBlur(io.ComfyNode):
    """MODEL -> MODEL whose attention logits are low-passed."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineAttentionLogitBlur",
            display_name="Attention Logit Blur",
            category=CATEGORY,
            description="Low-pass the attention of a model: what a condition says is followed in the large and not in "
                        "the detail. Exact and cheap: queries and keys are blurred, not the matrix of their products.",
            search_aliases=["relaxflow", "blur attention", "low pass", "attention guidance", "smoothed energy"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to patch: TRELLIS.2, Pixal3D, FLUX or another whose attention can be "
                                     "overridden. Where nothing can be reached the sampler says so."
                ),
                sigma_input("sigma_queries", "Blur along the queries (the 3D tokens), in tokens. 0 leaves them."),
                sigma_input("sigma_keys", "Blur along the keys (the picture's tokens in cross-attention), in tokens."),
                io.Combo.Input(
                    "attention", options=list(WHERE), default="cross",
                    tooltip="Which attention is blurred: that to the condition, that of the tokens to each other, or "
                            "both. FLUX has only the second kind.",
                ),
                io.Combo.Input(
                    "branch", options=["all", "positive", "negative"], default="all", advanced=True,
                    tooltip="Which condition of a guided pass is blurred.",
                ),
                io.Combo.Input(
                    "padding", options=list(PADDINGS), default="zero", advanced=True,
                    tooltip="What lies beyond the ends of the tokens. As released: zero, which weakens the ends.",
                ),
                io.Int.Input(
                    "special_tokens", default=0, min=0, max=64, advanced=True,
                    tooltip="So many tokens at the start of the condition (CLS and registers: 5 for DINOv3) are left "
                            "sharp. As released: 0.",
                ),
                io.Boolean.Input(
                    "true_axes", default=False, optional=True, advanced=True,
                    tooltip="Beyond the paper: blur along the axes of the 3D grid or of the voxels, and of the "
                            "picture's patches, instead of token after token. Needs the right `special_tokens`.",
                ),
                io.Int.Input(
                    "priors", default=1, min=1, max=64, optional=True, advanced=True,
                    tooltip="So many priors lie side by side in the condition (Combine Priors, concat): the blur does "
                            "not cross from one to the next. As released: 1, it does.",
                ),
            ],
            outputs=[io.Model.Output(id="model", display_name="model", tooltip="The patched model.")],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, sigma_queries, sigma_keys, attention, branch, padding, special_tokens, true_axes=False, priors=1
    ) -> io.NodeOutput:  # fmt: skip
        blur = LogitBlur(sigma_queries, sigma_keys, padding, attention, special=special_tokens)
        return io.NodeOutput(host.blur_attention(model, blur, branch, true_axes, priors))


class CombinePriors(io.ComfyNode):
    """Conditionings of several prior pictures -> the one of the prior branch."""

    @classmethod
    def define_schema(cls):
        prior = io.Conditioning.Input(
            "prior", tooltip="The positive conditioning of a prior picture; one of a batch of pictures counts as many."
        )
        return io.Schema(
            node_id="SightlineCombinePriors",
            display_name="Combine Priors",
            category=CATEGORY,
            description="Make one condition of several pictures that show what the hidden part may look like. The "
                        "pictures may come from anywhere: photos, or any text to image workflow with the background "
                        "removed.",
            search_aliases=["relaxflow prior", "multi prior consensus", "average conditioning", "proxy images"],
            inputs=[
                io.Autogrow.Input(
                    "priors", template=io.Autogrow.TemplatePrefix(prior, prefix="prior", min=1, max=8),
                    tooltip="Conditionings made like that of the observation, from one prior picture each.",
                ),
                io.Combo.Input(
                    "pooling", options=list(POOLINGS), default="concat",
                    tooltip="concat: all tokens side by side (the paper). mean: their average. consensus: tokens count "
                            "by how well the priors agree.",
                ),
                io.Float.Input(
                    "temperature", default=0.1, min=0.001, max=10.0, step=0.001, advanced=True,
                    tooltip="Of consensus: lower lets the agreeing priors count more.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="prior", display_name="prior", tooltip="The condition for `prior` of the Dual-Branch Guider."
                )
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, priors, pooling, temperature) -> io.NodeOutput:
        given = [one for one in priors.values() if one is not None]
        return io.NodeOutput(host.combine_priors(given, pooling, temperature))


class VisibilityMaskNode(io.ComfyNode):
    """Voxels and a camera -> what the picture shows of them."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineVisibilityMask",
            display_name="Visibility Mask",
            category=CATEGORY,
            description="Find which voxels the picture shows and which are hidden, by a depth test from its camera. "
                        "The guider leaves the seen ones to the observation. Seen voxels are shown in green, hidden "
                        "ones in red.",
            search_aliases=["relaxflow visibility", "occlusion mask 3d", "z buffer", "hidden voxels"],
            inputs=[
                io.Voxel.Input("voxel", tooltip="The object's structure without priors, from the structure decoder."),
                io.Float.Input(
                    "fov", default=51.99, min=0.1, max=179.0, step=0.01,
                    tooltip="Horizontal field of view of the picture in degrees; not used with `cameras`.",
                ),
                io.Combo.Input(
                    "frame", options=["y_up", "z_up"], default="y_up",
                    tooltip="How the voxels stand: y_up for Pixal3D, z_up for TRELLIS.2.",
                ),
                io.Float.Input(
                    "tolerance", default=1.5, min=0.0, max=64.0, step=0.1, advanced=True,
                    tooltip="How far behind the surface a voxel still counts as seen, in voxels.",
                ),
                io.Float.Input(
                    "falloff", default=3.0, min=0.0, max=100.0, step=0.1, advanced=True,
                    tooltip="How fast visibility drops behind the surface; higher is sharper.",
                ),
                io.Float.Input(
                    "dilate", default=1.5, min=0.0, max=32.0, step=0.1, advanced=True,
                    tooltip="How wide every voxel covers the picture, in voxels, so that the surface has no gaps.",
                ),
                host.CamerasType.Input(
                    "cameras", optional=True, tooltip="The camera of the picture; without it one in front, with `fov`."
                ),
                io.Mask.Input(
                    "occluder", optional=True,
                    tooltip="Where something else stands in front of the object (white): nothing is seen there.",
                ),
                io.Image.Input(
                    "depth", optional=True,
                    tooltip="Measured depth along the view axis in units of the camera, instead of the object's own.",
                ),
                io.Voxel.Input(
                    "override", optional=True,
                    tooltip="A grid of your own with 1 where the picture is to decide; replaces the depth test.",
                ),
                io.String.Input(
                    "subject", default="", optional=True,
                    tooltip="Which box of `scene` is the object: its name, words or number. Empty: the one marked for "
                            "3D generation, or the only one.",
                ),
                layout_types.SceneType.Input(
                    "scene", optional=True,
                    tooltip="The known layout: camera, the box of the object and the boxes before it, instead of `fov` "
                            "and `cameras`.",
                ),
            ],
            outputs=[
                host.VisibilityType.Output(
                    id="visibility", display_name="visibility", tooltip="The mask for the Dual-Branch Guider."
                ),
                io.Image.Output(id="preview", display_name="preview", tooltip="The voxels: seen green, hidden red."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, voxel, fov, frame, tolerance, falloff, dilate, cameras=None, occluder=None, depth=None, override=None,
        subject="", scene=None,
    ) -> io.NodeOutput:  # fmt: skip
        (coords, resolution), *others = host.occupied(voxel)
        if others:
            raise InputError(f"`voxel` holds {len(others) + 1} objects; the visibility mask wants one.")
        settings = VisibilitySettings(falloff, tolerance, dilate, resolution)
        picture = None if occluder is None else host.masks(occluder)[0]
        if scene is not None and (cameras is not None or depth is not None):
            raise InputError("`scene` brings a camera and depths of its own; connect it without `cameras` and `depth`.")
        view = None if scene is None else scene_view(scene, subject, frame)
        camera = (
            view.cube_camera()
            if view
            else front_camera(cameras, fov, frame, None if picture is None else picture.shape)
        )
        if depth is not None:
            depth = host.pictures(depth)[0].mean(0)
            camera = camera.resized(depth.shape[1], depth.shape[0])
        if override is not None:
            given = override.data[0].float().cpu()
            mask = given if given.shape[-1] == resolution else mask_on_grid(given, resolution)
        else:
            given = {"selected": None if picture is None else 1 - picture, "settings": settings, "surface": coords}
            mask = view.visibility(None, **given) if view else visibility_from_camera(
                None, camera, depth=depth, **given
            )  # fmt: skip
            mask = mask.view(resolution, resolution, resolution)
        shown = mask_picture(coords.cpu(), mask, camera, resolution)
        image = (shown.float() / 255)[None]
        return io.NodeOutput(mask, host.result(image), ui=host.show_images(image))


def front_camera(cameras, fov: float, frame: str, size):
    """One camera that looks at the cube: the one given, or in front at the distance at which Pixal3D's stands."""
    height, width = size or (host.PREVIEW_SIZE, host.PREVIEW_SIZE)
    if cameras is not None:
        return cameras[0].resized(width, height)
    distance = 0.5 / torch.tan(torch.deg2rad(torch.tensor(fov / 2))).item()
    if frame == "y_up":
        return look_at((0.0, 0.0, distance), (0.0, 0.0, 0.0), fov, width, height, up=(0.0, 1.0, 0.0))
    return look_at((0.0, -distance, 0.0), (0.0, 0.0, 0.0), fov, width, height)


class DualBranchGuiderNode(io.ComfyNode):
    """Two conditions -> a GUIDER that follows the picture where it shows something and the priors elsewhere."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineDualBranchGuider",
            display_name="Dual-Branch Guider",
            category=CATEGORY,
            description="Guide a model by two conditions at once: the picture, and priors of what its hidden part may "
                        "look like, with blurred attention and fading over the steps. For Sampler Custom Advanced.",
            search_aliases=["relaxflow", "amodal completion", "complete hidden part", "prior guidance", "guider"],
            inputs=[
                io.Model.Input("model", tooltip="TRELLIS.2, Pixal3D or another flow model of ComfyUI."),
                io.Conditioning.Input("positive", tooltip="The observation: conditioning of the picture itself."),
                io.Conditioning.Input("negative", tooltip="Its negative conditioning; both branches share it."),
                io.Conditioning.Input("prior", tooltip="Conditioning of the priors, from Combine Priors."),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1,
                    tooltip="Guidance of both branches; CFG Override works on it.",
                ),
                io.Combo.Input(
                    "preset", options=[*PRESETS, CUSTOM], default="paper",
                    tooltip="paper: cross-attention, sigma 1, the prior fades out over a fifth of the steps. as "
                            "released: the code's defaults. custom: the widgets below, which count only then.",
                ),
                io.Combo.Input(
                    "stage", options=list(STAGES), default="structure",
                    tooltip="Which stage is sampled; the presets differ in it. The mask belongs to the latent stage.",
                ),
                io.Combo.Input(
                    "schedule", options=list(SCHEDULES), default="linear_cutoff",
                    tooltip="Custom: how the prior's share fades over the steps.",
                ),
                io.Float.Input(
                    "alpha", default=1.0, min=0.0, max=2.0, step=0.01,
                    tooltip="Custom: the prior's share at the start; 0 is plain guidance by the picture.",
                ),
                io.Float.Input(
                    "cutoff", default=0.2, min=0.0, max=1.0, step=0.01,
                    tooltip="Custom: the part of the steps after which the prior is silent (linear_cutoff, cosine).",
                ),
                io.Combo.Input(
                    "blend", options=list(BLENDS), default="linear",
                    tooltip="Custom: how the two velocities are mixed.",
                ),
                io.Float.Input(
                    "prior_weight", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Custom: weight of the prior's velocity; 0 leaves the prior out.",
                ),
                sigma_input("sigma", "Custom: blur of the prior's attention, in tokens; 0 is none."),
                io.Combo.Input(
                    "attention", options=["none", *WHERE], default="cross",
                    tooltip="Custom: which attention of the prior branch is blurred.",
                ),
                host.VisibilityType.Input(
                    "visibility", optional=True,
                    tooltip="From Visibility Mask: what is seen is left to the picture. For the structure too, if "
                            "connected.",
                ),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="The latent that will be sampled in the latent stage: it names the voxels of the mask.",
                ),
                io.Boolean.Input(
                    "hold_seen", default=False, optional=True, advanced=True,
                    tooltip="Beyond the paper: what `visibility` shows ends where the picture alone ends, whatever the "
                            "hidden part becomes; the picture's own run is sampled first. Off, it is only guided.",
                ),
            ],
            outputs=[
                io.Guider.Output(id="guider", display_name="guider", tooltip="For Sampler Custom Advanced."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, positive, negative, prior, cfg, preset, stage, schedule, alpha, cutoff, blend, prior_weight, sigma,
        attention, visibility=None, latent=None, hold_seen=False,
    ) -> io.NodeOutput:  # fmt: skip
        settings = stage_settings(
            preset, stage, schedule, alpha, cutoff, blend, prior_weight, sigma, attention, visibility is not None
        )
        if hold_seen and visibility is None:
            raise InputError("`hold_seen` needs `visibility`: connect Visibility Mask, which says what is seen.")
        visible = None if visibility is None else host.mask_for(visibility, latent)
        return io.NodeOutput(
            host.dual_branch_guider(model, positive, negative, prior, cfg, settings, visible, hold_seen)
        )  # fmt: skip


def stage_settings(name, stage, schedule, alpha, cutoff, blend, weight, sigma, attention, masked) -> StageSettings:
    """The settings of a preset, or of the widgets."""
    if name == CUSTOM:
        given = {"alpha0": alpha, "mid_ratio": cutoff}
        return StageSettings(weight, sigma, attention, "zero", schedule, given, blend, masked=masked)
    both = preset(name)
    chosen = getattr(both, stage)
    if stage == "latent" and not both.sparse_blur:
        chosen = chosen.changed(attention="none")
    return chosen.changed(masked=masked)
