"""Splats as pictures and files: Splat Turntable, Save Splat."""

from __future__ import annotations

import torch

from ..pipelines.sparsegen import ELEVATION, render_splats
from ..scene.cameras import turntable
from ..scene.images import color
from ..scene.splat_files import encode_splats
from ..scene.views import depth_picture, framing
from . import host
from .host import io
from .views import fov_input

CATEGORY = f"{host.CATEGORY}/Splats"
FORMATS = ("ply", "splat")
PREVIEW_FPS = 12.0


class SplatTurntable(io.ComfyNode):
    """Draw a splat from all sides with our own rasterizer; the pictures need no WebGL."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSplatTurntable",
            display_name="Splat Turntable",
            category=CATEGORY,
            description="Draw a Gaussian splat from a circle of cameras, starting at its front. The frames go to any "
                        "image or video node; the animation shows on the node, without WebGL.",
            search_aliases=["render splat", "gaussian turntable", "orbit video", "splat to image", "splat preview"],
            inputs=[
                io.Splat.Input("splat", tooltip="The Gaussian splat to draw; of a batch, one turn after the other."),
                io.Int.Input(
                    "frames", default=24, min=1, max=720, tooltip="Pictures in one full turn; 1 gives a single picture."
                ),
                io.Int.Input(
                    "width", default=256, min=16, max=2048, step=8, tooltip="Width of the pictures in pixels."
                ),
                io.Int.Input(
                    "height", default=256, min=16, max=2048, step=8, tooltip="Height of the pictures in pixels."
                ),
                io.Float.Input(
                    "elevation", default=ELEVATION, min=-90.0, max=90.0, step=1.0,
                    tooltip="Height of the camera in degrees: 0 is level with the object, 90 straight from above.",
                ),
                io.Color.Input("background", default="#ffffff", tooltip="Color behind the object."),
                io.Float.Input(
                    "start", default=0.0, min=-360.0, max=360.0, step=1.0, advanced=True,
                    tooltip="Azimuth of the first picture in degrees; 0 is the front, positive is a walk to the right "
                            "around the object.",
                ),
                io.Float.Input(
                    "radius", default=0.0, min=0.0, max=1000.0, step=0.01, advanced=True,
                    tooltip="Distance from the camera to the origin, where SparseGen puts the object (1.3 frames it as "
                            "in the pictures); 0 looks at the middle of the splat from where all of it is seen.",
                ),
                fov_input(),
            ],
            outputs=[
                io.Image.Output(
                    id="images", display_name="images", tooltip="The frames of the turn, on the background."
                ),
                io.Mask.Output(id="masks", display_name="masks", tooltip="How much of each pixel the object covers."),
                io.Image.Output(
                    id="depth", display_name="depth",
                    tooltip="Depth as gray pictures: near is bright, far is dark, nothing is black; one scale for all "
                            "frames.",
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, background=None):
        return host.answer(lambda: background is None or color(background))

    @classmethod
    @host.one_sentence
    def execute(cls, splat, frames, width, height, elevation, background, start, radius, fov) -> io.NodeOutput:
        items = [item.to(host.render_device()) for item in host.splats(splat)]
        progress = host.Progress(frames * len(items))
        pictures, alphas, depths = [], [], []
        for item in items:
            before = len(pictures) * frames
            target, distance = ((0.0, 0.0, 0.0), radius) if radius else framing(item, fov, width / height)
            cameras = turntable(frames, elevation, distance, fov, width, height, start=start, target=target)
            render = render_splats(
                item, cameras.to(item.device), background=color(background),
                callback=lambda done, _, before=before: progress(before + done, len(items) * frames),
            )  # fmt: skip
            pictures.append(host.result(render.color))
            alphas.append(host.result(render.alpha))
            depths.append(host.result(depth_picture(render.depth, render.alpha)))
        images = torch.cat(pictures).clamp(0, 1)
        return io.NodeOutput(images, torch.cat(alphas), torch.cat(depths), ui=host.show_animation(images, PREVIEW_FPS))


class SaveSplat(io.ComfyNode):
    """Write a splat to the output folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSaveSplat",
            display_name="Save Splat File",
            category=CATEGORY,
            description="Write a Gaussian splat to the output folder as .ply (3D Gaussian Splatting layout) or .splat. "
                        "The file also goes on to Preview Splat. Nothing is overwritten: files are numbered.",
            search_aliases=["export splat", "save ply", "save gaussian", "write splat"],
            is_output_node=True,
            inputs=[
                io.Splat.Input("splat", tooltip="The Gaussian splat to write; of a batch, one file each."),
                io.String.Input(
                    "filename_prefix", default="3d/sightline",
                    tooltip="Name of the file, with a folder inside the output folder before it if you like; a number "
                            "is added.",
                ),
                io.Combo.Input(
                    "format", options=list(FORMATS), default="ply",
                    tooltip="ply keeps everything and opens in every splat viewer; splat is half the size, with "
                            "8 bits for colors and rotations.",
                ),
            ],
            outputs=[
                io.File3DSplatAny.Output(
                    id="model_3d", display_name="model_3d",
                    tooltip="The written file (the first, of a batch), for Preview Splat and the like.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return host.answer(lambda: filename_prefix is None or host.check_prefix(filename_prefix))

    @classmethod
    @host.one_sentence
    def execute(cls, splat, filename_prefix, format) -> io.NodeOutput:
        host.check_prefix(filename_prefix)
        encoded = [encode_splats(item, f"splat.{format}", frame="y_down_front") for item in host.splats(splat)]
        saved = [host.save_output(filename_prefix, f".{format}", data) for data in encoded]
        host.tell(", ".join(entry.filename for _, entry in saved))
        return io.NodeOutput(host.Types.File3D(str(saved[0][0]), format), ui={"3d": [entry for _, entry in saved]})
