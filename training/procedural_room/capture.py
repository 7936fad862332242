"""Views of a procedural room as photos, and the COLMAP model a reconstruction would have found.

Cameras stand at eye height in the free middle of the room and look around. The points are first hits of random rays of
these cameras, with the noise and the tracks of a real model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...scene.cameras import Cameras, look_at
from ...scene.colmap import ColmapCamera, ColmapImage, ColmapModel, ColmapPoints, encode_colmap
from ...scene.errors import InputError
from ...scene.files import Outputs
from ...scene.frames import colmap_qt
from ...scene.images import encode_png
from ..procedural.render import rays
from .room import FREE, Room

AMBIENT, LIGHT = 0.55, 0.5


@dataclass(frozen=True, eq=False)
class RoomCapture:
    """pictures [V, 3, H, W] in [0, 1]; depth [V, H, W] along the view axis; cameras (world of the room); points."""

    pictures: Tensor
    depth: Tensor
    cameras: Cameras
    points: ColmapPoints


def room_cameras(
    room: Room, views: int, width: int, height: int, fov: float = 75.0, seed: int = 0,
    aim: tuple[float, float] = (0.1, 2.3),
) -> Cameras:  # fmt: skip
    """Cameras that stand around the middle of a room and look outwards and a little down, one turn in all.

    aim: lowest and highest point they look at, 3 m away.
    """
    if views < 1:
        raise InputError(f"{views} views were asked for; at least 1 is needed.")
    rng = np.random.default_rng([0xCA3, room.seed, seed])
    eyes, targets = [], []
    reach = FREE * min(room.size[:2])
    for i in range(views):
        angle = 2 * math.pi * (i + rng.uniform(-0.2, 0.2)) / views
        away = angle + math.pi * rng.uniform(0.7, 1.3)
        eye = np.array([reach * math.cos(away), reach * math.sin(away), rng.uniform(1.35, 1.65)])
        point = np.array([3 * math.cos(angle), 3 * math.sin(angle), rng.uniform(*aim)])
        eyes.append(eye)
        targets.append(point)
    return look_at(torch.tensor(np.array(eyes)), torch.tensor(np.array(targets)), fov, width, height)


def shade_room(room: Room, points: Tensor, normal: Tensor, color: Tensor) -> Tensor:
    """Lit colors [N, 3] of points [N, 3] with unit normals and base colors [N, 3]: one lamp near the ceiling."""
    lamp = torch.tensor([0.3 * room.size[0], -0.2 * room.size[1], room.size[2] - 0.3])
    toward = lamp - points
    distance = toward.norm(dim=1, keepdim=True)
    falling = ((normal * toward).sum(1, keepdim=True) / distance).abs() / (1 + 0.15 * distance.square())
    return (color * (AMBIENT + 0.12 * normal[:, 2:] + LIGHT * falling)).clamp(0, 1)


def render_room(room: Room, cameras: Cameras, samples: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures [V, 3, H, W] in [0, 1] and depth [V, H, W]; samples: rays per pixel and direction."""
    pictures, depths = [], []
    for camera in cameras:
        origins, directions = rays(camera, samples)
        t, owner = room.hits(origins, directions)
        hit = owner[0] >= 0
        color = torch.zeros(directions.shape[1], 3)
        points = origins[0] + directions[0, hit] * t[0, hit, None]
        owners = owner[0, hit].long()
        color[hit] = shade_room(room, points, room.normals(points, owners), room.colors(points, owners))
        h, w = camera.height, camera.width
        picture = color.view(h, samples, w, samples, 3).mean((1, 3))
        pictures.append(picture.permute(2, 0, 1))
        depths.append(t[0].view(h, samples, w, samples).amin((1, 3)))
    return torch.stack(pictures), torch.stack(depths)


def room_points(room: Room, cameras: Cameras, count: int, noise: float = 0.004, seed: int = 0) -> ColmapPoints:
    """Points of the surfaces that the cameras see, with `noise` meters of error and a few outliers."""
    rng = np.random.default_rng([0x907, room.seed, seed])
    per_view, found = -(-count // len(cameras)), []
    for camera in cameras:
        pixels = torch.tensor(rng.uniform(0, 1, (per_view, 2)) * [camera.width, camera.height], dtype=torch.float32)
        far = camera.unproject(pixels[None], torch.ones(1, per_view))[0]
        origin = camera.centers
        t, owner = room.hits(origin, (far - origin)[None])
        hit = owner[0] >= 0
        place = origin + (far - origin)[hit] * t[0, hit, None]
        found.append((place, room.colors(place, owner[0, hit].long())))
    xyz = torch.cat([f[0] for f in found]).double().numpy()[:count]
    rgb = (torch.cat([f[1] for f in found]).numpy()[:count] * 255).astype(np.uint8)
    xyz = xyz + rng.normal(0, noise, xyz.shape)
    wild = rng.random(len(xyz)) < 0.004
    xyz[wild] += rng.normal(0, 1.0, (int(wild.sum()), 3))
    error = np.where(wild, rng.uniform(1, 4, len(xyz)), rng.uniform(0.1, 1.2, len(xyz)))
    return ColmapPoints(xyz, rgb, error, rng.integers(2, 9, len(xyz)))


def room_capture(
    room: Room, views: int = 16, size: tuple[int, int] = (320, 240), points: int = 20000, samples: int = 1,
    aim: tuple[float, float] = (0.1, 2.3),
) -> RoomCapture:  # fmt: skip
    """Photos (width x height pixels) and points of a room; aim: see `room_cameras`."""
    cameras = room_cameras(room, views, *size, aim=aim)
    pictures, depth = render_room(room, cameras, samples)
    return RoomCapture(pictures, depth, cameras, room_points(room, cameras, points))


def write_room(
    room: Room, folder: str | Path, capture: RoomCapture, *, world: np.ndarray | None = None, binary: bool = False,
    overwrite: bool = False,
) -> Path:  # fmt: skip
    """A capture as a COLMAP folder: sparse/0 and images; world [4, 4]: room -> the model's own world, as COLMAP would
    leave it (a rotation, a scale, a shift)."""
    folder = Path(folder)
    world = np.eye(4) if world is None else np.asarray(world, dtype=np.float64)
    scale = float(np.cbrt(np.linalg.det(world[:3, :3])))
    cameras, k = capture.cameras, capture.cameras.intrinsics[0].double()
    lens = ColmapCamera(
        "PINHOLE", cameras.width, cameras.height, tuple(float(k[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    )
    poses = cameras.world_to_camera.double().numpy() @ np.linalg.inv(world)
    poses[:, :3] *= scale
    moved = Cameras(torch.from_numpy(poses), cameras.intrinsics, cameras.width, cameras.height)
    rotation, translation = colmap_qt(moved)
    images = [
        ColmapImage(i + 1, tuple(rotation[i].tolist()), tuple(translation[i].tolist()), 1, f"view_{i:03d}.png")
        for i in range(len(cameras))
    ]
    points = capture.points
    turned = ColmapPoints(points.xyz @ world[:3, :3].T + world[:3, 3], points.rgb, points.error, points.track)
    (folder / "sparse" / "0").mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    with Outputs(overwrite) as outputs:
        for name, data in encode_colmap(ColmapModel({1: lens}, images, turned), binary).items():
            outputs.file(folder / "sparse" / "0" / name).write(data)
        for image, picture in zip(images, capture.pictures):
            outputs.file(folder / "images" / image.name).write(encode_png(picture))
    return folder
