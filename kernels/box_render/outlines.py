"""Where in the picture a control picture has edges: the rails of all wires, their shadows, the rim of the floor.

Pixels near them get many samples, all others one. Also which part of the picture each box, and each shadow of a box,
can touch at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .scene import FLOOR_CENTER, FLOOR_HALF, INSET, OUTSET, BoxScene

STEP = 0.7  # pixels between marks along a line
_EVERYWHERE = (-math.inf, -math.inf, math.inf, math.inf)


def rails() -> Tensor:
    """The lines of a box's wire in its own coordinates, [36, 2, 3]: per edge the outer rail and one on each face."""
    found = []
    for axis in range(3):
        j, k = [i for i in range(3) if i != axis]
        for a in (-1.0, 1.0):
            for b in (-1.0, 1.0):
                for u, v in ((OUTSET, OUTSET), (1.0, INSET), (INSET, 1.0)):
                    ends = torch.zeros(2, 3)
                    ends[:, j], ends[:, k] = a * u, b * v
                    ends[0, axis], ends[1, axis] = -min(u, v), min(u, v)
                    found.append(ends)
    return torch.stack(found)


def mark(scene: BoxScene) -> Tensor:
    """[H, W] uint8: 2 for pixels through or beside which an edge of the picture runs, 1 where only a shadow's does."""
    device = scene.device
    lines = rails().to(device)
    world = torch.einsum("sec,nc,ndc->nsed", lines, scene.halves, scene.axes) + scene.centers[:, None, None]
    world = world.reshape(-1, 2, 3)
    marked = torch.zeros(2, scene.height + 2, scene.width + 2, dtype=torch.bool, device=device)
    _draw(scene, world, marked[0])
    if scene.floor:
        _draw(scene, _rim(device), marked[0])
        for light in scene.lights:
            _draw(scene, _shadow(world, light), marked[1])
    thick = torch.nn.functional.max_pool2d(marked.float(), 3, 1, 1)[:, 1:-1, 1:-1] > 0
    return torch.where(thick[0], 2, thick[1].to(torch.uint8)).to(torch.uint8)


def _shadow(segments: Tensor, light: Tensor) -> Tensor:
    """Shadows on the floor of segments [S, 2, 3] that lie between the floor and the light; parts below are cut off."""
    clipped = _clip(segments, torch.stack([torch.zeros_like(light[2]), light[2] * (1 - 1e-4)]))
    height = clipped[..., 2:]
    return light + (clipped - light) * (light[2] / (light[2] - height).clamp_min(1e-6))


def _clip(segments: Tensor, limits: Tensor) -> Tensor:
    """The parts of segments [S, 2, 3] whose z lies within two limits; those wholly outside are dropped."""
    z = segments[..., 2]
    low, high = limits
    keep = (z.amax(1) >= low) & (z.amin(1) <= high)
    segments, z = segments[keep], z[keep]
    span = z[:, 1] - z[:, 0]
    span = torch.where(span.abs() < 1e-9, torch.full_like(span, 1e-9), span)
    t = torch.stack([((low - z[:, 0]) / span), ((high - z[:, 0]) / span)], -1).sort(-1).values.clamp(0.0, 1.0)
    flat = (z[:, 1] - z[:, 0]).abs() < 1e-9
    t = torch.where(flat[:, None], t.new_tensor([0.0, 1.0]), t)
    return segments[:, :1] + t[..., None] * (segments[:, 1:] - segments[:, :1])


def _rim(device) -> Tensor:
    x, y = FLOOR_CENTER
    a, b, c, d = x - FLOOR_HALF, x + FLOOR_HALF, y - FLOOR_HALF, y + FLOOR_HALF
    corners = torch.tensor([[a, c, 0.0], [a, d, 0.0], [b, d, 0.0], [b, c, 0.0]], device=device)
    return torch.stack([corners, corners.roll(-1, 0)], dim=1)


def camera_points(scene: BoxScene, points: Tensor) -> Tensor:
    """World points [..., 3] as (pixel x * depth, pixel y * depth, depth)."""
    return (points - scene.eye) @ torch.linalg.inv(scene.rays.cpu().double()).mT.to(points)


def _draw(scene: BoxScene, segments: Tensor, marked: Tensor) -> None:
    """Set the pixels of `marked` (with a border of 1) that segments [S, 2, 3] of the world run through."""
    seen = _clip(camera_points(scene, segments), segments.new_tensor([max(scene.near, 1e-4), 1e9]))
    if not len(seen):
        return
    pixels = seen[..., :2] / seen[..., 2:]
    # cut to the picture (with a margin), so that long lines do not cost more than what is seen of them
    t0, t1 = torch.zeros(len(pixels), device=pixels.device), torch.ones(len(pixels), device=pixels.device)
    for axis, size in ((0, scene.width), (1, scene.height)):
        p, d = pixels[:, 0, axis], pixels[:, 1, axis] - pixels[:, 0, axis]
        safe = torch.where(d.abs() < 1e-6, torch.full_like(d, 1e-6), d)
        a, b = (-1.0 - p) / safe, (size + 1.0 - p) / safe
        t0, t1 = torch.maximum(t0, torch.minimum(a, b)), torch.minimum(t1, torch.maximum(a, b))
    keep = t0 < t1
    pixels, t0, t1 = pixels[keep], t0[keep], t1[keep]
    if not len(pixels):
        return
    delta = pixels[:, 1] - pixels[:, 0]
    counts = (delta.abs().amax(-1) * (t1 - t0) / STEP).ceil().clamp(1, 4 * (scene.width + scene.height)).long() + 1
    row = torch.repeat_interleave(torch.arange(len(pixels), device=pixels.device), counts)
    first = torch.cumsum(counts, 0) - counts
    share = (torch.arange(len(row), device=pixels.device) - first[row]).float() / (counts[row] - 1).clamp_min(1)
    t = t0[row] + share * (t1 - t0)[row]
    at = (pixels[row, 0] + t[:, None] * delta[row]).floor().long()
    x, y = (at[:, 0] + 1).clamp(0, scene.width + 1), (at[:, 1] + 1).clamp(0, scene.height + 1)
    marked.view(-1)[y * (scene.width + 2) + x] = True


def box_windows(scene: BoxScene) -> list[tuple[float, float, float, float]]:
    """For each box the part of the picture it can touch: (left, top, right, bottom) in pixels."""
    corners = _inflated(scene)
    return [_window(scene, points) for points in corners]


def shadow_windows(scene: BoxScene) -> list[list[tuple[float, float, float, float]]]:
    """For each light and each box the part of the picture where its shadow on the floor can lie."""
    corners, found = _inflated(scene), []
    for light in scene.lights:
        row = []
        for points in corners:
            if not bool((points[:, 2] < light[2] * 0.999).all()):
                row.append(_EVERYWHERE)
            elif bool((points[:, 2] <= 0).all()):
                row.append((0.0, 0.0, 0.0, 0.0))
            else:
                row.append(_window(scene, light + (points - light) * (light[2] / (light[2] - points[:, 2:]))))
        found.append(row)
    return found


def _inflated(scene: BoxScene) -> Tensor:
    signs = torch.cartesian_prod(*[torch.tensor([-OUTSET, OUTSET])] * 3).to(scene.device)
    return torch.einsum("sc,nc,ndc->nsd", signs, scene.halves, scene.axes) + scene.centers[:, None]


def _window(scene: BoxScene, points: Tensor) -> tuple[float, float, float, float]:
    """The rectangle around the picture of a convex body with these corners, cut at the near plane."""
    seen = camera_points(scene, points)
    near = max(scene.near, 1e-4)
    pairs = torch.combinations(torch.arange(len(seen), device=seen.device))  # every edge is among these
    seen = _clip(seen[pairs], seen.new_tensor([near, 1e12])).reshape(-1, 3)
    if not len(seen):
        return (0.0, 0.0, 0.0, 0.0)
    pixels = seen[:, :2] / seen[:, 2:].clamp_min(near * 0.5)
    low, high = (pixels.amin(0) - 2.0).tolist(), (pixels.amax(0) + 2.0).tolist()
    return (low[0], low[1], high[0], high[1])
