"""Amodal masks of boxes, and which box is seen where: silhouettes, nearest boxes and depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...scene.errors import InputError
from .outlines import box_windows
from .scene import FLOOR_CENTER, FLOOR_HALF, BoxScene

MARGIN = 0.9  # pixels around the silhouette in which the reference's antialiasing still sets a pixel, at 1024


def polygon_masks(polygons: Sequence[Tensor], width: int, height: int, margin: float = MARGIN) -> Tensor:
    """[K, H, W] bool: the pixels whose centers lie in each convex polygon ([M, 2] pixels) or within `margin` of it.

    A polygon of fewer than three corners gives an empty mask.
    """
    masks = torch.zeros(len(polygons), height, width, dtype=torch.bool)
    for mask, polygon in zip(masks, polygons):
        if len(polygon) < 3:
            continue
        polygon = polygon.to(torch.float64)
        low, high = polygon.amin(0) - margin, polygon.amax(0) + margin
        left, top = (max(int(v), 0) for v in low.floor().tolist())
        right, bottom = int(min(high[0].ceil(), width)), int(min(high[1].ceil(), height))
        if left >= right or top >= bottom:
            continue
        x = torch.arange(left, right, dtype=torch.float64) + 0.5
        y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5)[:, None]
        edge = polygon.roll(-1, 0) - polygon
        normal = torch.stack([edge[:, 1], -edge[:, 0]], -1)
        normal = normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        middle = polygon.mean(0)
        inside = torch.ones(bottom - top, right - left, dtype=torch.bool)
        for point, (nx, ny) in zip(polygon, normal.tolist()):
            px, py = point.tolist()
            sign = 1.0 if (middle[0] - px) * nx + (middle[1] - py) * ny < 0 else -1.0
            inside &= sign * ((x - px) * nx + (y - py) * ny) <= margin
        mask[top:bottom, left:right] = inside
    return masks


def mask_cells(masks: Tensor, cells: int = 32) -> Tensor:
    """[K, cells, cells] bool: whether any pixel of a cell is set in [K, H, W]; the cells divide the picture evenly.

    Raises InputError where the picture has fewer pixels than cells on a side.
    """
    if min(masks.shape[1:]) < cells:
        raise InputError(f"The masks are {masks.shape[2]}x{masks.shape[1]}; {cells} cells a side need as many pixels.")
    if not len(masks):
        return masks.new_zeros(0, cells, cells, dtype=torch.bool)
    return torch.nn.functional.adaptive_max_pool2d(masks[:, None].float(), cells)[:, 0] > 0


def nearest_boxes(scene: BoxScene) -> tuple[Tensor, Tensor]:
    """Which box is seen first at every pixel center, all taken for opaque: index [H, W] int64 (-1 none), depth [H, W].

    The depth along the view axis is that of the box, else of the floor, else infinite. A camera inside a box sees it
    from the inside, at its far side.
    """
    height, width = scene.height, scene.width
    x = torch.arange(width, device=scene.device) + 0.5
    y = torch.arange(height, device=scene.device) + 0.5
    columns, rows = x[:, None] * scene.rays[:, 0], y[:, None] * scene.rays[:, 1] + scene.rays[:, 2]
    depth = torch.full((height, width), torch.inf, device=scene.device)
    index = torch.full((height, width), -1, dtype=torch.long, device=scene.device)
    if scene.floor:
        down = rows[:, None, 2] + columns[:, 2]
        floor = -scene.eye[2] / torch.where(down.abs() < 1e-9, 1e-9, down)
        place = scene.eye[:2] + floor[..., None] * (rows[:, None, :2] + columns[:, :2])
        on = ((place - place.new_tensor(FLOOR_CENTER)).abs() <= FLOOR_HALF).all(-1) & (floor > scene.near)
        depth = torch.where(on, floor, depth)
    turns = scene.axes.mT / scene.halves[..., None]
    starts = (turns @ (scene.eye - scene.centers)[..., None])[..., 0]
    for i, (left, top, right, bottom) in enumerate(box_windows(scene)):
        a, b = max(int(left), 0), min(int(max(right, 0)) + 1, width)
        c, d = max(int(top), 0), min(int(max(bottom, 0)) + 1, height)
        if a >= b or c >= d:
            continue
        direction = (rows[c:d] @ turns[i].mT)[:, None] + (columns[a:b] @ turns[i].mT)
        direction = torch.where(direction.abs() < 1e-9, 1e-9, direction)
        one, two = (-1.0 - starts[i]) / direction, (1.0 - starts[i]) / direction
        first, last = torch.minimum(one, two).amax(-1), torch.maximum(one, two).amin(-1)
        seen = torch.where(first > scene.near, first, last)
        seen = torch.where((first < last) & (last > scene.near), seen, torch.inf)
        nearer = seen < depth[c:d, a:b]
        index[c:d, a:b] = torch.where(nearer, i, index[c:d, a:b])
        depth[c:d, a:b] = torch.where(nearer, seen, depth[c:d, a:b])
    return index, depth
