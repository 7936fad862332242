"""What of an object a known layout shows: its box, the boxes before it, and the camera of a scene document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...scene.cameras import Cameras
from ...scene.document import Document
from ...scene.document.geometry import box_center, box_corners, box_rotation, camera_pose, intrinsics
from ...scene.document.model import SceneObject
from ...scene.errors import InputError
from ...scene.frames import cameras_from_opengl, rotation_about_z
from .visibility import DEFAULT, Placement, VisibilitySettings, boxes_depth, visibility_from_camera

FRAMES = ("y_up", "z_up")
LONGEST = 512  # pixels of the depth picture
FRONT = 90.0  # degrees: TRELLIS's cube looks along -Y, a box along its own +X


@dataclass(frozen=True)
class SceneView:
    """One object of a scene as its camera sees it: the camera (world = the scene), the place of the object's cube, and
    the depth [H, W] of the other boxes along the view axis."""

    camera: Cameras
    placement: Placement
    in_front: Tensor

    def visibility(
        self,
        coords: Tensor | None,
        *,
        surface: Tensor | None = None,
        selected: Tensor | None = None,
        settings: VisibilitySettings = DEFAULT,
    ) -> Tensor:
        """Visibility [N] of voxels of the object's cube; arguments as `visibility_from_camera`."""
        return visibility_from_camera(
            coords, self.camera, placement=self.placement, in_front=self.in_front, surface=surface, selected=selected,
            settings=settings,
        )  # fmt: skip

    def cube_camera(self) -> Cameras:
        """The camera with the object's cube itself as its world, for previews."""
        scale = float(self.placement.scale.max())
        pose = self.camera.world_to_camera[0].double()
        turn, move = pose[:3, :3], pose[:3, 3]
        own = torch.eye(4, dtype=torch.float64)
        own[:3, :3] = turn @ self.placement.rotation.double()
        own[:3, 3] = (turn @ self.placement.center.double() + move) / scale
        return Cameras(own[None].float(), self.camera.intrinsics, self.camera.width, self.camera.height)


def scene_view(document: Document, subject: str = "", frame: str = "z_up") -> SceneView:
    """The view of one object of a scene document from its active camera.

    subject: the object's name, words, id or number (from 1); empty where the scene has one object marked for 3D
    generation, or one object at all. frame: how the network's cube stands in the box: "z_up" (TRELLIS, TRELLIS.2)
    upright, its front where the box's local +X is; "y_up" (Pixal3D) along the camera's right, up and back, as Pixal3D
    generates what the picture shows. The cube is as large as the longest edge of the box. Raises InputError for an
    object that cannot be told and for a frame that is neither.
    """
    if frame not in FRAMES:
        raise InputError(f"`frame` is {frame!r}; one of {', '.join(FRAMES)} would work.")
    one = find_object(document, subject)
    width, height = document.output.size
    shrink = LONGEST / max(width, height)
    width, height = max(round(width * shrink), 1), max(round(height * shrink), 1)
    pose, lens = camera_pose(document.camera), intrinsics(document.camera, width, height)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.center
    camera = cameras_from_opengl(_tensor(matrix)[None], _tensor(lens)[None], width, height)
    if frame == "y_up":
        turn = pose.rotation
        spread = box_corners(one) @ turn
        edge = float((spread.max(0) - spread.min(0)).max())
    else:
        turn = box_rotation(one) @ rotation_about_z(FRONT).numpy()
        edge = max(one.size)
    placement = Placement(torch.full((3,), edge), _tensor(turn), _tensor(box_center(one)))
    others = [_placed(other) for other in document.picture_objects if other.id != one.id]
    return SceneView(camera, placement, boxes_depth(camera, others))


def find_object(document: Document, subject: str = "") -> SceneObject:
    """The object that is meant; raises InputError naming those there are."""
    given = subject.strip()
    objects = document.objects
    if not objects:
        raise InputError("The scene has no objects; draw the box of the object first.")
    if not given:
        chosen = [one for one in objects if one.use.generate3d and one.visible]
        chosen = chosen if len(chosen) == 1 else list(objects)
        if len(chosen) == 1:
            return chosen[0]
    else:
        for match in (
            [one for one in objects if one.id == given],
            [one for one in objects if given.lower() in (one.name.lower(), one.prompt.lower(), one.label.lower())],
        ):
            if len(match) == 1:
                return match[0]
        if given.isdecimal() and 1 <= int(given) <= len(objects):
            return objects[int(given) - 1]
    named = ", ".join(f"{number} {one.label}" for number, one in enumerate(objects, 1))
    found = "is empty" if not given else f"is {given!r}"
    raise InputError(f"`subject` {found}; it says which box is the object, by number or name: {named}.")


def _placed(one: SceneObject) -> Placement:
    size, turn, center = (_tensor(v) for v in (one.size, box_rotation(one), box_center(one)))
    return Placement(size, turn, center)


def _tensor(values) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float64)).float()
