"""A picture of which voxels count as seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ...kernels.zbuffer import depth_buffer
from ...scene.cameras import Cameras
from .visibility import VisibilitySettings, grid_points, mask_of_voxels

BACKGROUND = 0.08
HALF_TURN = (-1.0, 1.0, -1.0)  # of the camera's axes about its vertical


def mask_picture(coords: Tensor, mask: Tensor, camera: Cameras, resolution: int, size: int = 384) -> Tensor:
    """The voxels as dots, seen green and hidden red: uint8 [size, 2 size, 3], from the camera and from behind.

    coords: [N, 3] voxels of a grid of `resolution` per axis; mask: [R, R, R]; camera: one, its world the cube's.
    """
    values = mask_of_voxels(mask, coords, resolution)
    points = grid_points(coords, VisibilitySettings(resolution=resolution))
    colors = torch.stack([1 - values, values * 0.85, torch.full_like(values, 0.15)], 1)
    camera = camera.to("cpu").resized(size, size)
    pose, focal = camera.world_to_camera[0], float(camera.intrinsics[0, 0, 0])
    turned, middle = points @ pose[:3, :3].T, pose[:3, 3]
    reach = min(max(int(focal / max(float(middle[2]), 1e-3) / resolution) // 2, 0), size // 16)
    shots = []
    for axes in (torch.ones(3), torch.tensor(HALF_TURN)):
        seen = turned * axes + middle
        pixels = seen @ camera.intrinsics[0].T
        xy, depth = (pixels[:, :2] / pixels[:, 2:]).floor().long(), seen[:, 2]
        shown = (depth > 1e-4) & (xy >= reach).all(1) & (xy < size - reach).all(1)
        xy, depth, paint = xy[shown], depth[shown], colors[shown]
        near = depth_buffer(xy, depth, size, size, 2 * reach + 1)
        picture = torch.full((size, size, 3), BACKGROUND)
        for dx in range(-reach, reach + 1):
            for dy in range(-reach, reach + 1):
                x, y = xy[:, 0] + dx, xy[:, 1] + dy
                front = depth <= near[y, x]
                picture[y[front], x[front]] = paint[front]
        shots.append(picture)
    return (torch.cat(shots, 1) * 255).round().to(torch.uint8)
