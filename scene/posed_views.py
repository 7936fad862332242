"""Posed pictures of one object: `transforms.json` of NeRF, Blender and nerfstudio, and the four-view rig.

The world of the cameras made here is Z up with the object at the origin and the first camera level in front of it, on
the -Y side, looking along +Y: what `kernels.projection.posed_uv` and Pixal3D's mesh frame expect.

    {"camera_angle_x": 0.349, "mesh_scale": 1.0,
     "frames": [{"file_path": "front.png", "transform_matrix": [[...4x4...]]},
                {"file_path": "left.png", "transform_matrix": [[...]], "fl_x": 900, "cx": 250, "w": 512, "h": 512}]}

`camera_angle_x` (radians) or `fl_x` (pixels) may stand globally or in a frame, so may `fl_y`, `cx`, `cy`, `w`, `h`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .camera_files import read_json, read_matrix, read_number
from .cameras import Cameras, orbit
from .errors import InputError
from .files import inside
from .frames import cameras_from_opengl
from .images import read_rgba

MAX_VIEWS = 64
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # tried where a file name has none, as Blender's exporter writes it
# The rig Pixal3D's multi-view weights assume where no poses are given: the front, and three turns of 90 degrees to the
# right, so that "right" is the side that lies to the right in the front picture.
FOUR_VIEWS = ("front", "right", "back", "left")
RIG_FOV = math.degrees(0.3490658503988659)
RIG_DISTANCE = 3.1192049980163574
_LENS = ("fl_x", "fl_y", "cx", "cy", "w", "h")


@dataclass(frozen=True)
class PosedViews:
    """Square pictures of one object with their cameras, the main view first.

    pictures: V uint8 [S_v, S_v, 3] on black; cameras: V, in the world described above, their intrinsics relative to the
    whole square; mesh_scale: None where the file does not say; files: where the pictures came from.
    """

    pictures: list[np.ndarray]
    cameras: Cameras
    mesh_scale: float | None
    files: list[Path]


def front_aligned(cameras: Cameras) -> Cameras:
    """The cameras in a world where the first one stands level at (0, -d, 0) and looks along +Y, Z up.

    d is its distance from the origin in the given world, of any orientation; the origin is taken for the middle of the
    object and comes to lie on the first camera's axis. Source: Pixal3D, multi-view inference: F C_0^-1 C_i.
    """
    if not len(cameras):
        raise InputError("There are no cameras; at least one is needed.")
    distance = float(cameras.centers[0].norm())
    if distance < 1e-6:
        raise InputError("The first camera stands at the origin, where the object is; its pose must keep a distance.")
    front = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, distance], [0, 0, 0, 1]], dtype=torch.float64)
    first = torch.linalg.inv(cameras.world_to_camera[0].double().cpu())
    pose = cameras.world_to_camera.double().cpu() @ first @ front
    return Cameras(pose.to(cameras.device), cameras.intrinsics, cameras.width, cameras.height)


def four_view_rig(size: int, count: int = 4, fov: float = RIG_FOV, distance: float = RIG_DISTANCE) -> Cameras:
    """The first `count` of the level cameras front, right, back, left; fov in degrees, size in pixels."""
    if not 1 <= count <= len(FOUR_VIEWS):
        raise InputError(
            f"There are {count} pictures; the rig has the {len(FOUR_VIEWS)} views {', '.join(FOUR_VIEWS)}."
        )
    return orbit([-90.0 + 90.0 * i for i in range(count)], 0.0, distance, fov, size, size)


def read_transforms(path: str | os.PathLike) -> PosedViews:
    """The pictures and cameras of a `transforms.json`; pictures are padded with black to squares, never cropped.

    Names are relative to the folder of the file and may not leave it. Transparent pixels become black. Raises
    InputError naming the file and the frame that is wrong: missing pictures, matrices, lenses, distortion, too many.
    """
    try:
        return _read(Path(path), read_json(path))
    except InputError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else InputError(f"{path}: {text}") from None


def _read(path: Path, document: object) -> PosedViews:
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError("`frames` is missing or empty; it must hold one entry with `transform_matrix` a picture.")
    if len(frames) > MAX_VIEWS:
        raise InputError(f"`frames` has {len(frames)} entries; at most {MAX_VIEWS} are read.")
    pictures, cameras, files = [], [], []
    for i, frame in enumerate(frames):
        try:
            if not isinstance(frame, dict):
                raise InputError("is not an object; give `file_path` and `transform_matrix`.")
            files.append(_picture_file(path.resolve().parent, frame))
            rgba = read_rgba(files[-1])
            matrix = read_matrix(frame.get("transform_matrix"), "`transform_matrix`")
            lens = _intrinsics({**document, **frame}, rgba.shape[2], rgba.shape[1])
            pictures.append(on_black(rgba.permute(1, 2, 0).mul(255).round().byte().numpy(), str(files[-1])))
            cameras.append(_square(cameras_from_opengl(matrix, lens, rgba.shape[2], rgba.shape[1])))
        except InputError as error:
            raise InputError(f"frame {i}: {error}") from None
    scale = document.get("mesh_scale")
    if scale is not None:
        scale = read_number(scale, "`mesh_scale`")
        if scale <= 0:
            raise InputError(f"`mesh_scale` is {scale:g}; it must be above 0.")
    # One picture size for all: intrinsics are relative to it, and the networks resize every picture anyway.
    side = max(camera.width for camera in cameras)
    joined = Cameras.cat([camera.resized(side, side) for camera in cameras])
    return PosedViews(pictures, front_aligned(joined), scale, files)


def _picture_file(folder: Path, frame: dict) -> Path:
    name = frame.get("file_path")
    if not isinstance(name, str) or not name:
        raise InputError("it names no picture; add `file_path`.")
    path = inside(folder / name, [folder])
    if not path.suffix and not path.is_file():
        path = next((p for p in (path.with_name(path.name + s) for s in SUFFIXES) if p.is_file()), path)
    return path


def _intrinsics(values: dict, width: int, height: int):
    """[1, 3, 3] in pixels of the picture as it is, from a frame's entries over the document's."""
    model = values.get("camera_model", "PINHOLE")
    if any(isinstance(values.get(k), (int, float)) and values[k] for k in ("k1", "k2", "k3", "k4", "p1", "p2")):
        raise InputError(f"it has lens distortion ({model}); undistort the pictures first.")
    lens = {name: read_number(values[name], f"`{name}`") for name in _LENS if values.get(name) is not None}
    stated_w, stated_h = lens.get("w", width), lens.get("h", height)
    if not (stated_w > 0 and stated_h > 0):
        raise InputError(f"its size is {stated_w:g}x{stated_h:g}; both must be above 0.")
    if abs(stated_w / stated_h * height / width - 1) > 0.02:
        raise InputError(f"its size is {stated_w:g}x{stated_h:g}, but the picture is {width}x{height}.")
    if "fl_x" in lens:
        fx = lens["fl_x"]
    elif values.get("camera_angle_x") is not None:
        angle = read_number(values["camera_angle_x"], "`camera_angle_x`")
        if not 0 < angle < math.pi:
            raise InputError(f"`camera_angle_x` is {angle:g} radians; it must lie between 0 and pi.")
        fx = stated_w / (2 * math.tan(angle / 2))
    else:
        raise InputError("it has neither `camera_angle_x` nor `fl_x`; one of them gives the field of view.")
    fy = lens.get("fl_y", fx)
    if fx <= 0 or fy <= 0:
        raise InputError(f"its focal length is {min(fx, fy):g}; it must be above 0.")
    cx, cy = lens.get("cx", stated_w / 2), lens.get("cy", stated_h / 2)
    x, y = width / stated_w, height / stated_h
    return torch.tensor([[[fx * x, 0.0, cx * x], [0.0, fy * y, cy * y], [0.0, 0.0, 1.0]]], dtype=torch.float64)


def _square(camera: Cameras) -> Cameras:
    """The camera of the picture padded to a square, as `on_black` pads it."""
    side = max(camera.width, camera.height)
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, 0, 2] += (side - camera.width) // 2
    intrinsics[:, 1, 2] += (side - camera.height) // 2
    return Cameras(camera.world_to_camera, intrinsics, side, side)


def on_black(rgba: np.ndarray, name: str = "The picture") -> np.ndarray:
    """uint8 [H, W, 4] -> uint8 [S, S, 3], S = max(H, W): transparent is black, the rest centered.

    Raises InputError where nothing is opaque, and for an opaque picture whose border is not black: its background has
    not been removed.
    """
    alpha = rgba[..., 3:].astype(np.float32) / 255
    if float(alpha.max()) <= 0.8:
        raise InputError(f"{name} has no pixel with alpha above 80 %; nothing is selected: check the mask.")
    rgb = (rgba[..., :3] * alpha).astype(np.uint8)
    if float(alpha.min()) == 1:
        border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
        if float(np.median(border.max(axis=1))) > 16:
            raise InputError(f"{name} is opaque and not on black; remove its background first.")
    height, width = rgb.shape[:2]
    side = max(height, width)
    out = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = rgb
    return out


def rig_views(rgba: Sequence[np.ndarray], names: Sequence[str] | None = None) -> PosedViews:
    """Up to four uint8 [H, W, 4] pictures front, right, back, left with the cameras of `four_view_rig`."""
    names = names or [f"The {view} picture" for view in FOUR_VIEWS]
    cameras = four_view_rig(512, len(rgba))
    return PosedViews([on_black(p, n) for p, n in zip(rgba, names)], cameras, None, [])
