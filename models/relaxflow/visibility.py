"""Which voxels of an object the picture shows: from a predicted pose, a camera, a depth map or a known layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.zbuffer import depth_buffer, soft_visibility
from ...scene.cameras import Cameras
from ...scene.errors import InputError


@dataclass(frozen=True)
class VisibilitySettings:
    """How strict the mask is.

    falloff: visibility is exp(-falloff (distance behind the surface / tolerance)^2). tolerance: in voxels. dilate: how
    many voxels' width every voxel covers in the picture. resolution: voxels of the grid along an axis. centered: take
    the centers of the voxels; the released code takes their low corners.
    """

    falloff: float = 3.0
    tolerance: float = 1.5
    dilate: float = 1.5
    resolution: int = 64
    centered: bool = True

    def __post_init__(self) -> None:
        for name in ("falloff", "tolerance", "dilate"):
            if not getattr(self, name) >= 0:
                raise InputError(f"`{name}` is {getattr(self, name)}; 0 or more would work.")
        if self.resolution < 1:
            raise InputError(f"`resolution` is {self.resolution}; at least 1 is needed.")


DEFAULT, AS_RELEASED = VisibilitySettings(), VisibilitySettings(centered=False)


def grid_points(coords: Tensor, settings: VisibilitySettings) -> Tensor:
    """Voxels [N, 3] integers -> points [N, 3] float32 in the cube [-0.5, 0.5]^3 (Z up)."""
    shift = 0.5 if settings.centered else 0.0
    return (coords.float() + shift) / settings.resolution - 0.5


def visibility_from_pose(
    coords: Tensor,
    translation: Tensor,
    rotation: Tensor,
    scale: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
    *,
    selected: Tensor | None = None,
    settings: VisibilitySettings = AS_RELEASED,
) -> Tensor:
    """Visibility [B, N, 1] float32 of voxels under a predicted pose; 1 is seen.

    coords: [N, 4] int32 rows (item, x, y, z). Pose of every item: translation [B, 3], rotation [B, 4] quaternion
    (w, x, y, z), scale [B, 3]: camera = (point * scale) R + translation on rows, PyTorch3D axes (x left, y up, z in).
    intrinsics: [3, 3] or [B, 3, 3], in pixels or normalized (focal below 10, center within 1.5). selected:
    [height, width] 0/1 or 0/255 or of another size (nearest), multiplies the result. Row b holds the voxels of item b,
    zeros for the others. Raises InputError for an incomplete pose. Source: RelaxFlow, geometry visibility mask.
    """
    for name, value in (("translation", translation), ("rotation", rotation), ("scale", scale)):
        if value is None or not bool(torch.isfinite(value).all()):
            raise InputError(f"The pose has no usable {name}; give a complete one, a camera, or a mask of your own.")
    translation, scale = (v.detach().float().cpu().reshape(-1, 3) for v in (translation, scale))
    rotation, intrinsics = (v.detach().float().cpu() for v in (rotation, intrinsics))
    rotation, intrinsics = rotation.reshape(-1, 4), intrinsics.reshape(-1, 3, 3)
    items = translation.shape[0]
    mask = torch.zeros(items, coords.shape[0], 1)
    chosen = None if selected is None else selected_pixels(selected, height, width)
    for item in range(items):
        rows = torch.nonzero(coords[:, 0] == item).squeeze(1).to("cpu")
        if rows.numel() == 0:
            continue
        k = intrinsics[item if intrinsics.shape[0] > 1 else 0]
        focal = sum(float(f) if f > 10 else float(f) * side for f, side in ((k[0, 0], width), (k[1, 1], height))) / 2
        far = float(translation[item, 2])
        voxel = float(scale[item].max()) / settings.resolution
        pose = _pose_matrix(rotation[item], translation[item], scale[item])
        points = (F.pad(grid_points(coords[rows, 1:].cpu(), settings), (0, 1), value=1.0) @ pose)[:, :3]
        if 0 <= k[0, 2] <= 1.5 and 0 <= k[1, 2] <= 1.5 and k[0, 0] < 10 and k[1, 1] < 10:
            k = k * k.new_tensor([[width], [height], [1]])
        depth = points[:, 2]
        xy = torch.stack(
            [k[0, 2] - k[0, 0] * (points[:, 0] / depth), k[1, 2] - k[1, 1] * (points[:, 1] / depth)], dim=1
        )
        mask[item, rows, 0] = soft_visibility(
            xy,
            depth,
            height,
            width,
            tolerance=max(settings.tolerance * voxel, 1e-6),
            kernel=_kernel(settings.dilate * voxel * focal / (far if far >= 1e-3 else 1.0)),
            falloff=settings.falloff,
            selected=None if chosen is None else chosen[min(item, chosen.shape[0] - 1)],
        )
    return mask


def _pose_matrix(rotation: Tensor, translation: Tensor, scale: Tensor) -> Tensor:
    """[4, 4] float32 acting on rows (x, y, z, 1): scale, then turn, then move.

    Written in the order in which PyTorch3D rounds, since visibility falls off over little more than a voxel.
    """
    w, x, y, z = rotation.unbind(-1)
    two = 2.0 / (rotation * rotation).sum(-1)
    rows = [
        1 - two * (y * y + z * z), two * (x * y - z * w), two * (x * z + y * w),
        two * (x * y + z * w), 1 - two * (x * x + z * z), two * (y * z - x * w),
        two * (x * z - y * w), two * (y * z + x * w), 1 - two * (x * x + y * y),
    ]  # fmt: skip
    turn, move = torch.eye(4), torch.eye(4)
    turn[:3, :3] = torch.stack(rows).view(3, 3)
    move[3, :3] = translation
    return torch.diag(F.pad(scale, (0, 1), value=1.0)) @ turn @ move


def _kernel(pixels: float) -> int:
    """The odd number of pixels a voxel covers."""
    size = max(int(round(min(pixels, 1e6))), 1)
    return size + 1 if size % 2 == 0 else size


def selected_pixels(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask of one or several pictures as [B, height, width] float32 in 0..1 (values above 1 are taken as 0..255)."""
    mask = mask.detach().cpu().float()
    if mask.ndim == 3 and mask.shape[-1] in (1, 3, 4) and mask.shape[0] > 4:
        mask = mask[..., -1]
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or mask.numel() == 0:
        raise InputError(f"The mask is {list(mask.shape)}; [height, width] would work.")
    if float(mask.max()) > 1:
        mask = mask / 255.0
    mask = mask.clamp(0, 1)
    if mask.shape[-2:] != (height, width):
        mask = F.interpolate(mask[:, None], size=(height, width), mode="nearest")[:, 0]
    return mask


@dataclass(frozen=True)
class Placement:
    """Where the object's cube stands in the world (Z up): world = rotation (scale * point) + center.

    scale: edge lengths [3] of the cube, rotation [3, 3], center [3], all float32.
    """

    scale: Tensor
    rotation: Tensor
    center: Tensor

    @classmethod
    def identity(cls) -> Placement:
        return cls(torch.ones(3), torch.eye(3), torch.zeros(3))

    def to_world(self, points: Tensor) -> Tensor:
        return (points * self.scale.to(points)) @ self.rotation.to(points).mT + self.center.to(points)


def visibility_from_camera(
    coords: Tensor | None,
    camera: Cameras,
    *,
    placement: Placement | None = None,
    depth: Tensor | None = None,
    in_front: Tensor | None = None,
    selected: Tensor | None = None,
    surface: Tensor | None = None,
    settings: VisibilitySettings = DEFAULT,
) -> Tensor:
    """Visibility [N] float32 of the voxels of one object from one camera; 1 is seen.

    coords: [N, 3] or [N, 4] (item first) integers; None: every cell of the grid, x-major, so that space that is seen to
    be empty counts as seen. camera: one camera, its world that of `placement` (default: the object's cube itself).
    depth: [H, W] measured depth along the view axis in world units, as large as the camera's picture; it replaces the
    depth buffer of the voxels `surface` (default `coords`), pixels that are not positive and finite hide nothing.
    in_front: [H, W] depth of other things that hide the object (see `boxes_depth`). selected: [H, W], multiplies the
    result (0 where an occluder stands). Raises InputError for several cameras and maps of another size.
    """
    if len(camera) != 1:
        raise InputError(f"There are {len(camera)} cameras; the visibility mask wants the one that took the picture.")
    camera, height, width = camera.to("cpu"), camera.height, camera.width
    for name, value in (("depth", depth), ("in_front", in_front)):
        if value is not None and tuple(value.shape) != (height, width):
            raise InputError(f"`{name}` is {list(value.shape)}; the camera's picture is {height} x {width}.")
    placement = placement or Placement.identity()
    voxel = float(placement.scale.max()) / settings.resolution
    focal = float((camera.intrinsics[0, 0, 0] + camera.intrinsics[0, 1, 1]) / 2)
    middle = float(camera.project(placement.center.float()[None])[1][0, 0])

    def seen(voxels: Tensor) -> tuple[Tensor, Tensor]:
        xy, z = camera.project(placement.to_world(grid_points(voxels[:, -3:].cpu(), settings)))
        return xy[0], z[0]

    if depth is not None:
        near = torch.where(depth.isfinite() & (depth > 0), depth.float(), torch.inf).cpu()
    else:
        shell = coords if surface is None else surface
        if shell is None or len(shell) == 0:
            raise InputError("There are no voxels to test for visibility; sample the structure first.")
        xy, z = seen(shell)
        inside = (z > 1e-4) & (xy >= 0).all(1) & (xy[:, 0] <= width - 1) & (xy[:, 1] <= height - 1)
        kernel = _kernel(settings.dilate * voxel * focal / middle if middle >= 1e-3 else 1.0)
        near = depth_buffer(xy[inside].floor().long(), z[inside], height, width, kernel)
    if in_front is not None:
        near = torch.minimum(near, in_front.to(near))
    if coords is None:
        coords = torch.cartesian_prod(*[torch.arange(settings.resolution)] * 3)
    xy, z = seen(coords)
    return soft_visibility(
        xy,
        z,
        height,
        width,
        tolerance=max(settings.tolerance * voxel, 1e-6),
        falloff=settings.falloff,
        surface=near,
        selected=None if selected is None else selected_pixels(selected, height, width)[0],
    )


def mask_on_grid(mask: Tensor, resolution: int, most: bool = False) -> Tensor:
    """A mask [R, R, R] on another grid: the mean (`most`: the largest) over a coarser cell, the nearest for a finer."""
    if mask.ndim != 3 or len(set(mask.shape)) != 1:
        raise InputError(f"The visibility mask is {list(mask.shape)}; a cube [R, R, R] would work.")
    size = mask.shape[0]
    if size == resolution:
        return mask
    if size % resolution == 0:
        pool = F.max_pool3d if most else F.avg_pool3d
        return pool(mask[None, None].float(), size // resolution)[0, 0]
    return F.interpolate(mask[None, None].float(), (resolution,) * 3, mode="nearest")[0, 0]


def mask_of_voxels(mask: Tensor, coords: Tensor, resolution: int) -> Tensor:
    """The mask [N] of voxels [N, 3] of a grid of so many voxels per axis, read from a mask [R, R, R]."""
    at = ((coords[:, -3:].cpu().float() + 0.5) / resolution * mask.shape[0]).long().clamp(0, mask.shape[0] - 1)
    return mask[at[:, 0], at[:, 1], at[:, 2]]


def boxes_depth(camera: Cameras, boxes: list[Placement]) -> Tensor:
    """Depth [H, W] along the view axis of the nearest of several boxes at every pixel center, infinite where none is.

    A box is the cube [-0.5, 0.5]^3 of a placement. A camera inside a box does not see it.
    """
    height, width = camera.height, camera.width
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(1, -1, 2)
    eye = camera.to("cpu").centers[0]
    rays = camera.to("cpu").unproject(pixels, torch.ones(1, pixels.shape[1]))[0] - eye  # unit depth
    nearest = torch.full((height * width,), torch.inf)
    for box in boxes:
        turn = box.rotation.float()
        origin = (eye - box.center) @ turn / box.scale
        steps = (rays @ turn) / box.scale
        steps = torch.where(steps.abs() < 1e-12, torch.full_like(steps, 1e-12), steps)
        low, high = (-0.5 - origin) / steps, (0.5 - origin) / steps
        enter = torch.minimum(low, high).amax(1)
        leave = torch.maximum(low, high).amin(1)
        hit = (enter <= leave) & (enter > 1e-4)
        nearest = torch.where(hit & (enter < nearest), enter, nearest)
    return nearest.view(height, width)


def check_mask(visible: Tensor, voxels: int) -> Tensor:
    """A mask given by hand as [N] float32 in 0..1.

    Raises InputError for another length and for values that are not finite; nothing or all visible is allowed.
    """
    flat = visible.detach().float().reshape(-1)
    if flat.numel() != voxels:
        raise InputError(f"The visibility mask has {flat.numel()} values, but there are {voxels} voxels.")
    if not bool(torch.isfinite(flat).all()):
        raise InputError("The visibility mask has values that are not finite numbers; 0 (hidden) to 1 (seen) work.")
    return flat.clamp(0, 1)
