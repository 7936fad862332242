"""Rooms that no stage has seen, reconstructed from drawn photos and compared with the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def load_weights(weights: str | None):
    """The embedded scene family, or one in a folder."""
    from ..models.genrecon.family import DECODERS_FOLDER, embedded_scene_family, load_scene_family

    if weights in (None, "tiny"):
        return embedded_scene_family()
    return load_scene_family(weights, search=[DECODERS_FOLDER.parent])


def reconstruct_room(family, room, views: int = 16, seed: int = 42, changes: dict | None = None):
    """The scene a family makes of drawn photos of a room, in the room's own world; through files, as a user would."""
    import torch

    from ..models.genrecon.scene_files import world_scene
    from ..pipelines.genrecon import PlanOptions, SampleOptions, decode_latents, plan_scene, sample_scene
    from ..scene.captures import FILTERS, read_capture
    from ..training.genrecon.data import AIM
    from ..training.procedural_room import room_capture, write_room

    with tempfile.TemporaryDirectory() as folder:
        write_room(room, folder, room_capture(room, views, aim=AIM))
        scene = read_capture(Path(folder), "colmap")
        plan = plan_scene(scene, PlanOptions(seed=seed, points=FILTERS["colmap"]))
        latents = sample_scene(family, plan, SampleOptions(seed, changes or {}))
    mesh = decode_latents(family, latents)
    return world_scene(mesh, latents.joint_to_world, torch.from_numpy(latents.layout.centers), latents.layout.names)


def score(scene, room, samples: int = 100_000) -> dict[str, float]:
    """Scores of a scene against a room's whole inner surface, the error of its base colors where both agree, and the
    recall of the furniture alone: of what lies more than 10 cm off walls, floor and ceiling, which an empty room of the
    right size would have none of."""
    import numpy as np
    from scipy.spatial import cKDTree

    from ..kernels.scene_metrics import THRESHOLD, sample_mesh, scene_scores
    from ..training.genrecon.truth import true_surface

    vertices, faces, colors = true_surface(room)
    made = sample_mesh(scene.vertices.numpy(), scene.faces.numpy(), samples)
    true = sample_mesh(vertices.numpy(), faces.numpy(), samples)
    found = scene_scores(made, true)
    sides = np.array(room.size[:2]) / 2 - np.abs(true[0][:, :2])
    heights = np.minimum(true[0][:, 2], room.size[2] - true[0][:, 2])
    inside = true[0][np.minimum(sides.min(1), heights) > THRESHOLD]
    furniture = float((cKDTree(made[0]).query(inside)[0] < THRESHOLD).mean()) if len(inside) else 1.0
    distance, near = cKDTree(scene.vertices.numpy()).query(vertices.numpy())
    there = distance < 0.1
    values = scene.sample(scene.vertices)[:, :3].clamp(0, 1).numpy()
    error = values[near[there]] - colors.numpy()[there]
    return {
        "chamfer": found.chamfer, "precision": found.precision, "recall": found.recall, "f": found.f_arithmetic,
        "f_harmonic": found.f_harmonic, "normals": found.normals, "furniture": furniture,
        "color": float(np.sqrt((error**2).mean())),
    }  # fmt: skip


def measure_rooms(weights: str | None, count: int, bar: Callable[[int, int], None]) -> Iterator[dict[str, Any]]:
    """Scores of the first `count` test rooms with the seconds each took, and last their means."""
    import time

    from ..training.genrecon.data import SPLITS
    from ..training.procedural_room import make_plain_room

    family, rows = load_weights(weights), []
    for i in range(count):
        room = make_plain_room(SPLITS["test"] + i)
        begin = time.perf_counter()
        scene = reconstruct_room(family, room)
        seconds = time.perf_counter() - begin
        bar(i + 1, count)
        scores = {k: round(v, 4) for k, v in score(scene, room).items()}
        rows.append({"seed": room.seed} | scores | {"seconds": round(seconds, 1)})
        yield rows[-1]
    yield summary(rows)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The means, and their standard errors, of the rows of `measure_rooms`."""
    import numpy as np

    out: dict[str, Any] = {"rooms": len(rows)}
    for name in rows[0]:
        if name != "seed":
            values = np.array([row[name] for row in rows])
            out[name] = [round(float(values.mean()), 4), round(float(values.std() / max(1, len(values)) ** 0.5), 4)]
    return out


def room_row(family, seed: int, side: int = 240):
    """A strip [H, W, 3] uint8: four photos of a test room, then truth and result from two sides, ceilings off."""
    import numpy as np

    from ..training.genrecon.data import AIM
    from ..training.genrecon.truth import doll_house, true_surface
    from ..training.procedural_room import make_plain_room, room_capture

    room = make_plain_room(seed)
    capture = room_capture(room, 16, (side // 2, side // 2), 100, aim=AIM)
    pictures = (capture.pictures[::4].permute(0, 2, 3, 1) * 255).byte().numpy()
    photos = np.concatenate([np.concatenate(list(pictures[:2]), 1), np.concatenate(list(pictures[2:]), 1)], 0)
    scene = reconstruct_room(family, room)
    made = scene.vertices, scene.faces, scene.sample(scene.vertices)[:, :3].clamp(0, 1)
    true = true_surface(room)
    size = side * 4 // 3, side
    views = [doll_house(*mesh, room.size, azimuth, size) for azimuth in (35, 215) for mesh in (true, made)]
    return np.concatenate([photos, *views], 1)


def draw_rooms(path: str, weights: str | None, count: int, bar: Callable[[int, int], None]) -> Path:
    """Write rooms.jpg: the first `count` test rooms, none left out."""
    import numpy as np
    from PIL import Image

    from ..training.genrecon.data import SPLITS

    family, rows = load_weights(weights), []
    for i in range(count):
        rows.append(room_row(family, SPLITS["test"] + i))
        bar(i + 1, count)
    target = Path(path) / "rooms.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, 0)).save(target, quality=80, optimize=True)
    return target
