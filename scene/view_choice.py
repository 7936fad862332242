"""Which photos a scene is reconstructed from, how they are cropped to squares, and which one each chunk looks at.

Source: GenRecon, specification 9. Extrinsics: joint frame (that of chunk 0, in chunk sizes) -> camera in OpenCV axes;
depths come out in world units. Intrinsics have the picture's width and height as units.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .chunk_layout import ChunkLayout
from .errors import InputError
from .lens_distortion import Lens
from .scene_photos import BLENDER, ScenePhotos

LEAST_AREA = 0.4
CROPS = ("center", "two")


@dataclass(frozen=True)
class Crop:
    """A square part of photo `photo`: left, top, size in pixels of the undistorted picture; intrinsics of the crop."""

    photo: int
    left: int
    top: int
    size: int
    intrinsics: np.ndarray


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """What is seen: N square views of the whole scene, and for every chunk the view whose tokens condition it.

    crops: N; extrinsics: [N, 4, 4] float32 joint frame -> camera; intrinsics: [N, 3, 3] float32; chunk_views: K indices
    into the N views; unseen: photos that see no chunk.
    """

    crops: tuple[Crop, ...]
    extrinsics: np.ndarray
    intrinsics: np.ndarray
    chunk_views: tuple[int, ...]
    unseen: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.crops)


def joint_extrinsics(poses: np.ndarray, world_to_joint: np.ndarray) -> np.ndarray:
    """[N, 4, 4] float32: joint frame -> camera (OpenCV axes), depth in world units.

    poses: [N, 4, 4] camera (Blender axes) -> world; world_to_joint: [4, 4], `ChunkLayout.world_to_chunk[0]`.
    """
    return (BLENDER @ np.linalg.inv(world_to_joint @ poses)).astype(np.float32)


def sees(poses: np.ndarray, intrinsics: np.ndarray, world_to_chunk: np.ndarray) -> np.ndarray:
    """[N, K] bool: whether each camera's picture shows enough of each chunk.

    The corners and the center of the cube are projected, those in front of the camera; the box around them, cut at the
    picture, must cover 0.4 of it.
    """
    corners = np.array([[x, y, z, 1.0] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    points = np.concatenate([corners, [[0.0, 0.0, 0.0, 1.0]]])
    seen = np.zeros((len(poses), len(world_to_chunk)), dtype=bool)
    to_world = np.linalg.inv(world_to_chunk)
    world = np.einsum("kij,pj->kpi", to_world, points)
    for n, (pose, k) in enumerate(zip(poses, intrinsics)):
        camera = np.einsum("ij,kpj->kpi", BLENDER @ np.linalg.inv(pose), world)[..., :3]
        front = camera[..., 2] > 0
        depth = np.where(front, camera[..., 2], 1.0)[..., None]
        uv = np.clip((camera / depth) @ k[:2].T, 0, 1)
        low = np.where(front[..., None], uv, np.inf).min(1)
        high = np.where(front[..., None], uv, -np.inf).max(1)
        seen[n] = front.any(1) & (np.prod(np.where(front.any(1)[:, None], high - low, 0.0), -1) >= LEAST_AREA)
    return seen


def choose_photos(seen: np.ndarray, count: int) -> list[int]:
    """Indices of at most `count` photos that see something, in their order, evenly spread; all of them if none does."""
    if count < 1:
        raise InputError(f"{count} photos were asked for; at least 1 is needed.")
    pool = np.flatnonzero(seen.any(1)).tolist() or list(range(len(seen)))
    if len(pool) <= count:
        return pool
    return [pool[i] for i in np.round(np.linspace(0, len(pool) - 1, count)).astype(int)]


def square_crops(lens: Lens, photo: int, mode: str) -> list[Crop]:
    """The squares of a photo with a pinhole lens: one around the principal point ("center"), or one at each end of the
    longer side ("two"); a square photo stays whole."""
    w, h = lens.width, lens.height
    (fx, fy), (cx, cy) = lens.focal, lens.center
    if mode not in CROPS:
        raise InputError(f"The crop {mode!r} is unknown; choose one of {', '.join(CROPS)}.")
    if w == h:
        places = [(0, 0, w)]
    elif mode == "center":
        half = min(cx, w - cx, cy, h - cy)
        size = int(2 * half)
        if size < 2:
            raise InputError(
                f"Photo {photo} has its principal point at ({cx:.1f}, {cy:.1f}), on the border of {w}x{h}."
            )
        left = min(max(round(cx - size / 2), 0), w - size)
        top = min(max(round(cy - size / 2), 0), h - size)
        places = [(left, top, size)]
    else:
        size = min(w, h)
        places = [(0, 0, size), (w - size, h - size, size)]
    crops = []
    for left, top, size in places:
        k = np.array([[fx / size, 0, (cx - left) / size], [0, fy / size, (cy - top) / size], [0, 0, 1]])
        crops.append(Crop(photo, left, top, size, k))
    return crops


def plan_views(
    scene: ScenePhotos, layout: ChunkLayout, count: int = 32, crop: str = "center", seed: int = 42
) -> ViewPlan:
    """The views of a scene and of every chunk.

    count: at most so many photos. seed: of the one random order in which all chunks look for their view: the first one
    that sees the chunk, else the one whose camera is nearest to the chunk's center.
    """
    poses, intrinsics = scene.poses, scene.intrinsics
    visible = sees(poses, intrinsics, layout.world_to_chunk)
    chosen = choose_photos(visible, count)
    crops = [c for i in chosen for c in square_crops(scene.photos[i].straight, i, crop)]
    views = np.stack([poses[c.photo] for c in crops])
    lenses = np.stack([c.intrinsics for c in crops])
    seen = sees(views, lenses, layout.world_to_chunk)
    order, chunk_views = random.Random(seed), []
    for k, matrix in enumerate(layout.world_to_chunk):
        pool = list(range(len(crops)))
        order.shuffle(pool)
        found = next((i for i in pool if seen[i, k]), None)
        if found is None:
            centers = (views[:, :3, 3] @ matrix[:3, :3].T) + matrix[:3, 3]
            found = int(np.linalg.norm(centers, axis=1).argmin())
        chunk_views.append(found)
    unseen = tuple(np.flatnonzero(~visible.any(1)).tolist())
    extrinsics = joint_extrinsics(views, layout.world_to_chunk[0])
    return ViewPlan(tuple(crops), extrinsics, lenses.astype(np.float32), tuple(chunk_views), unseen)


def view_pictures(scene: ScenePhotos, plan: ViewPlan, size: int) -> Iterator[Tensor]:
    """The views as [3, size, size] float32 in [0, 1], one by one; a photo is read once for all its crops.

    Resized with Pillow's Lanczos filter; where a photo has alpha, it is multiplied in (bilinear).
    """
    from PIL import Image

    last, picture = None, None
    for crop in plan.crops:
        if crop.photo != last:
            last, picture = crop.photo, scene.photos[crop.photo].read()
        part = picture[crop.top : crop.top + crop.size, crop.left : crop.left + crop.size]
        rgb = Image.fromarray(np.ascontiguousarray(part[..., :3])).resize((size, size), Image.Resampling.LANCZOS)
        view = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).float() / 255
        if part.shape[2] == 4:
            alpha = torch.from_numpy(part[..., 3].copy()).float()[None, None] / 255
            alpha = torch.nn.functional.interpolate(alpha, (size, size), mode="bilinear", align_corners=False)
            view = view * alpha[0]
        yield view


def cameras_json(scene: ScenePhotos, plan: ViewPlan, layout: ChunkLayout) -> str:
    """The text of cameras.json: the views of the scene and the view of every chunk."""

    def one(i: int) -> dict:
        return {
            "img_path": scene.photos[plan.crops[i].photo].name,
            "extrinsics_c0": plan.extrinsics[i].tolist(),
            "intrinsics": plan.intrinsics[i].tolist(),
        }

    views = [one(i) for i in range(len(plan))]
    chunks = [{"chunk_index": k, "cond2d_view": one(plan.chunk_views[k])} for k in range(len(layout))]
    return json.dumps({"scene": views, "chunks": chunks}, indent=1)
