"""Projection Grid Overlay: whether the field of view is right."""

from __future__ import annotations

import numpy as np
import torch

from ..models.trellis2.overlay import LATTICE, grid_overlay
from ..scene.errors import InputError
from . import host
from .host import io
from .pictures import FOV, read_cameras, read_pictures
from .projection import CATEGORY


class ProjectionGridOverlay(io.ComfyNode):
    """Pictures and cameras -> the projected cube drawn on them."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineProjectionGridOverlay",
            display_name="Projection Grid Overlay",
            category=CATEGORY,
            description="Draw the cube that Pixal3D generates, as the camera sees it, on the picture: near is yellow, "
                        "far is blue. With the right field of view the parallel edges of the object run like the "
                        "lines of the floor.",
            search_aliases=["fov check", "field of view", "camera overlay", "pixal3d grid", "perspective grid"],
            inputs=[
                io.Float.Input(
                    "fov", default=FOV, min=0.1, max=179.0, step=0.01,
                    tooltip="Horizontal field of view of `image` in degrees, the same as for the conditioner; not used "
                            "with `views`, whose cameras know theirs.",
                ),
                io.Float.Input(
                    "mesh_scale", default=1.0, min=0.01, max=100.0, step=0.01, advanced=True,
                    tooltip="How many times the object fits into the cube, the same as for the conditioner.",
                ),
                io.Image.Input(
                    "image", optional=True,
                    tooltip="The picture that the conditioner gets, or a batch of them. Give either this or `views`.",
                ),
                host.Views.Input(
                    "views", optional=True,
                    tooltip="Pictures of one object with their cameras; the first is the front.",
                ),
                io.Voxel.Input(
                    "voxel", optional=True,
                    tooltip="Voxels of the Sparse Structure Sampler (with Pixal3D), drawn instead of a lattice: they "
                            "should cover the object.",
                ),
            ],
            outputs=[
                io.Image.Output(id="image", display_name="image", tooltip="The pictures with the grid, 768 pixels."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, fov, mesh_scale, image=None, views=None, voxel=None) -> io.NodeOutput:
        groups = read_pictures(image, views, warn=False)
        cameras = read_cameras(fov, mesh_scale, views, len(groups))
        shots = [(one, camera, i) for group, camera in zip(groups, cameras) for i, one in enumerate(group)]
        grids = [(None, LATTICE)] if voxel is None else host.occupied(voxel)
        if len(grids) not in (1, len(groups)):
            raise InputError(
                f"`voxel` is of {len(grids)} objects and there are pictures of {len(groups)}; connect the same."
            )
        progress, drawn = host.Steps(len(shots)), []
        for i, (picture, camera, view) in enumerate(shots):
            coords, resolution = grids[i if len(grids) > 1 else 0]
            coords = None if coords is None else coords.cpu()
            drawn.append(grid_overlay(picture, camera, view=view, coords=coords, resolution=resolution))
            progress.advance()
        images = torch.from_numpy(np.stack(drawn)).float() / 255
        return io.NodeOutput(host.result(images), ui=host.show_images(images))
