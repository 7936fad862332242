"""Photos of a scene and the plan of its chunks: Scene Photos, Chunk Planner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..pipelines.genrecon import PlanOptions, plan_scene
from ..scene.alignment import CAMERA_HEIGHT, align_scene
from ..scene.captures import FILTERS, LAYOUTS, PointFilter, find_layout, read_capture
from ..scene.chunk_layout import parse_numbers, single_chunk
from ..scene.plan_picture import plan_picture
from ..scene.scene_photos import photos_from_cameras
from ..scene.view_choice import CROPS
from . import host
from .host import io, scenes

CATEGORY = f"{host.CATEGORY}/GenRecon"
EXAMPLE = "example room"
EXAMPLE_FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "inputs" / "genrecon_room"
ALIGN = ("auto", "on", "off")


def capture_of(name: str) -> Path:
    """The folder of a capture the user named, or of the one that comes with this pack."""
    return EXAMPLE_FOLDER if name.strip() == EXAMPLE else scenes.capture_folder(name.strip())


class ScenePhotosNode(io.ComfyNode):
    """A capture in the input folder -> posed photos and points."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineScenePhotos",
            display_name="Scene Photos from COLMAP",
            category=CATEGORY,
            description="Read the posed photos of a room and the points of their model: COLMAP (text or binary, any "
                        "lens), ScanNet++, nerfstudio or Blender. A COLMAP model of any orientation and size is turned "
                        "upright and to meters.",
            search_aliases=["colmap", "transforms.json", "posed photos", "scannet", "nerfstudio", "capture"],
            inputs=[
                io.String.Input(
                    "capture", default=EXAMPLE,
                    tooltip=f"A folder inside ComfyUI's input folder with the model and its pictures. {EXAMPLE} is a "
                            "small drawn room that comes with this pack. Not used with `views`.",
                ),
                io.Combo.Input(
                    "layout", options=list(LAYOUTS), default="auto",
                    tooltip="How the folder is laid out; auto finds out.",
                ),
                io.Combo.Input(
                    "align", options=list(ALIGN), default="auto",
                    tooltip="Whether to find up, walls and size from the points; auto does so for plain COLMAP models. "
                            "Off needs a world that is Z up and in meters.",
                ),
                io.Float.Input(
                    "camera_height", default=CAMERA_HEIGHT, min=0.05, max=100.0, step=0.05,
                    tooltip="How high above the floor the photos were taken, in meters; gives the size of the room.",
                ),
                host.Views.Input(
                    "views", optional=True,
                    tooltip="Pictures and cameras of View Set instead of a folder, for one object or a room without "
                            "points; then give the bounds or the object to Chunk Planner.",
                ),
            ],
            outputs=[
                scenes.ScenePhotosType.Output(
                    id="photos", display_name="photos", tooltip="Photos, poses and points, for Chunk Planner."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, capture, layout, align, camera_height, views=None):
        if views is not None:
            return ""
        folder = capture_of(capture)
        files = sorted(p for p in folder.rglob("*") if p.is_file())[:20_000] if folder.is_dir() else [folder]
        return "|".join(host.file_state(path) for path in files)

    @classmethod
    @host.one_sentence
    def execute(cls, capture, layout, align, camera_height, views=None) -> io.NodeOutput:
        if views is not None:
            pictures = (views.images.cpu().permute(0, 2, 3, 1) * 255).round().byte().numpy()
            cameras = views.cameras
            scene = photos_from_cameras(
                list(pictures), cameras.world_to_camera.cpu().numpy(), cameras.intrinsics.cpu().numpy()
            )
            return io.NodeOutput((scene, "transforms"))
        folder = capture_of(capture)
        found = find_layout(folder) if layout == "auto" else layout
        scene = read_capture(folder, found)
        if align == "on" or (align == "auto" and found == "colmap"):
            scene = align_scene(scene, camera_height=camera_height)
        count = 0 if scene.points is None else len(scene.points)
        host.tell(f"{len(scene)} photos, {count} points" + (f"; {scene.note}" if scene.note else ""))
        return io.NodeOutput((scene, found))


class ChunkPlanner(io.ComfyNode):
    """Photos and points -> chunks, views and a picture of the plan."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineChunkPlanner",
            display_name="Chunk Planner",
            category=CATEGORY,
            description="Cut a room into overlapping cubes, leave out the empty ones, and choose the photos that are "
                        "used and the one that each cube looks at. Nothing is computed yet; look at the picture first.",
            search_aliases=["chunk layout", "scene chunks", "room plan", "view selection", "tiles"],
            inputs=[
                scenes.ScenePhotosType.Input("photos", tooltip="Photos and points of Scene Photos."),
                io.Int.Input(
                    "count", default=32, min=1, max=1000,
                    tooltip="How many photos are used at most, spread evenly over those that see the room.",
                ),
                io.Float.Input(
                    "chunk_size", default=1.11, min=0.1, max=10.0, step=0.01,
                    tooltip="Side of a cube in heights of the room; 1.08 to 1.2 reach a little beyond the ceiling.",
                ),
                io.Float.Input(
                    "max_size", default=0.0, min=0.0, max=1000.0, step=0.1,
                    tooltip="No cube is larger than this, in meters; tall rooms then get several layers. 0: no limit.",
                ),
                io.Int.Input(
                    "overlap", default=4, min=0, max=12, advanced=True,
                    tooltip="Least overlap of neighbors in sixteenths of a cube; more is smoother and slower.",
                ),
                io.Int.Input(
                    "min_points", default=500, min=0, max=1_000_000,
                    tooltip="Cubes with fewer points are left out; lower it for sparse models.",
                ),
                io.Boolean.Input(
                    "clean", default=True,
                    tooltip="Drop stray points before the room is measured; off for models with very few points.",
                ),
                io.Float.Input(
                    "radius", default=0.1, min=0.001, max=100.0, step=0.01, advanced=True,
                    tooltip="A point is stray if no more than 10 others lie within so many meters.",
                ),
                io.Combo.Input(
                    "crop", options=list(CROPS), default="center",
                    tooltip="Which squares of a photo are used: one in the center, or two, one at each end.",
                ),
                io.String.Input(
                    "bounds", default="",
                    tooltip="The room by hand: x low, x high, y low, y high and, if wanted, z low, z high, in meters.",
                ),
                io.String.Input(
                    "object", default="",
                    tooltip="One single cube instead of a room: x, y, z of its center and its side, in meters.",
                ),
                io.Int.Input(
                    "seed", default=42, min=0, max=0xFFFFFFFF, control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Number that decides which of the fitting photos a cube looks at.",
                ),
            ],
            outputs=[
                scenes.ScenePlanType.Output(
                    id="plan", display_name="plan", tooltip="Cubes and views, for Multi-View Projection Conditioner."
                ),
                io.Image.Output(
                    id="picture", display_name="picture", tooltip="The plan from above: points, cubes and cameras."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, photos, count, chunk_size, max_size, overlap, min_points, clean, radius, crop, bounds, object, seed
    ) -> io.NodeOutput:
        scene, layout = photos
        filtered = replace(FILTERS.get(layout, PointFilter()), clean=clean, radius=radius)
        given = parse_numbers(bounds, "`bounds`", (4, 6))
        given = None if given is None else tuple(zip(given[::2], given[1::2]))
        options = PlanOptions(
            count, chunk_size, overlap, min_points, crop, seed, 0.0, max_size or None, given, filtered
        )
        one = parse_numbers(object, "`object`", (4,))
        plan = plan_scene(scene, options, None if one is None else single_chunk(one[:3], one[3]))
        picture = plan_picture(plan.points, plan.layout, plan.scene)
        lines = [f"{len(plan.layout)} cubes of {plan.layout.size:.2f} m, {len(plan.views)} views", *plan.notes]
        host.tell("; ".join(lines))
        image = torch.from_numpy(np.ascontiguousarray(picture)).float()[None] / 255
        return io.NodeOutput(plan, image, ui=host.show_images(image))
