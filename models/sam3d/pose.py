"""SAM 3D's pose latents to a pose: where the object's cube stands before the camera."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.cameras import Cameras, intrinsics_from_fov, look_at
from ...scene.errors import InputError
from ...scene.frames import cameras_from_pytorch3d_rt
from ...scene.rotations import matrix_from_quaternion, quaternion_from_matrix
from ...scene.splats import Splats
from .mot_flow import POSE

FOV = 40.0  # degrees along either axis: what the released visibility test takes for every picture
SCENE_AXES = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))  # camera (left, up, in) -> (right, in, up), Z up

ROTATION_MEAN = (
    -0.06366084883674913, 0.008438224692279752, 0.00017084786438302483,
    0.0007126610473540038, -0.0030916726538816417, 0.5166093753457688,
)  # fmt: skip
ROTATION_STD = (
    0.6656971967514863, 0.6787012271867754, 0.30345010594844524,
    0.4394504420678794, 0.39817973931717104, 0.6176286868761914,
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """camera = (point * scale) R + translation on rows; PyTorch3D axes (x left, y up, z in), units of the point map.

    translation: [B, 3]; rotation: [B, 4] quaternion (w, x, y, z) of R; scale: [B, 3], equal along the axes.
    """

    translation: Tensor
    rotation: Tensor
    scale: Tensor

    def scaled(self, factor: float) -> Pose:
        """The pose of a grid that was shrunk by `factor`."""
        return Pose(self.translation, self.rotation, self.scale * factor)


def decode_pose(
    latents: dict[str, Tensor], scene_scale: Tensor | None = None, scene_shift: Tensor | None = None
) -> Pose:
    """The pose in the point map's units.

    latents: rotation [B, 1, 6] (normalized; the first two axes of the rotation as columns), translation [B, 1, 3],
    scale [B, 1, 3] (logarithm). scene_scale, scene_shift: [3] or [B, 3], moments of the point map; default 1 and 0.
    Raises InputError for a latent that is missing or not finite. Source: SAM 3D, `ScaleShiftInvariant`.
    """
    for name in (POSE, "translation", "scale"):
        if name not in latents or not bool(torch.isfinite(latents[name]).all()):
            raise InputError(f"The pose latents have no usable {name!r}; the pose cannot be read.")
    rotation, translation, scale = (latents[name].float().flatten(0, 1) for name in (POSE, "translation", "scale"))
    six = rotation * rotation.new_tensor(ROTATION_STD) + rotation.new_tensor(ROTATION_MEAN)
    first = F.normalize(six[:, :3], dim=-1)
    second = six[:, 3:] - (first * six[:, 3:]).sum(-1, keepdim=True) * first
    second = F.normalize(second, dim=-1)
    matrix = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
    scene_scale = torch.ones(1, 3) if scene_scale is None else scene_scale.float().reshape(-1, 3)
    scene_shift = torch.zeros(1, 3) if scene_shift is None else scene_shift.float().reshape(-1, 3)
    scene_scale, scene_shift = scene_scale.to(matrix), scene_shift.to(matrix)
    linear = scale.exp()[:, :, None] * matrix * scene_scale[:, None]
    lengths = linear.norm(dim=-1)
    return Pose(
        translation * scene_scale + scene_shift,
        quaternion_from_matrix(linear / lengths[..., None]),
        lengths.mean(-1, keepdim=True).expand(-1, 3),
    )


def fixed_intrinsics(height: int, width: int, fov: float = FOV) -> Tensor:
    """[3, 3] in pixels: `fov` degrees along the width and along the height. Source: RelaxFlow, SAM 3D pipeline."""
    side = max(height, width)
    intrinsics = intrinsics_from_fov(fov, side, side).reshape(-1, 3, 3)[0].clone()
    intrinsics[:2] *= torch.tensor([[width / side], [height / side]])
    return intrinsics


def pose_camera(pose: Pose, height: int, width: int, fov: float = FOV) -> Cameras:
    """The picture's camera before the object's cube, in units of the cube."""
    turn = matrix_from_quaternion(pose.rotation.float().cpu())
    shift = pose.translation.float().cpu() / pose.scale.float().cpu()[:, :1]
    return cameras_from_pytorch3d_rt(turn, shift, width, height, intrinsics=fixed_intrinsics(height, width, fov)[None])


def preview_camera(pose: Pose, size: int = 384, distance: float = 2.6) -> Cameras:
    """A camera that looks at the middle of the cube from where the picture's camera stands, all of it in sight."""
    camera = pose_camera(pose, size, size)
    axes, center = camera.world_to_camera[0, :3, :3], camera.centers[0]
    towards = center if float(center.norm()) > 1e-3 else -axes[2]
    towards = towards / towards.norm()
    up = -axes[1] if abs(float(towards @ axes[1])) < 0.98 else axes[2]
    return look_at((distance * towards).tolist(), (0.0, 0.0, 0.0), FOV, size, size, up=up.tolist())


def placement(pose: Pose) -> tuple[float, Tensor, Tensor]:
    """Scale, rotation [3, 3] (acting on columns) and shift [3] float32 from the cube into the scene.

    The scene: the camera at the origin looking along +Y, X right, Z up, units of the point map.
    """
    axes = torch.tensor(SCENE_AXES)
    turn = matrix_from_quaternion(pose.rotation[0].float().cpu())
    return float(pose.scale[0, 0]), axes @ turn.mT, axes @ pose.translation[0].float().cpu()


def placed_points(points: Tensor, pose: Pose) -> Tensor:
    """Points [N, 3] of the cube in the scene, see `placement`."""
    scale, turn, shift = placement(pose)
    return scale * points @ turn.to(points).mT + shift.to(points)


def placed_splats(splats: Splats, pose: Pose) -> Splats:
    """Splats of the cube in the scene, see `placement`."""
    scale, turn, shift = placement(pose)
    turned = splats.rotated(turn)
    means = scale * turned.means + shift.to(turned.means)
    return Splats(means, scale * turned.scales, turned.quats, turned.opacities, turned.sh)
