"""Every coordinate convention we meet, with named converters to ours and back.

Ours: world right-handed, **Z up**; cameras world -> camera in OpenCV axes (x right, y down, z forward), `Cameras`.

| name | convention |
|---|---|
| z_up | ours (and Blender's world, SRN's world) |
| y_up | glTF, three.js, LOAD3D_CAMERA: X right, Y up, Z towards the viewer; (x, y, z)_zup -> (x, z, -y) |
| y_down | 3D Gaussian Splatting files and viewers (and ComfyUI's SPLAT): X right, Y down, Z away; (x, -z, y) |
| y_up_front | y_up turned about the vertical so that our +X (azimuth 0, the first picture) is the front; (y, z, x) |
| y_down_front | the same for y_down: viewers open on the front of the object; (y, -z, -x) |
| OpenCV camera | x right, y down, z forward (COLMAP, SRN pose files) |
| OpenGL camera | x right, y up, z backward (Blender, NeRF transforms.json, glTF, three.js) |
| PyTorch3D camera | x left, y up, z forward; row vectors: X_cam = X_world R + T |

No function here takes a matrix without saying which frame it maps from and to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .cameras import Cameras, check_poses, intrinsics_from_fov
from .errors import InputError
from .rotations import matrix_from_quaternion, quaternion_from_matrix

# World frames as rotations out of ours: row-wise, frame = matrix @ z_up.
WORLD_FRAMES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "z_up": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "y_up": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "y_down": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "y_up_front": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "y_down_front": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
}
_GL = (1.0, -1.0, -1.0)  # OpenCV camera axes <-> OpenGL camera axes: y and z change sign
_P3D = (-1.0, -1.0, 1.0)  # OpenCV camera axes <-> PyTorch3D camera axes: x and y change sign


# ---- world frames -------------------------------------------------------------------------------------------------


def world_rotation(source: str, target: str) -> Tensor:
    """The rotation [3, 3] float64 that takes column vectors of the world frame `source` to the frame `target`.

    Names: those of `WORLD_FRAMES` (see the table above). Raises InputError for any other.
    """
    for name in (source, target):
        if name not in WORLD_FRAMES:
            raise InputError(f"The world frame {name!r} is unknown; choose one of {', '.join(WORLD_FRAMES)}.")
    out_of_ours = torch.tensor(WORLD_FRAMES[target], dtype=torch.float64)
    return out_of_ours @ torch.tensor(WORLD_FRAMES[source], dtype=torch.float64).mT


def turn_points(points: Tensor, source: str, target: str) -> Tensor:
    """Points or directions [..., 3] of the world frame `source` in the world frame `target`."""
    return points @ world_rotation(source, target).to(points).mT


def rotation_about_z(degrees: float) -> Tensor:
    """The rotation [3, 3] float64, acting on columns, by `degrees` counter-clockwise seen from above (Z up)."""
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def rotate_cameras(cameras: Cameras, rotation: Tensor) -> Cameras:
    """The cameras after the whole world, they included, is turned by `rotation` [3, 3] about its origin (Z up)."""
    back = torch.eye(4, dtype=torch.float64)
    back[:3, :3] = rotation.mT
    pose = cameras.world_to_camera @ back.to(cameras.world_to_camera)
    return Cameras(pose, cameras.intrinsics, cameras.width, cameras.height)


def turn_cameras(cameras: Cameras, source: str, target: str) -> Cameras:
    """Cameras whose world is the frame `source`, in the world frame `target` (the camera axes stay OpenCV's)."""
    return rotate_cameras(cameras, world_rotation(source, target))


# ---- camera-to-world matrices -------------------------------------------------------------------------------------


def cameras_from_opencv(camera_to_world: Tensor, intrinsics: Tensor, width: int, height: int) -> Cameras:
    """Camera (x right, y down, z forward) -> world (Z up) [V, 4, 4] to cameras; intrinsics [V, 3, 3] in pixels."""
    return _from_camera_to_world(camera_to_world, (1.0, 1.0, 1.0), intrinsics, width, height)


def cameras_to_opencv(cameras: Cameras) -> Tensor:
    """Camera (x right, y down, z forward) -> world (Z up) matrices [V, 4, 4] float32."""
    return cameras.camera_to_world


def cameras_from_opengl(camera_to_world: Tensor, intrinsics: Tensor, width: int, height: int) -> Cameras:
    """Camera (x right, y up, z backward) -> world (Z up) matrices [V, 4, 4] to cameras; intrinsics [V, 3, 3] pixels.

    These are Blender's matrix_world of a camera and NeRF's transforms.json (`transform_matrix`).
    """
    return _from_camera_to_world(camera_to_world, _GL, intrinsics, width, height)


def cameras_to_opengl(cameras: Cameras) -> Tensor:
    """Camera (x right, y up, z backward) -> world (Z up) matrices [V, 4, 4] float32, as Blender and NeRF keep them."""
    return _flip_camera_axes(cameras.camera_to_world, _GL)


def _flip_camera_axes(camera_to_world: Tensor, signs: Sequence[float]) -> Tensor:
    return camera_to_world * camera_to_world.new_tensor([*signs, 1.0])


def _from_camera_to_world(
    camera_to_world: Tensor, signs: Sequence[float], intrinsics: Tensor, width: int, height: int
) -> Cameras:
    pose = torch.as_tensor(camera_to_world, dtype=torch.float64)
    if pose.ndim == 2:
        pose = pose[None]
    if pose.ndim != 3 or pose.shape[1:] != (4, 4):
        raise InputError(f"The camera-to-world matrices have shape {list(pose.shape)}; they must be [V, 4, 4].")
    check_poses(pose.detach())
    pose = _flip_camera_axes(pose, signs)
    rotation = pose[:, :3, :3].mT
    inverse = torch.eye(4, dtype=torch.float64, device=pose.device).repeat(len(pose), 1, 1)
    inverse[:, :3, :3] = rotation
    inverse[:, :3, 3:] = -(rotation @ pose[:, :3, 3:])
    intrinsics = torch.as_tensor(intrinsics, dtype=torch.float32)
    return Cameras(inverse, intrinsics.expand(len(pose), 3, 3), width, height)


# ---- SRN pose files -----------------------------------------------------------------------------------------------


def srn_pose(cameras: Cameras) -> Tensor:
    """The matrices of SRN pose files: camera (x right, y down, z forward) -> world (Z up), [V, 4, 4] float32."""
    return cameras.camera_to_world


def cameras_from_srn_pose(pose: Tensor, width: int = 128, height: int = 128, focal: float = 131.25) -> Cameras:
    """SRN pose files, camera (x right, y down, z forward) -> world (Z up), [V, 4, 4], to cameras.

    focal: pixels at this picture size (131.25 at 128 pixels in the published data); principal point centered.
    """
    intrinsics = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return cameras_from_opencv(pose, intrinsics, width, height)


def parse_srn_pose(text: str) -> Tensor:
    """The text of one SRN pose file (16 numbers, row-major) -> camera (OpenCV axes) -> world (Z up), [4, 4] float64."""
    words = text.split()
    try:
        values = [float(w) for w in words]
    except ValueError:
        values = []
    if len(values) != 16:
        raise InputError(f"A pose file holds {len(words)} words; it must hold the 16 numbers of a 4x4 matrix.")
    return torch.tensor(values, dtype=torch.float64).reshape(4, 4)


# ---- PyTorch3D ----------------------------------------------------------------------------------------------------


def pytorch3d_rt(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """PyTorch3D's R [V, 3, 3] and T [V, 3]: X_camera = X_world R + T on rows, camera x left, y up, z forward."""
    signs = cameras.world_to_camera.new_tensor(_P3D)
    rotation = cameras.world_to_camera[:, :3, :3].mT * signs
    return rotation, cameras.world_to_camera[:, :3, 3] * signs


def cameras_from_pytorch3d_rt(
    rotation: Tensor, translation: Tensor, width: int, height: int, fov: float | None = None, intrinsics=None
) -> Cameras:
    """PyTorch3D's R [V, 3, 3] and T [V, 3] (X_camera = X_world R + T on rows, x left, y up, z forward) to cameras.

    Give fov (degrees, horizontal) or intrinsics ([V, 3, 3], pixels, OpenCV camera axes).
    """
    rotation, translation = torch.as_tensor(rotation), torch.as_tensor(translation)
    if rotation.ndim != 3 or rotation.shape[1:] != (3, 3) or translation.shape != rotation.shape[:2]:
        raise InputError(
            f"R has shape {list(rotation.shape)} and T {list(translation.shape)}; they must be [V, 3, 3] and [V, 3]."
        )
    if (fov is None) == (intrinsics is None):
        raise InputError("Give either the field of view or the intrinsics of the cameras, not both and not neither.")
    signs = rotation.new_tensor(_P3D)
    pose = torch.eye(4, dtype=rotation.dtype, device=rotation.device).repeat(len(rotation), 1, 1)
    pose[:, :3, :3] = (rotation * signs).mT
    pose[:, :3, 3] = translation * signs
    if intrinsics is None:
        intrinsics = intrinsics_from_fov(fov, width, height)
    return Cameras(pose, torch.as_tensor(intrinsics).expand(len(rotation), 3, 3), width, height)


# ---- COLMAP -------------------------------------------------------------------------------------------------------


def colmap_qt(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """COLMAP's qvec [V, 4] (w, x, y, z) and tvec [V, 3]: world (Z up) -> camera (x right, y down, z forward)."""
    return quaternion_from_matrix(cameras.world_to_camera[:, :3, :3]), cameras.world_to_camera[:, :3, 3]


def cameras_from_colmap(qvec: Tensor, tvec: Tensor, intrinsics: Tensor, width: int, height: int) -> Cameras:
    """COLMAP's qvec [V, 4] (w, x, y, z) and tvec [V, 3], world -> camera (x right, y down, z forward), to cameras.

    The world is taken as it is: COLMAP's gravity is arbitrary, so turn it with `turn_cameras` (or measure it) first.
    """
    qvec = torch.as_tensor(qvec, dtype=torch.float64).reshape(-1, 4)
    tvec = torch.as_tensor(tvec, dtype=torch.float64).reshape(-1, 3)
    if len(qvec) != len(tvec):
        raise InputError(f"There are {len(qvec)} rotations and {len(tvec)} translations; each camera needs both.")
    pose = torch.eye(4, dtype=torch.float64).repeat(len(qvec), 1, 1)
    pose[:, :3, :3] = matrix_from_quaternion(qvec)
    pose[:, :3, 3] = tvec
    return Cameras(pose, torch.as_tensor(intrinsics).expand(len(qvec), 3, 3), width, height)


# ---- glTF cameras and LOAD3D_CAMERA ----------------------------------------------------------------------------------


def load3d_camera(cameras: Cameras, index: int = 0, target_distance: float | None = None) -> dict:
    """One camera as a LOAD3D_CAMERA dict: world Y up, camera looks down its -Z, `fov` vertical degrees.

    target_distance: how far along the view axis the `target` lies, world units; default: at the foot of the
    perpendicular from the world's origin (what an orbit camera looks at), or 1 where that lies behind.
    """
    one = cameras[index]
    matrix = turn_camera_to_world(cameras_to_opengl(one)[0].double(), "z_up", "y_up")
    position, back = matrix[:3, 3], matrix[:3, 2]
    if target_distance is None:
        target_distance = float(position @ back)
        if target_distance <= 1e-6:
            target_distance = 1.0
    target = position - target_distance * back
    w, x, y, z = quaternion_from_matrix(matrix[:3, :3]).tolist()
    return {
        "position": _xyz(position),
        "target": _xyz(target),
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
        "fov": float(one.fov_y[0]),
        "aspect": one.width / one.height,
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def cameras_from_load3d(camera: dict, width: int, height: int) -> Cameras:
    """A LOAD3D_CAMERA dict (world Y up, looks down its -Z, `fov` vertical degrees) to one camera, Z up.

    The quaternion gives the rotation; without one the camera looks from `position` at `target` with +Y upwards.
    Raises InputError for an orthographic camera, missing entries, or a camera standing at its target.
    """
    if str(camera.get("cameraType", "perspective")).lower().startswith("ortho"):
        raise InputError("The camera is orthographic; switch the 3D view to perspective.")
    position = _vector(camera, "position")
    if camera.get("quaternion"):
        q = camera["quaternion"]
        quat = torch.tensor([float(q.get(k, 1.0 if k == "w" else 0.0)) for k in "wxyz"], dtype=torch.float64)
        rotation = matrix_from_quaternion(quat)
    else:
        rotation = _look_at_opengl(position, _vector(camera, "target"))
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = position
    fov = float(camera.get("fov") or 0) or 35.0  # the host's own default where a camera carries none
    zoom = float(camera.get("zoom") or 1.0)
    if not 0 < fov < 180 or zoom <= 0:
        raise InputError(f"The camera has fov {fov:.4g} and zoom {zoom:.4g}; fov must lie in 0..180, zoom above 0.")
    focal = zoom * height / (2 * math.tan(math.radians(fov) / 2))
    intrinsics = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return cameras_from_opengl(turn_camera_to_world(matrix, "y_up", "z_up"), intrinsics, width, height)


def turn_camera_to_world(camera_to_world: Tensor, source: str, target: str) -> Tensor:
    """Camera-to-world matrices [..., 4, 4] into the world frame `source`, as matrices into the frame `target`."""
    turn = torch.eye(4, dtype=camera_to_world.dtype, device=camera_to_world.device)
    turn[:3, :3] = world_rotation(source, target).to(camera_to_world)
    return turn @ camera_to_world


def _look_at_opengl(position: Tensor, target: Tensor) -> Tensor:
    """OpenGL camera axes (columns) of a camera that looks from `position` at `target` in a Y-up world, [3, 3]."""
    back = position - target
    if float(back.norm()) < 1e-12:
        raise InputError("The camera stands at the point it looks at; move its position or its target.")
    back = back / back.norm()
    up = back.new_tensor([0.0, 1.0, 0.0])
    if abs(float(back @ up)) > 0.999999:  # straight up or down: any roll will do, take the one three.js takes
        up = back.new_tensor([0.0, 0.0, 1.0])
    right = torch.linalg.cross(up, back)
    right = right / right.norm()
    return torch.stack([right, torch.linalg.cross(back, right), back], dim=-1)


def _xyz(vector: Tensor) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist()))


def _vector(camera: dict, name: str) -> Tensor:
    value = camera.get(name)
    if not isinstance(value, dict) or not all(k in value for k in "xyz"):
        raise InputError(f"The camera has no usable `{name}`; it must be a mapping with x, y and z.")
    vector = torch.tensor([float(value[k]) for k in "xyz"], dtype=torch.float64)
    if not torch.isfinite(vector).all():
        raise InputError(f"The camera's `{name}` is {vector.tolist()}; it must hold finite numbers.")
    return vector
