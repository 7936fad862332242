"""The pictures and cameras that several nodes read: their inputs, and the squares on black that networks see."""

from __future__ import annotations

import math

from ..models.trellis2.image_condition import AnyCamera, FrontCamera, PosedCameras
from ..models.trellis2.preprocess import as_bytes, crop_to_object, cut_outs, has_background, squares_on_black
from ..scene.errors import InputError
from ..scene.posed_views import front_aligned
from . import host
from .host import io

FOV = 49.13  # degrees; Pixal3D's fallback
NO_BLACK = "The background is not black: connect `mask`, or crop with Image Crop to Mask."


def picture_inputs() -> list[io.Input]:
    """Field of view, size in the cube, and a picture or posed views with masks."""
    return [
        io.Float.Input(
            "fov", default=FOV, min=0.1, max=179.0, step=0.01,
            tooltip="Horizontal field of view of `image` in degrees, for example from MoGe Geometry to FOV; "
                    "not used with `views`, whose cameras know theirs.",
        ),
        io.Float.Input(
            "mesh_scale", default=1.0, min=0.01, max=100.0, step=0.01, advanced=True,
            tooltip="How many times the object fits into the cube that is generated: 1 fills it, 2 makes it "
                    "half as large. Multi-view data sets state it in their transforms.json.",
        ),
        io.Image.Input(
            "image", optional=True,
            tooltip="The picture from Image Crop to Mask (black background; pad factor 1.1 for Pixal3D, 1.0 "
                    "for TRELLIS.2). A batch counts as several objects. Give either this or `views`.",
        ),
        host.Views.Input(
            "views", optional=True,
            tooltip="One to many pictures of one object with their cameras, uncropped; the first is the front. "
                    "View Set makes them on black if its `background` says so; pictures on white "
                    "need `mask`.",
        ),
        io.Mask.Input(
            "mask", optional=True,
            tooltip="Where the object is (white); everything else becomes black. One for all pictures or one "
                    "for each.",
        ),
    ]  # fmt: skip


def read_pictures(image, views, mask=None, warn: bool = True, margin: float | None = None) -> list[list]:
    """uint8 [S, S, 3] pictures on black of every object: the batch of `image`, or all `views` of one.

    warn: say on the node where the background is not black. margin: cut `image` to the object that `mask` shows, with
    this much room (see `crop_to_object`). Raises InputError unless just one of both is connected, and for a margin
    without a picture and a mask.
    """
    if (image is None) == (views is None):
        raise InputError("Connect either `image` or `views`: one of them, not both and not neither.")
    if margin is not None:
        if image is None or mask is None:
            raise InputError("`crop` needs `image` and `mask`: the mask says where the object is.")
        return [[crop_to_object(one, margin)] for one in cut_outs(host.pictures(image), host.masks(mask))]
    name, given = ("`image`", host.pictures(image)) if views is None else ("`views`", views.images.cpu())
    prepared = squares_on_black(given, None if mask is None else host.masks(mask), name)
    if warn and has_background(prepared):
        host.tell(NO_BLACK)
    pictures = as_bytes(prepared)
    return [[one] for one in pictures] if views is None else [pictures]


def read_cameras(fov: float, mesh_scale: float, views, objects: int) -> list[AnyCamera]:
    """The camera straight in front of every object, or the cameras of `views`."""
    if views is None:
        return [FrontCamera(math.radians(fov), mesh_scale=mesh_scale)] * objects
    return [PosedCameras(front_aligned(views.cameras), mesh_scale)]
