"""Posed images of procedural objects: exact ray hits, Lambert shading under a sky and one lamp, antialiased."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scene.cameras import Cameras
from .objects import ProceduralObject

AMBIENT, SKY, LAMP = 0.50, 0.22, 0.42


def rays(cameras: Cameras, samples: int) -> tuple[Tensor, Tensor]:
    """Origins [V, 3] and directions [V, H*samples * W*samples, 3] (world frame, depth 1 along the camera's z)."""
    pose = cameras.camera_to_world
    y, x = torch.meshgrid(
        (torch.arange(cameras.height * samples) + 0.5) / samples,
        (torch.arange(cameras.width * samples) + 0.5) / samples,
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
    local = pixels @ torch.linalg.inv(cameras.intrinsics).transpose(-1, -2)
    return pose[:, :3, 3], local @ pose[:, :3, :3].transpose(-1, -2)


def first_hits(item: ProceduralObject, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Ray parameter (inf: a miss) and index of the primitive hit first (int16, -1: none), [V, N] each.

    origins [V, 3], directions [V, N, 3]: see `rays`.
    """
    views, count = directions.shape[:2]
    o = tuple(origins[:, k : k + 1] for k in range(3))
    d = tuple(directions[..., k].contiguous() for k in range(3))
    depth = torch.full((views, count), math.inf)
    winner = torch.full((views, count), -1, dtype=torch.int16)
    for index, primitive in enumerate(item.primitives):
        t = primitive.intersect(o, d)
        closer = t < depth
        depth = torch.where(closer, t, depth)
        winner.masked_fill_(closer, index)
    return depth, winner


def render_views(
    item: ProceduralObject,
    cameras: Cameras,
    *,
    samples: int = 2,
    lamp_azimuth: float = 30.0,
    lamp_elevation: float = 55.0,
) -> Tensor:
    """Render an object from posed cameras; returns RGBA [V, H, W, 4] float32 in [0, 1], straight (not premultiplied).

    ``cameras`` are OpenCV cameras of the object's frame (Z up). Each pixel averages ``samples`` x ``samples`` rays.
    The lamp's direction is given in degrees in the same frame. Shading is Lambertian, so views agree with each other.
    """
    origins, directions = rays(cameras, samples)
    depth, winner = first_hits(item, origins, directions)
    size = (cameras.height, cameras.width, samples)
    return shade(item, origins, directions, depth, winner, size, lamp_azimuth, lamp_elevation)


def shade(
    item: ProceduralObject,
    origins: Tensor,
    directions: Tensor,
    depth: Tensor,
    winner: Tensor,
    size: tuple[int, int, int],
    lamp_azimuth: float = 30.0,
    lamp_elevation: float = 55.0,
) -> Tensor:
    """The second half of `render_views`: colors of known hits (see `first_hits`); size: height, width, samples."""
    height, width, samples = size
    views, count = directions.shape[:2]
    azimuth, elevation = math.radians(lamp_azimuth), math.radians(lamp_elevation)
    lamp = torch.tensor(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    color = torch.zeros(views * count, 3)
    flat_depth, flat_winner = depth.flatten(), winner.flatten()
    hit = torch.nonzero(flat_winner >= 0).squeeze(1)
    owner = flat_winner[hit]
    points = origins[hit // count] + directions.reshape(-1, 3)[hit] * flat_depth[hit, None]
    for index, primitive in enumerate(item.primitives):
        mine = torch.nonzero(owner == index).squeeze(1)
        if mine.numel():
            normal = primitive.normals(points[mine])
            light = AMBIENT + SKY * (0.5 + 0.5 * normal[:, 2]) + LAMP * (normal @ lamp).clamp_min(0)
            color[hit[mine]] = light[:, None] * torch.tensor(primitive.material.color)
    color = color.clamp_(0, 1).view(views, height, samples, width, samples, 3).mean((2, 4))
    alpha = (winner >= 0).float().view(views, height, samples, width, samples).mean((2, 4))
    color = color / alpha.clamp_min(1e-6)[..., None]
    return torch.cat([color.clamp(0, 1), alpha[..., None]], -1)


def composite(rgba: Tensor, background: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Straight RGBA [..., H, W, 4] over one background color; returns RGB [..., H, W, 3]."""
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + torch.tensor(background).to(rgba) * (1 - alpha)
