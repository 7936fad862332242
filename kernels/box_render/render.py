"""The control picture in tiles: one sample where it is smooth, many where it has edges, only what a tile can meet.

`render_dense` is the definition: every pixel the mean of the same many samples, every box and shadow in every ray.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from .agx import agx, coefficients
from .filter import offsets
from .outlines import box_windows, mark, shadow_windows
from .scene import BoxScene
from .trace import radiance

TILE = 128
CPU_RAYS, GPU_RAYS = 1 << 14, 1 << 21
SAMPLES = 4  # per side of a pixel
_STARTING = threading.Lock()

Progress = Callable[[int, int], None]


def render_linear(scene: BoxScene, samples: int = SAMPLES, progress: Progress | None = None) -> Tensor:
    """The control picture in scene-linear Rec.709, [H, W, 3] float32, on the scene's device.

    samples: per side of a pixel, where there are edges. progress(done, total) counts tiles and may raise to stop.
    """
    picture = torch.empty(scene.height, scene.width, 3, device=scene.device)
    edges = mark(scene)
    boxes, shadows = box_windows(scene), shadow_windows(scene)
    # a shadow takes one light of several away: fewer samples do
    around = [(2, offsets(samples).to(scene.device)), (1, offsets((samples + 1) // 2).to(scene.device))]
    tile, limit = _tile(scene)
    corners = [(y, x) for y in range(0, scene.height, tile) for x in range(0, scene.width, tile)]

    def draw(corner: tuple[int, int]) -> None:
        top, left = corner
        bottom, right = min(top + tile, scene.height), min(left + tile, scene.width)
        window = (left, top, right, bottom)
        near = torch.tensor([b for b, w in enumerate(boxes) if _meet(w, window)], dtype=torch.long, device=scene.device)
        pairs = [(i, b) for i, row in enumerate(shadows) for b, w in enumerate(row) if _meet(w, window)]
        y, x = torch.meshgrid(
            torch.arange(top, bottom, device=scene.device),
            torch.arange(left, right, device=scene.device),
            indexing="ij",
        )
        centers = torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5
        level_of = edges[top:bottom, left:right].reshape(-1)
        color = centers.new_empty(len(centers), 3)
        plain = (level_of == 0).nonzero()[:, 0] if samples > 1 else torch.arange(len(centers), device=scene.device)
        color[plain] = _trace(scene, centers[plain], near, pairs, limit)
        for level, shifts in around if samples > 1 else ():
            sharp = (level_of == level).nonzero()[:, 0]
            if len(sharp):
                points = (centers[sharp, None] + shifts).reshape(-1, 2)
                color[sharp] = _trace(scene, points, near, pairs, limit).view(len(sharp), -1, 3).mean(1)
        picture[top:bottom, left:right] = color.view(bottom - top, right - left, 3)

    inference = torch.is_inference_mode_enabled()

    def in_mode(corner: tuple[int, int]) -> None:
        with torch.inference_mode(inference):  # threads do not inherit it, and `picture` belongs to the caller's mode
            draw(corner)

    # tiles are independent, and torch lets other threads run while it computes
    workers = min(torch.get_num_threads(), len(corners)) if scene.device.type == "cpu" else 1
    with _lone_threads(workers) as pool:
        try:
            for done, _ in enumerate(pool.map(in_mode, corners)):
                if progress is not None:
                    progress(done + 1, len(corners))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return picture


def _lone_threads(count: int) -> ThreadPoolExecutor:
    """Threads each of whose torch operations stays in it; with as many of them as cores, more only get in the way.

    torch counts threads per thread, but its setter also sets what new threads begin with: that is put back at once.
    """
    if count == 1:
        return ThreadPoolExecutor(1)
    started = threading.Barrier(count + 1, timeout=60.0)

    def alone() -> None:
        torch.get_num_threads()  # takes over the common number, once; after that the thread keeps its own
        torch.set_num_threads(1)
        started.wait()

    with _STARTING:
        common = torch.get_num_threads()
        pool = ThreadPoolExecutor(count, initializer=alone)
        for _ in range(count):
            pool.submit(int)
        started.wait()
        torch.set_num_threads(common)
    return pool


def render_dense(scene: BoxScene, samples: int = SAMPLES) -> Tensor:
    """The definition of `render_linear`: every sample of every pixel, against everything; [H, W, 3] float32."""
    everything = torch.arange(len(scene.centers), device=scene.device)
    pairs = [(i, b) for i in range(len(scene.lights)) for b in range(len(scene.centers))]
    y, x = torch.meshgrid(
        torch.arange(scene.height, device=scene.device), torch.arange(scene.width, device=scene.device), indexing="ij"
    )
    centers = torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5
    around = offsets(samples).to(scene.device)
    rows = [
        _trace(scene, (part[:, None] + around).reshape(-1, 2), everything, pairs, CPU_RAYS)
        .view(len(part), -1, 3)
        .mean(1)
        for part in centers.split(4096)
    ]
    return torch.cat(rows).view(scene.height, scene.width, 3)


def display(linear: Tensor) -> Tensor:
    """Scene-linear [..., 3] to what Blender's picture shows, 0 to 1: AgX, and the half level its dither adds."""
    if linear.ndim == 3:  # in strips, which stay in the cache
        return torch.cat([display(part[None])[0] for part in linear.split(8)])
    return (agx(linear) + coefficients()["bias"]).clamp_(0.0, 1.0)


def _tile(scene: BoxScene) -> tuple[int, int]:
    if scene.device.type == "cpu":
        return TILE, CPU_RAYS
    return max(scene.width, scene.height), max(GPU_RAYS // max(len(scene.centers), 1), 1 << 14)


def _meet(a: tuple[float, float, float, float], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _trace(scene: BoxScene, pixels: Tensor, boxes: Tensor, pairs, limit: int) -> Tensor:
    """Radiance [R, 3] at pixel positions [R, 2]."""
    found = [pixels.new_empty(0, 3)]
    for part in pixels.split(limit) if len(pixels) else ():
        directions = part @ scene.rays[:, :2].mT + scene.rays[:, 2]
        found.append(radiance(scene, directions, boxes, pairs))
    return torch.cat(found)
