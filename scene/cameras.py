"""Pinhole cameras: the one value object every other module takes.

World frame: right-handed, Z up. Camera frame: OpenCV axes (x right, y down, z forward).
Pixels: (0, 0) is the top-left corner of the picture, so the center of pixel (row i, column j) is (j + 0.5, i + 0.5).
Every other convention is turned into this one, and back, by `scene.frames`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError

ROTATION_TOLERANCE = 1e-3  # pose files carry six digits; anything worse is not a rotation but scale, shear or a mirror


@dataclass(frozen=True, eq=False)
class Cameras:
    """V pinhole cameras that share one picture size.

    world_to_camera: [V, 4, 4] float32, world (Z up) -> camera (x right, y down, z forward).
    intrinsics: [V, 3, 3] float32, camera -> homogeneous pixel coordinates.
    width, height: pixels.
    Raises InputError for wrong shapes, non-finite numbers, a pose that is no rotation (zero determinant, mirror,
    scale) and a focal length that is not positive.
    """

    world_to_camera: Tensor
    intrinsics: Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        pose = torch.as_tensor(self.world_to_camera).to(torch.float32)
        intrinsics = torch.as_tensor(self.intrinsics).to(device=pose.device, dtype=torch.float32)
        if pose.ndim != 3 or pose.shape[1:] != (4, 4):
            raise InputError(f"`world_to_camera` has shape {list(pose.shape)}; cameras need [V, 4, 4] matrices.")
        if intrinsics.shape != (pose.shape[0], 3, 3):
            raise InputError(
                f"`intrinsics` has shape {list(intrinsics.shape)}; {len(pose)} cameras need [{len(pose)}, 3, 3]."
            )
        width, height = int(self.width), int(self.height)
        if width < 1 or height < 1:
            raise InputError(f"The picture size is {self.width}x{self.height}; both must be at least 1 pixel.")
        check_poses(pose.detach())
        _check_intrinsics(intrinsics.detach())
        object.__setattr__(self, "world_to_camera", pose)
        object.__setattr__(self, "intrinsics", intrinsics)
        object.__setattr__(self, "width", width)
        object.__setattr__(self, "height", height)

    def __len__(self) -> int:
        return self.world_to_camera.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Cameras:
        """The chosen cameras, always as `Cameras` (an integer gives one camera)."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"camera {index} of {len(self)}")
            index = [index]
        elif not isinstance(index, (slice, Tensor)):
            index = list(index)
        return Cameras(self.world_to_camera[index], self.intrinsics[index], self.width, self.height)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> Cameras:
        """The same cameras with their tensors on `device`."""
        return Cameras(self.world_to_camera.to(device), self.intrinsics.to(device), self.width, self.height)

    @property
    def device(self) -> torch.device:
        return self.world_to_camera.device

    @property
    def camera_to_world(self) -> Tensor:
        """[V, 4, 4] float32, camera (x right, y down, z forward) -> world (Z up)."""
        rotation = self.world_to_camera[:, :3, :3].mT
        center = -(rotation @ self.world_to_camera[:, :3, 3:])
        top = torch.cat([rotation, center], dim=-1)
        return torch.cat([top, self.world_to_camera[:, 3:]], dim=1)

    @property
    def centers(self) -> Tensor:
        """[V, 3] float32, the camera centers in the world (Z up)."""
        return self.camera_to_world[:, :3, 3]

    @property
    def fov_x(self) -> Tensor:
        """[V] float32, the horizontal field of view in degrees."""
        return torch.rad2deg(2 * torch.atan(self.width / (2 * self.intrinsics[:, 0, 0])))

    @property
    def fov_y(self) -> Tensor:
        """[V] float32, the vertical field of view in degrees."""
        return torch.rad2deg(2 * torch.atan(self.height / (2 * self.intrinsics[:, 1, 1])))

    def resized(self, width: int, height: int) -> Cameras:
        """The same cameras for pictures resampled to another size (the field of view stays)."""
        factor = self.intrinsics.new_tensor([width / self.width, height / self.height, 1.0])
        return Cameras(self.world_to_camera, factor[:, None] * self.intrinsics, width, height)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [N, 3] (Z up) -> pixel coordinates [V, N, 2] and depths along the view axis [V, N]."""
        points = points.to(self.world_to_camera)
        seen = points @ self.world_to_camera[:, :3, :3].mT + self.world_to_camera[:, None, :3, 3]
        homogeneous = seen @ self.intrinsics.mT
        return homogeneous[..., :2] / homogeneous[..., 2:], seen[..., 2]

    def unproject(self, pixels: Tensor, depths: Tensor) -> Tensor:
        """Pixel coordinates [V, N, 2] and depths along the view axis [V, N] -> world points [V, N, 3] (Z up)."""
        rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1) @ torch.linalg.inv(self.intrinsics).mT
        seen = rays * depths[..., None]
        pose = self.camera_to_world
        return seen @ pose[:, :3, :3].mT + pose[:, None, :3, 3]

    @staticmethod
    def cat(cameras: Sequence[Cameras]) -> Cameras:
        """Several sets of cameras of one picture size, one after the other."""
        if not cameras:
            raise InputError("There are no cameras to join; give at least one.")
        sizes = {(c.width, c.height) for c in cameras}
        if len(sizes) > 1:
            found = ", ".join(f"{w}x{h}" for w, h in sorted(sizes))
            raise InputError(f"Cameras of different picture sizes ({found}) cannot be joined; resize them first.")
        device = cameras[0].device
        return Cameras(
            torch.cat([c.world_to_camera.to(device) for c in cameras]),
            torch.cat([c.intrinsics.to(device) for c in cameras]),
            cameras[0].width,
            cameras[0].height,
        )


def check_poses(pose: Tensor) -> None:
    """Raise InputError unless every [V, 4, 4] matrix is a rotation and a translation."""
    if not pose.shape[0]:
        return
    pose = pose.to(device="cpu", dtype=torch.float64)
    rotation = pose[:, :3, :3]
    finite = torch.isfinite(pose).flatten(1).all(dim=1)
    affine = (pose[:, 3] - pose.new_tensor([0, 0, 0, 1])).abs().amax(dim=1) <= 1e-4
    determinant = torch.linalg.det(rotation.nan_to_num(0.0, 0.0, 0.0))
    error = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64)).abs().amax(dim=(1, 2))
    good = finite & affine & (determinant > 0.5) & (error <= ROTATION_TOLERANCE)
    if bool(good.all()):
        return
    i = int((~good).nonzero()[0, 0])
    name = f"Camera {i}" if len(pose) > 1 else "The camera"
    if not finite[i]:
        raise InputError(f"{name} has a pose with numbers that are not finite; every entry must be a number.")
    if not affine[i]:
        raise InputError(f"{name} has a pose whose last row is {_row(pose[i, 3])}; it must be 0 0 0 1.")
    raise InputError(
        f"{name} has a pose that is not a rotation (determinant {float(determinant[i]):.4g}); "
        "give a matrix with perpendicular axes of length 1 and determinant 1."
    )


def _check_intrinsics(intrinsics: Tensor) -> None:
    if not torch.isfinite(intrinsics).all():
        raise InputError("The camera intrinsics hold numbers that are not finite; every entry must be a number.")
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]])
    if focal.numel() and float(focal.min()) <= 0:
        raise InputError(f"The focal length is {float(focal.min()):.4g} pixels; it must be above 0.")


def _row(values: Tensor) -> str:
    return " ".join(f"{v:.4g}" for v in values.tolist())


def intrinsics_from_fov(fov: float | Sequence[float], width: int, height: int) -> Tensor:
    """Intrinsics with square pixels and a centered principal point from the horizontal field of view.

    fov: degrees, one number or V of them, between 0 and 180. Returns [V, 3, 3] float32 in pixels;
    focal length = width / (2 tan(fov / 2)).
    """
    fov = torch.as_tensor(fov, dtype=torch.float64).reshape(-1)
    if not bool(((fov > 0) & (fov < 180)).all()):
        raise InputError(f"The field of view is {fov.tolist()} degrees; it must lie between 0 and 180.")
    focal = width / (2 * torch.tan(torch.deg2rad(fov) / 2))
    matrix = torch.zeros(len(fov), 3, 3, dtype=torch.float64)
    matrix[:, 0, 0] = focal
    matrix[:, 1, 1] = focal
    matrix[:, 0, 2] = width / 2
    matrix[:, 1, 2] = height / 2
    matrix[:, 2, 2] = 1
    return matrix.float()


def orbit(
    azimuth: float | Sequence[float],
    elevation: float | Sequence[float],
    radius: float | Sequence[float],
    fov: float | Sequence[float],
    width: int,
    height: int,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """Cameras on a sphere around `target`, looking at it, world up (+Z) upwards in the picture.

    azimuth, elevation, fov: degrees, numbers or V-sequences, broadcast against each other; azimuth 0, elevation 0 is
    on the +X axis, azimuth counts counter-clockwise seen from above. radius: world units. fov: horizontal.
    center = target + radius (cos el cos az, cos el sin az, sin el). Poles are allowed (limit of that meridian).
    Raises InputError for a radius that is not positive or numbers that are not finite.
    """
    given = [torch.as_tensor(v, dtype=torch.float64).reshape(-1) for v in (azimuth, elevation, radius, fov)]
    lengths = {len(v) for v in given} - {1}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"Azimuth, elevation, radius, fov have {[len(v) for v in given]} values; each needs 1 or the same number."
        )
    azimuth, elevation, radius, fov = torch.broadcast_tensors(*given)
    if not all(bool(torch.isfinite(v).all()) for v in given):
        raise InputError("An azimuth, elevation, radius or fov is not a finite number.")
    if bool((radius <= 0).any()):
        raise InputError(f"The camera radius is {float(radius.min()):.4g}; it must be above 0.")
    az, el = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    outward = torch.stack([el.cos() * az.cos(), el.cos() * az.sin(), el.sin()], dim=-1)
    right = torch.stack([-az.sin(), az.cos(), torch.zeros_like(az)], dim=-1)
    forward = -outward
    center = torch.as_tensor(target, dtype=torch.float64) + radius[:, None] * outward
    return Cameras(_pose(right, forward, center), intrinsics_from_fov(fov, width, height), width, height)


def turntable(
    frames: int,
    elevation: float,
    radius: float,
    fov: float,
    width: int,
    height: int,
    start: float = 0.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Cameras:
    """`frames` orbit cameras over one full turn from azimuth `start` (degrees), the end excluded; see `orbit`."""
    if frames < 1:
        raise InputError(f"A turntable of {frames} frames was asked for; it needs at least 1.")
    azimuth = start + 360.0 * torch.arange(frames, dtype=torch.float64) / frames
    return orbit(azimuth, elevation, radius, fov, width, height, target)


def look_at(
    eye: Sequence[float] | Tensor,
    target: Sequence[float] | Tensor,
    fov: float | Sequence[float],
    width: int,
    height: int,
    up: Sequence[float] = (0.0, 0.0, 1.0),
) -> Cameras:
    """Cameras at `eye` looking at `target`.

    eye, target: [3] or [V, 3], world (Z up), broadcast; fov: horizontal, degrees; up: world direction that points
    upwards in the picture (where the view runs along it, +X takes its place). Raises InputError where eye == target.
    """
    eye = torch.as_tensor(eye, dtype=torch.float64).reshape(-1, 3)
    target = torch.as_tensor(target, dtype=torch.float64).reshape(-1, 3)
    eye, target = torch.broadcast_tensors(eye, target)
    forward = target - eye
    distance = forward.norm(dim=-1, keepdim=True)
    if not bool((distance > 1e-12).all()):
        raise InputError("A camera stands at the point it looks at; move the eye or the target.")
    forward = forward / distance
    up = torch.as_tensor(up, dtype=torch.float64).expand_as(forward)
    right = torch.linalg.cross(forward, up)
    along = right.norm(dim=-1, keepdim=True) < 1e-6 * up.norm(dim=-1, keepdim=True)
    spare = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).expand_as(forward)
    right = torch.where(along, torch.linalg.cross(forward, spare), right)
    right = right / right.norm(dim=-1, keepdim=True)
    focal = intrinsics_from_fov(fov, width, height).expand(len(eye), 3, 3)
    return Cameras(_pose(right, forward, eye), focal, width, height)


def focal_from_fov(fov: float, pixels: int) -> float:
    """The focal length in pixels of a field of view in degrees over `pixels` pixels: pixels / (2 tan(fov / 2))."""
    return pixels / (2 * math.tan(math.radians(fov) / 2))


def _pose(right: Tensor, forward: Tensor, center: Tensor) -> Tensor:
    """Camera axes and centers in the world [V, 3] float64 -> world-to-camera [V, 4, 4] float32."""
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=1)
    pose = torch.zeros(len(right), 4, 4, dtype=torch.float64)
    pose[:, :3, :3] = rotation
    pose[:, :3, 3:] = -(rotation @ center[..., None])
    pose[:, 3, 3] = 1
    return pose.float()
