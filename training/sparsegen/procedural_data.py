"""Posed views of procedural objects as training data: drawn once into shards, deterministic by object index.

Object ``i`` is of kind ``SLOTS[i % len(SLOTS)]`` with seed ``i``; every object brings its own view angles and lamp.
Training uses indices from 0, evaluation from ``HELD_OUT_START``, so no evaluated object was ever seen.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...scene.cameras import orbit
from ...scene.errors import InputError
from ..procedural import KINDS, make_object, render_views

RADIUS, FOV = 1.3, 51.98948897809546
HELD_OUT_START = 1_000_000
MAX_ELEVATION, MAX_FIRST_ELEVATION = 45.0, 40.0
# Cars three times as often as any other kind.
SLOTS = tuple(["car", "car"] + list(KINDS))


@dataclass
class ViewShard:
    """Views of n objects: ``rgba`` uint8 [n, V, S, S, 4], ``azimuth`` and ``elevation`` float32 [n, V] in degrees."""

    rgba: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    kinds: list[str]
    indices: list[int]


def draw_views(index: int, views: int, size: int, kind: str | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw object ``index`` from ``views`` random angles: RGBA uint8 [V, S, S, 4], azimuth [V], elevation [V].

    Azimuths are uniform, elevations uniform in 0..45 degrees; the lamp stands at a random azimuth.
    """
    kind = kind or SLOTS[index % len(SLOTS)]
    rng = np.random.default_rng([97, index])
    azimuth = rng.uniform(0, 360, views).astype(np.float32)
    elevation = rng.uniform(0, MAX_ELEVATION, views).astype(np.float32)
    elevation[0] = rng.uniform(0, MAX_FIRST_ELEVATION)  # at least one view can be the first one
    cameras = orbit(azimuth.tolist(), elevation.tolist(), RADIUS, FOV, size, size)
    rgba = render_views(
        make_object(kind, index),
        cameras,
        samples=2,
        lamp_azimuth=float(rng.uniform(0, 360)),
        lamp_elevation=float(rng.uniform(50, 70)),
    )
    return (rgba * 255).round().byte().numpy(), azimuth, elevation


def write_shard(path: Path, indices: list[int], views: int, size: int, kinds: list[str] | None = None) -> None:
    """Draw the objects of one shard and write them to ``path`` (.npz); a finished shard is left alone."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = kinds or [SLOTS[i % len(SLOTS)] for i in indices]
    drawn = [draw_views(i, views, size, kind) for i, kind in zip(indices, kinds)]
    rgba, azimuth, elevation = (np.stack(part) for part in zip(*drawn))
    partial = path.with_suffix(f".{os.getpid()}.part")
    with open(partial, "wb") as stream:
        meta = json.dumps({"kinds": kinds, "indices": list(indices)})
        np.savez(stream, rgba=rgba, azimuth=azimuth, elevation=elevation, meta=np.array(meta))
    os.replace(partial, path)


def read_shards(folder: Path | str, prefix: str = "train") -> ViewShard:
    """Read and join every shard ``prefix-*.npz`` of a folder. Raises InputError when there is none."""
    files = sorted(Path(folder).glob(f"{prefix}-*.npz"))
    if not files:
        raise InputError(f"`folder` {folder} holds no {prefix}-*.npz; draw the views first (--prepare).")
    parts = []
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            parts.append(ViewShard(data["rgba"], data["azimuth"], data["elevation"], meta["kinds"], meta["indices"]))
    return ViewShard(
        np.concatenate([p.rgba for p in parts]),
        np.concatenate([p.azimuth for p in parts]),
        np.concatenate([p.elevation for p in parts]),
        [k for p in parts for k in p.kinds],
        [i for p in parts for i in p.indices],
    )


def held_out_indices(count: int, kinds: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Indices and kinds of ``count`` evaluation objects, the kinds taking turns."""
    return [HELD_OUT_START + k for k in range(count)], [kinds[k % len(kinds)] for k in range(count)]


@dataclass
class ViewBatch:
    """One training batch, clean views first; the first clean view of every sample stands at azimuth 0.

    ``images`` [B, V, 3, S, S] in [0, 1] on white, ``alpha`` [B, V, 1, S, S], angles [B, V] in degrees.
    """

    images: Tensor
    alpha: Tensor
    azimuth: Tensor
    elevation: Tensor

    def world_to_camera(self) -> Tensor:
        """OpenCV extrinsics [B, V, 4, 4] of the views, world turned so that view 0 stands at azimuth 0."""
        azimuth, elevation = self.azimuth.flatten().tolist(), self.elevation.flatten().tolist()
        side = self.images.shape[-1]
        return orbit(azimuth, elevation, RADIUS, FOV, side, side).world_to_camera.unflatten(0, self.azimuth.shape)


def sample_batch(shard: ViewShard, rng: np.random.Generator, size: int, views: int) -> ViewBatch:
    """Draw ``size`` samples of ``views`` different views each; the first view is at most 40 degrees up."""
    total, available = shard.azimuth.shape
    rgba, azimuth, elevation = [], [], []
    for _ in range(size):
        k = int(rng.integers(total))
        order = rng.permutation(available)
        first = int(np.argmax(shard.elevation[k, order] <= MAX_FIRST_ELEVATION))
        order[[0, first]] = order[[first, 0]]
        order = order[:views]
        rgba.append(shard.rgba[k, order])
        azimuth.append(shard.azimuth[k, order] - shard.azimuth[k, order[0]])
        elevation.append(shard.elevation[k, order])
    return to_batch(np.stack(rgba), np.stack(azimuth), np.stack(elevation))


def to_batch(rgba: np.ndarray, azimuth: np.ndarray, elevation: np.ndarray) -> ViewBatch:
    """Arrays [B, V, S, S, 4], [B, V], [B, V] as a batch on white."""
    pixels = torch.from_numpy(np.ascontiguousarray(rgba)).float().div_(255).permute(0, 1, 4, 2, 3)
    alpha = pixels[:, :, 3:]
    return ViewBatch(
        pixels[:, :, :3] * alpha + (1 - alpha),
        alpha.contiguous(),
        torch.from_numpy(azimuth).float(),
        torch.from_numpy(elevation).float(),
    )


def prepare(folder: Path | str, objects: int, views: int, size: int, held_out: int = 65, shard: int = 250, part=(0, 1)):
    """Draw all shards into ``folder``: ``objects`` for training, ``held_out`` of known kinds, a few of unseen kinds.

    ``part`` = (k, n) does every n-th shard from the k-th, for several processes side by side; finished shards are kept.
    Yields the number of finished shards and their total, for progress.
    """
    from ..procedural import HELD_OUT_KINDS

    folder = Path(folder)
    jobs = [(folder / f"heldout-{size}-0.npz", *held_out_indices(held_out, KINDS))]
    unseen = [HELD_OUT_START + 10_000 + k for k in range(max(8, held_out // 4))]
    jobs.append(
        (folder / f"unseen-{size}-0.npz", unseen, [HELD_OUT_KINDS[k % len(HELD_OUT_KINDS)] for k in range(len(unseen))])
    )
    for start in range(0, objects, shard):
        indices = list(range(start, min(objects, start + shard)))
        jobs.append((folder / f"train-{size}-{start:06d}.npz", indices, [SLOTS[i % len(SLOTS)] for i in indices]))
    for done, (path, indices, kinds) in enumerate(jobs):
        if done % part[1] == part[0]:
            write_shard(path, indices, views, size, kinds)
        yield done + 1, len(jobs)
