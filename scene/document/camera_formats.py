"""The cameras of a scene in other programs' forms: LOAD3D_CAMERA, COLMAP, transforms.json; double precision.

Ours are Z up with camera axes right, up, back. LOAD3D_CAMERA is Y up, its `fov` vertical degrees. COLMAP is world ->
camera with axes right, down, forward, and keeps our world. transforms.json holds camera -> world with our own axes.
"""

from __future__ import annotations

import dataclasses
import math
import os

import numpy as np

from ..alignment import align_world
from ..colmap import ColmapCamera, ColmapImage, ColmapModel, encode_colmap, read_colmap
from .geometry import camera_pose, intrinsics, quaternion_from_matrix, quaternion_matrix
from .gltf import Y_UP
from .model import MAX_CAMERAS, Distortion, Document, FileRef, Free, Orbit, SceneCamera
from .problems import refuse

_GL = np.array([1.0, -1.0, -1.0])
SENSOR = 36.0


def picture_of(document: Document, camera: SceneCamera) -> tuple[int, int]:
    """Width and height of a camera's picture."""
    return camera.size or document.output.size


def camera_to_load3d(document: Document, camera: SceneCamera | None = None) -> dict:
    """One camera (default: the active one) as a LOAD3D_CAMERA dict."""
    camera = document.camera if camera is None else camera
    width, height = picture_of(document, camera)
    pose = camera_pose(camera)
    if camera.mode == "orbit":
        target = np.asarray((camera.orbit or Orbit()).target, float)
    else:
        target = pose.center - pose.rotation[:, 2] * max(float(pose.center @ pose.rotation[:, 2]), 1.0)
    w, x, y, z = quaternion_from_matrix(Y_UP @ pose.rotation)
    focal = intrinsics(camera, width, height)[0, 0]
    return {
        "position": _xyz(Y_UP @ pose.center),
        "target": _xyz(Y_UP @ target),
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
        "fov": math.degrees(2 * math.atan(height / 2 / focal)),
        "aspect": width / height,
        "near": camera.near,
        "far": camera.far,
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def camera_from_load3d(value: dict, id: str = "cam1", name: str = "3D view") -> SceneCamera:
    """A LOAD3D_CAMERA dict as a free camera; raises SceneError (E140) for an orthographic one."""
    if str(value.get("cameraType", "perspective")).lower().startswith("ortho"):
        raise refuse("E140", "", "The camera is orthographic. Switch the 3D view to perspective.")
    position = _vector(value, "position")
    if isinstance(value.get("quaternion"), dict):
        q = _vector(value, "quaternion", "wxyz")
        if np.linalg.norm(q) < 1e-9:
            raise refuse("E110", "", "The camera's quaternion is zero.")
        rotation = Y_UP.T @ quaternion_matrix(q)
    else:
        back = position - _vector(value, "target")
        if np.linalg.norm(back) < 1e-9:
            raise refuse("E110", "", "The camera stands at its own target.")
        back = back / np.linalg.norm(back)
        up = np.array([0.0, 1.0, 0.0]) if abs(back[1]) < 0.999999 else np.array([0.0, 0.0, 1.0])
        right = np.cross(up, back)
        right = right / np.linalg.norm(right)
        rotation = Y_UP.T @ np.stack([right, np.cross(back, right), back], axis=1)
    fov, aspect, zoom = (
        _number(value, key, default) for key, default in (("fov", 35.0), ("aspect", 1.0), ("zoom", 1.0))
    )
    if not 0 < fov < 180 or aspect <= 0 or zoom <= 0:
        raise refuse(
            "E111", "", "The camera's field of view must lie between 0 and 180 degrees, aspect and zoom above 0."
        )
    focal = zoom * 0.5 / math.tan(math.radians(fov) / 2)  # in picture heights
    lens = SENSOR * focal * min(1.0, 1.0 / aspect)
    free = Free(tuple((Y_UP.T @ position).tolist()), tuple(quaternion_from_matrix(rotation)))
    near, far = _number(value, "near", 0.1), _number(value, "far", 1000.0)
    return SceneCamera(
        id=id, name=name, mode="free", free=free, lens_mm=lens,
        near=near if near > 0 else 0.1, far=far if far > 0 else 1000.0,
    )  # fmt: skip


def cameras_to_colmap(document: Document, binary: bool = False) -> dict[str, bytes]:
    """File name -> bytes of a COLMAP model with all cameras of a document, PINHOLE, without points."""
    lenses, images = {}, []
    for number, camera in enumerate(document.cameras, 1):
        width, height = picture_of(document, camera)
        k = intrinsics(camera, width, height)
        lenses[number] = ColmapCamera("PINHOLE", width, height, (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        pose = camera_pose(camera)
        rotation = (pose.rotation * _GL).T
        name = camera.image.name if camera.image else f"{camera.id}.png"
        images.append(
            ColmapImage(
                number,
                tuple(quaternion_from_matrix(rotation)),
                tuple((-rotation @ pose.center).tolist()),
                number,
                name.replace(" ", "_"),
            )
        )
    return encode_colmap(ColmapModel(lenses, images, None), binary)


def cameras_from_colmap(folder: str | os.PathLike, align: dict | None = None) -> tuple[list[SceneCamera], str]:
    """The posed pictures of a COLMAP folder as free cameras with the role `view`, and what was done to the world.

    COLMAP's gravity and scale are arbitrary. align: options of `alignment.align_world` (empty: up, floor and scale are
    found from the points and the cameras); None keeps the world as it is. Raises InputError for an unreadable model or
    one without points to align, SceneError for more than 256 pictures or pixels that are not square.
    """
    model = read_colmap(folder, points=align is not None)
    if len(model.images) > MAX_CAMERAS:
        raise refuse("E112", "", f"At most {MAX_CAMERAS} cameras; the model has {len(model.images)}.")
    poses = np.tile(np.eye(4), (len(model.images), 1, 1))
    for pose, image in zip(poses, model.images):
        rotation = quaternion_matrix(image.rotation)
        pose[:3, :3], pose[:3, 3] = rotation.T * _GL, -rotation.T @ np.asarray(image.translation)
    done = None
    if align is not None:
        done = align_world(None if model.points is None else model.points.xyz, poses, **align)
        poses = done.matrix @ poses
        poses[:, :3, :3] /= done.scale
    found = []
    for number, (image, pose) in enumerate(zip(model.images, poses), 1):
        lens = model.cameras[image.camera]
        fx, fy, cx, cy, extra = _pinhole(lens)
        if abs(fx - fy) > 1e-3 * fx:
            raise refuse("E153", "", f"The pixels of ‘{image.name}’ are not square; undistort the photos first.")
        longest = max(lens.width, lens.height)
        camera = SceneCamera(
            id=f"cam{number}", name=image.name[-64:], mode="free",
            free=Free(tuple(pose[:3, 3].tolist()), tuple(quaternion_from_matrix(pose[:3, :3]))),
            lens_mm=SENSOR * (fx + fy) / 2 / longest,
            shift=((cx - lens.width / 2) / longest, (lens.height / 2 - cy) / longest),
            size=(lens.width, lens.height), image=FileRef("input", image.name[-255:]), roles=("view",),
        )  # fmt: skip
        if any(extra):
            camera = dataclasses.replace(camera, distortion=Distortion("opencv", tuple(extra)))
        found.append(camera)
    return found, "" if done is None else str(done)


def cameras_to_transforms(document: Document) -> dict:
    """transforms.json of NeRF and Blender with all cameras; Z up, camera axes right, up, back."""
    frames = []
    for camera in document.cameras:
        width, height = picture_of(document, camera)
        k, pose, matrix = intrinsics(camera, width, height), camera_pose(camera), np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.center
        name = camera.image.name if camera.image else f"{camera.id}.png"
        frames.append(
            {
                "file_path": name, "transform_matrix": matrix.tolist(), "fl_x": k[0, 0], "fl_y": k[1, 1],
                "cx": k[0, 2], "cy": k[1, 2], "w": width, "h": height,
            }
        )  # fmt: skip
    first = document.cameras[0]
    width, _ = picture_of(document, first)
    return {"camera_angle_x": 2 * math.atan(width / 2 / frames[0]["fl_x"]), "frames": frames}


def cameras_from_transforms(value: dict, default_size: tuple[int, int] = (1024, 1024)) -> list[SceneCamera]:
    """The frames of a transforms.json as free cameras with the role `view`; raises SceneError for what is missing."""
    frames = value.get("frames")
    if not isinstance(frames, list) or not frames or len(frames) > MAX_CAMERAS:
        raise refuse("E112", "/frames", f"transforms.json must list 1 to {MAX_CAMERAS} frames.")
    found = []
    for number, frame in enumerate(frames, 1):
        if not isinstance(frame, dict):
            raise refuse("E115", f"/frames/{number - 1}", f"Frame {number} is not an object.")
        values = {**value, **frame}
        try:
            matrix = np.asarray(frame["transform_matrix"], float).reshape(4, 4)
        except (KeyError, TypeError, ValueError):
            raise refuse("E110", f"/frames/{number - 1}", f"Frame {number} has no 4x4 `transform_matrix`.") from None
        rotation = matrix[:3, :3]
        if not np.isfinite(matrix).all() or np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3:
            raise refuse("E110", f"/frames/{number - 1}", f"The matrix of frame {number} is no rotation.")
        width, height = int(_number(values, "w", default_size[0])), int(_number(values, "h", default_size[1]))
        if width < 1 or height < 1:
            raise refuse("E111", f"/frames/{number - 1}", f"Frame {number} has no picture size.")
        angle = _number(values, "camera_angle_x", 0.0)
        focal = _number(values, "fl_x", width / 2 / math.tan(angle / 2) if 0 < angle < math.pi else 0.0)
        if focal <= 0:
            raise refuse("E110", f"/frames/{number - 1}", f"Frame {number} has neither `fl_x` nor `camera_angle_x`.")
        longest = max(width, height)
        cx, cy = _number(values, "cx", width / 2), _number(values, "cy", height / 2)
        name = str(frame.get("file_path") or f"frame{number}")
        found.append(
            SceneCamera(
                id=f"cam{number}", name=name[-64:], mode="free",
                free=Free(tuple(matrix[:3, 3].tolist()), tuple(quaternion_from_matrix(rotation))),
                lens_mm=SENSOR * focal / longest, shift=((cx - width / 2) / longest, (height / 2 - cy) / longest),
                size=(width, height), roles=("view",),
            )
        )  # fmt: skip
    return found


def _pinhole(lens: ColmapCamera) -> tuple[float, float, float, float, tuple[float, ...]]:
    p = lens.params
    if lens.model == "SIMPLE_PINHOLE":
        return p[0], p[0], p[1], p[2], ()
    if lens.model == "PINHOLE":
        return (*p[:4], ())
    if lens.model in ("SIMPLE_RADIAL", "RADIAL"):
        return p[0], p[0], p[1], p[2], tuple(p[3:])
    if lens.model == "OPENCV":
        return (*p[:4], tuple(p[4:8]))
    raise refuse("E153", "", f"Photos of the lens model {lens.model} must be undistorted first.")


def _xyz(vector: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", (float(v) for v in vector)))


def _vector(value: dict, key: str, names: str = "xyz") -> np.ndarray:
    part = value.get(key)
    if not isinstance(part, dict):
        raise refuse("E110", f"/{key}", f"The camera's {key} is missing.")
    return np.array([_number(part, name, 1.0 if name == "w" else 0.0) for name in names])


def _number(value: dict, key: str, default: float) -> float:
    found = value.get(key)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < 1e12:
        raise refuse("E110", f"/{key}", f"The camera's {key} is not a number.")
    return float(found)
