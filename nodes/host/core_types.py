"""Core types and ours, one into the other."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from ...scene.cameras import Cameras
from ...scene.errors import InputError
from ...scene.frames import turn_cameras
from ...scene.splats import Splats
from .base import Types
from .devices import result


def pictures(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, C] -> [B, C, H, W] float32 on the CPU; a view, never the host's own tensor changed."""
    if image.ndim != 4:
        raise InputError(f"An image has shape {list(image.shape)}; IMAGE is [batch, height, width, channels].")
    return image.to("cpu", torch.float32).permute(0, 3, 1, 2)


def masks(mask: Tensor) -> Tensor:
    """MASK [H, W] or [B, H, W] -> [B, H, W] float32 on the CPU."""
    mask = mask.to("cpu", torch.float32)
    return mask.reshape(-1, *mask.shape[-2:])


def splat(splats: Splats) -> Any:
    """Our splats (Z up, front at azimuth 0) as the core's SPLAT (3D Gaussian Splatting's frame, front to us)."""
    turned = splats.turned("z_up", "y_down_front")
    fields = (turned.means, turned.scales, turned.quats, turned.opacities[:, None], turned.sh)
    return Types.SPLAT(*(result(field)[None] for field in fields))


def splats(splat: Any) -> list[Splats]:
    """The items of a core SPLAT as our splats (Z up, front at azimuth 0), float32, where they lie."""
    items = []
    for i in range(splat.positions.shape[0]):
        count = int(splat.counts[i]) if splat.counts is not None else splat.positions.shape[1]
        fields = (splat.positions, splat.scales, splat.rotations, splat.opacities, splat.sh)
        means, scales, quats, opacities, sh = (field[i, :count].to(torch.float32) for field in fields)
        if not count:
            raise InputError("`splat` holds no Gaussians; connect a splat that has some.")
        item = Splats(means, scales, quats, opacities.reshape(-1), sh).turned("y_down_front", "z_up")
        items.append(item.check_finite())
    return items


def front_cameras(cameras: Cameras) -> Cameras:
    """Cameras of the host's 3D views, read as Y up (`cameras_from_load3d`), with its front at azimuth 0."""
    return turn_cameras(turn_cameras(cameras, "z_up", "y_up"), "y_up_front", "z_up")


def colored_voxels(coords: Tensor, colors: Tensor, resolution: int) -> Any:
    """The core's sparse VOXEL: coords [N, 4] rows (item, x, y, z), colors [N, 6], voxels per axis.

    Hosts before 0.33 know only the first of the three; there the others are attributes all the same, for our nodes.
    """
    if "resolution" in inspect.signature(Types.VOXEL).parameters:
        return Types.VOXEL(coords, colors, resolution)
    voxel = Types.VOXEL(coords)
    voxel.voxel_colors, voxel.resolution = colors, resolution
    return voxel
