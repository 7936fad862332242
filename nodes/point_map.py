"""The point that every pixel of a picture shows, from core's MoGe or a file."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.point_maps import AXES, point_map, read_point_map
from . import host
from .host import io
from .host import sam3d as room
from .sam3d import CATEGORY


class PointMap(io.ComfyNode):
    """MoGe's geometry, a file, or a picture of coordinates -> a point map."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlinePointMap",
            display_name="Point Map",
            category=CATEGORY,
            description="The point that every pixel of a picture shows: from core's MoGe, from a file, or from a "
                        "picture whose channels are coordinates. SAM 3D places the object by it.",
            search_aliases=["moge", "point cloud", "depth to points", "geometry", "exr position pass", "xyz"],
            inputs=[
                io.String.Input(
                    "file", default="",
                    tooltip="A .npy, .npz or .exr file in ComfyUI's input folder, the position of every pixel in the "
                            "camera's axes. Leave it empty with a connection.",
                ),
                io.Combo.Input(
                    "axes", options=list(AXES), default="opencv",
                    tooltip="The camera's axes of `file` and `image`. opencv: x right, y down, z in (MoGe). opengl: x "
                            "right, y up, z out (Blender). pytorch3d: x left, y up, z in.",
                ),
                room.MoGeGeometry.Input(
                    "moge_geometry", optional=True, tooltip="From core's Run MoGe Inference on the whole picture."
                ),
                io.Image.Input(
                    "image", optional=True,
                    tooltip="A picture whose red, green and blue are x, y and z as they are, not scaled to 0..1.",
                ),
            ],
            outputs=[
                room.PointMapType.Output(
                    id="point_map", display_name="point_map", tooltip="For Structure and Pose (SAM 3D)."
                ),
                io.Image.Output(
                    id="depth", display_name="depth",
                    tooltip="Depth as a gray picture: near is bright, far is dark, unknown is black.",
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file, axes, moge_geometry=None, image=None):
        return host.file_state(room.input_file(file)) if file.strip() else ""

    @classmethod
    @host.one_sentence
    def execute(cls, file, axes, moge_geometry=None, image=None) -> io.NodeOutput:
        given = [name for name, there in (
            ("file", file.strip()), ("moge_geometry", moge_geometry is not None), ("image", image is not None)
        ) if there]  # fmt: skip
        if len(given) > 1:
            raise InputError(f"A point map comes from one place; of {' and '.join(f'`{n}`' for n in given)} leave one.")
        if not given:
            way = "connect core's Run MoGe Inference, or" if room.has_moge() else "this ComfyUI has no MoGe nodes:"
            raise InputError(f"There is no point map; {way} name a .npy, .npz or .exr file in `file`.")
        if given == ["file"]:
            points = read_point_map(room.input_file(file), axes)
        elif image is not None:
            points = point_map(host.pictures(image), axes)
        else:
            points = point_map(room.moge_points(moge_geometry), "opencv")
        shown = depth_picture(points)
        return io.NodeOutput(points, host.result(shown), ui=host.show_images(shown))


def depth_picture(points: Tensor) -> Tensor:
    """Depth of a point map as a picture [1, H, W, 3], near is bright."""
    depth = points[2]
    known = points.isfinite().all(0) & (depth > 0)
    shown = torch.zeros_like(depth)
    if bool(known.any()):
        near = 1 / depth[known]
        low, high = near.quantile(0.02), near.quantile(0.98)
        shown[known] = ((near - low) / (high - low).clamp(min=1e-9)).clamp(0, 1) * 0.9 + 0.1
    return shown[None, :, :, None].expand(-1, -1, -1, 3)
