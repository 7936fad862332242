"""Cameras from JSON files: our own list of views, NeRF/Blender transforms.json, and LOAD3D_CAMERA dicts.

Our own form (every entry of `cameras` and of the optional `virtual` is one of the four shown):

    {"fov": 51.98948897809546,
     "cameras": [{"azimuth": 0, "elevation": 20, "radius": 1.3},
                 {"camera_to_world": [[...4x4...]], "axes": "opencv"},
                 {"world_to_camera": [[...4x4...]]},
                 {"position": {"x": 0, "y": 1, "z": 2}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 35}],
     "virtual": []}

Angles are degrees, `fov` is horizontal, the world is Z up; `axes` are those of the camera, "opencv" (x right, y down,
z forward; the default) or "opengl" (x right, y up, z backward); `world_to_camera` maps to OpenCV axes. The last form
is LOAD3D_CAMERA: world Y up, `fov` vertical. A bare list is read as `cameras`.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from .cameras import Cameras, intrinsics_from_fov, orbit
from .errors import InputError
from .files import inside, read_bytes
from .frames import cameras_from_load3d, cameras_from_opencv, cameras_from_opengl

MAX_BYTES = 16 << 20
MAX_CAMERAS = 10_000
DEFAULT_RADIUS = 1.3
DEFAULT_ELEVATION = 20.0


def read_cameras(path: str | os.PathLike, size: int, fov: float) -> tuple[Cameras, Cameras | None]:
    """The cameras of a JSON file, for square pictures of `size` pixels: (cameras, virtual cameras or None).

    fov: horizontal degrees, where the file states none. Raises InputError naming the file and the entry that is wrong.
    """
    try:
        return parse_cameras(read_json(path), size, fov)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_views(path: str | os.PathLike, size: int, fov: float) -> tuple[list[Path], Cameras]:
    """The pictures and cameras of a JSON file whose every entry also names its picture.

    Names are relative to the folder of the JSON file and may not leave it. Otherwise as `read_cameras`.
    """
    cameras, _ = read_cameras(path, size, fov)
    document = read_json(path)
    entries = document if isinstance(document, list) else document.get("cameras") or document["frames"]
    pictures = []
    for i, entry in enumerate(entries):
        name = next((entry[key] for key in ("image", "file", "file_path") if isinstance(entry.get(key), str)), None)
        if not name:
            raise InputError(f"{path}: camera {i} names no picture; add `image`.")
        folder = Path(path).resolve().parent
        pictures.append(inside(folder / name, [folder]))
    return pictures, cameras


def read_json(path: str | os.PathLike) -> object:
    """The content of a JSON file of at most `MAX_BYTES`; raises InputError for anything else."""
    data = read_bytes(path, MAX_BYTES, "a JSON file with cameras")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"it is not JSON ({reason}); give a file with cameras.") from None


def parse_cameras(document: object, size: int, fov: float) -> tuple[Cameras, Cameras | None]:
    """The same for a document that has been read already."""
    if isinstance(document, list):
        document = {"cameras": document}
    if not isinstance(document, dict):
        raise InputError("The document is neither a list of cameras nor an object with `cameras`.")
    if "frames" in document and "cameras" not in document:
        return _transforms_json(document, size, fov), None
    fov = read_number(document.get("fov", fov), "`fov`")
    cameras = _list(document.get("cameras"), "cameras", size, fov)
    virtual = document.get("virtual")
    if virtual is None:
        return cameras, None
    return cameras, (_list(virtual, "virtual", size, fov) if virtual else cameras[:0])


def _list(entries: object, name: str, size: int, fov: float) -> Cameras:
    if not isinstance(entries, list) or not entries:
        raise InputError(f"`{name}` is missing or empty; it must be a list with one entry for each camera.")
    if len(entries) > MAX_CAMERAS:
        raise InputError(f"`{name}` has {len(entries)} entries; at most {MAX_CAMERAS} are read.")
    cameras = []
    for i, entry in enumerate(entries):
        try:
            cameras.append(_one(entry, size, fov))
        except InputError as error:
            text = str(error).removeprefix("The camera ").removeprefix("The camera's ")
            raise InputError(
                f"camera {i} of `{name}` {text}" if text != str(error) else f"camera {i} of `{name}`: {error}"
            ) from None
    return Cameras.cat(cameras)


def _one(entry: object, size: int, fov: float) -> Cameras:
    if not isinstance(entry, dict):
        raise InputError("is not an object; give azimuth and elevation, a matrix, or position and target.")
    if "position" in entry:
        return cameras_from_load3d(entry, size, size)
    fov = read_number(entry.get("fov", fov), "`fov`")
    if "camera_to_world" in entry:
        matrix = read_matrix(entry["camera_to_world"], "`camera_to_world`")
        axes = entry.get("axes", "opencv")
        convert = {"opencv": cameras_from_opencv, "opengl": cameras_from_opengl}.get(
            axes if isinstance(axes, str) else ""
        )
        if convert is None:
            raise InputError(f'`axes` is {axes!r}; it must be "opencv" or "opengl".')
        return convert(matrix, intrinsics_from_fov(fov, size, size), size, size)
    if "world_to_camera" in entry:
        matrix = read_matrix(entry["world_to_camera"], "`world_to_camera`")
        return Cameras(matrix, intrinsics_from_fov(fov, size, size), size, size)
    if "azimuth" in entry:
        return orbit(
            read_number(entry["azimuth"], "`azimuth`"),
            read_number(entry.get("elevation", DEFAULT_ELEVATION), "`elevation`"),
            read_number(entry.get("radius", DEFAULT_RADIUS), "`radius`"),
            fov, size, size,
        )  # fmt: skip
    raise InputError("has no `azimuth`, `camera_to_world`, `world_to_camera` or `position`; give one of them.")


def _transforms_json(document: dict, size: int, fov: float) -> Cameras:
    """NeRF and Blender: camera (x right, y up, z backward) -> world (Z up), field of view of the picture's width."""
    frames = document["frames"]
    if not isinstance(frames, list) or not 0 < len(frames) <= MAX_CAMERAS:
        raise InputError(
            "`frames` is empty or no list; it must hold one entry with `transform_matrix` for each camera."
        )
    if "camera_angle_x" in document:
        fov = math.degrees(read_number(document["camera_angle_x"], "`camera_angle_x`"))
    matrices = [
        read_matrix(
            frame.get("transform_matrix") if isinstance(frame, dict) else None, f"`transform_matrix` of frame {i}"
        )
        for i, frame in enumerate(frames)
    ]
    return cameras_from_opengl(torch.cat(matrices), intrinsics_from_fov(fov, size, size), size, size)


def read_matrix(value: object, name: str) -> Tensor:
    """[1, 4, 4] float64 from nested lists."""
    rows_fit = isinstance(value, list) and len(value) == 4
    if not rows_fit or not all(isinstance(row, list) and len(row) == 4 for row in value):
        raise InputError(f"{name} is no 4x4 matrix; give four rows of four numbers.")
    return torch.tensor([[read_number(x, f"an entry of {name}") for x in row] for row in value], dtype=torch.float64)[
        None
    ]


def read_number(value: object, name: str) -> float:
    """A number from JSON as a float; raises InputError, naming it `name`, for anything else and for huge ones."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
        raise InputError(f"{name} is {str(value)[:40]!r}; it must be a number.")
    return float(value)
