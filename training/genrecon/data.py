"""Drawn rooms: posed views, what every patch of them sees, and the latents of the room's cells; kept as shards.

Everything follows from a room's seed; a folder of shards only saves the time to draw it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...scene.chunk_layout import ChunkLayout, RoomBox, place_chunks
from ...scene.errors import InputError
from ..cascade.derived import STEP
from ..procedural.render import rays
from ..procedural.volumes import material_table
from ..procedural_room import Room, make_plain_room
from ..procedural_room.capture import room_cameras, shade_room
from .volumes import CELLS, Codes, Lattice, cell_latents, room_volume

IMAGE, PATCH, VIEWS, SAMPLES = 96, 4, 16, 2
FOV = (55.0, 66.0)
AIM = (-0.4, 1.9)
BESIDE = 0.05  # meters; what lies so close to wall, floor or ceiling counts as part of it
DENSE = 14  # floor, ceiling, wall, furniture; color 3, metallic, roughness; log distance; height; normal to camera 3
SPLITS = {"train": 0, "validation": 2_000_000, "test": 3_000_000}  # first seed of each
SHARD = 20


@dataclass(frozen=True, eq=False)
class RoomSample:
    """One room.

    images [V, 3, S, S] uint8; dense [V, DENSE, S/4, S/4] float16, see `DENSE`; poses [V, 4, 4] world -> camera, meters;
    lens [V, 3, 3], width and height as units; structure [2, x, y, z] float16; cells [M, 3] int16, occupied [M] bool,
    shape [M, 16] and texture [M, 14] int8 (times `STEP`): see `volumes.CellLatents`; low [3] corner of the lattice;
    size [] of a chunk in meters; offsets [K, 3] first cells of the chunks.
    """

    images: Tensor
    dense: Tensor
    poses: Tensor
    lens: Tensor
    structure: Tensor
    cells: Tensor
    occupied: Tensor
    shape: Tensor
    texture: Tensor
    low: Tensor
    size: Tensor
    offsets: Tensor

    def extrinsics(self, chunk: int) -> Tensor:
        """[V, 4, 4]: the frame of a chunk, whose cube is [-0.5, 0.5]^3, to the cameras, in meters."""
        size = float(self.size)
        place = torch.eye(4)
        place[:3, :3] *= size
        place[:3, 3] = self.low + (self.offsets[chunk].float() / CELLS + 0.5) * size
        return self.poses @ place

    def inside(self, chunk: int) -> tuple[Tensor, Tensor]:
        """Rows of the cells that lie in a chunk, and their places [n, 3] in it."""
        local = self.cells.long() - self.offsets[chunk]
        rows = ((local >= 0) & (local < CELLS)).all(1).nonzero().squeeze(1)
        return rows, local[rows]

    def block(self, chunk: int) -> Tensor:
        """Structure latent [2, 16, 16, 16] of a chunk."""
        x, y, z = (slice(int(o), int(o) + CELLS) for o in self.offsets[chunk])
        return self.structure[:, x, y, z].float()

    def code(self, rows: Tensor, texture: bool = False) -> Tensor:
        """Standardized shape (or texture) latents of some rows."""
        return (self.texture if texture else self.shape)[rows].float() * STEP


def room_layout(room: Room, rng: np.random.Generator) -> ChunkLayout:
    """The chunks a planner would place, with the errors a room's box found from points has."""
    (x, y, z), jitter = room.size, lambda: float(rng.uniform(-0.03, 0.03))
    box = RoomBox(
        (-x / 2 + jitter(), x / 2 + jitter()), (-y / 2 + jitter(), y / 2 + jitter()), (jitter(), z + jitter())
    )
    return place_chunks(box, float(rng.uniform(1.08, 1.14)))


def draw_views(room: Room, cameras, samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Pictures [V, 3, S, S] uint8 and what the patches see [V, DENSE, S/4, S/4] float16."""
    table = material_table(room.primitives)[:, 3:]
    half = torch.tensor(room.size) / 2
    pictures, dense = [], []
    for camera in cameras:
        origins, directions = rays(camera, samples)
        t, owner = room.hits(origins, directions)
        t, owner = t[0], owner[0].long()
        ray = directions[0]
        place = origins[0] + ray * t[:, None]
        normal = room.normals(place, owner)
        color = room.colors(place, owner)
        lit = shade_room(room, place, normal, color)
        upper = (place[:, 2] > room.size[2] - BESIDE).float()
        lower = (place[:, 2] < BESIDE).float() * (1 - upper)
        wall = ((half[:2] - place[:, :2].abs()).amin(1) < BESIDE).float() * (1 - upper) * (1 - lower)
        parts = [lower, upper, wall, 1 - lower - upper - wall]
        distance = (t * ray.norm(dim=1)).clamp(0.2, 10).log()
        seen = normal @ camera.world_to_camera[0, :3, :3].T.float()
        rows = torch.cat(
            [torch.stack(parts, 1), color, table[owner], distance[:, None], place[:, 2:], seen], 1
        )  # fmt: skip
        size, side = camera.height, camera.height // PATCH
        pictures.append(lit.view(size, samples, size, samples, 3).mean((1, 3)).permute(2, 0, 1))
        step = PATCH * samples
        dense.append(rows.view(side, step, side, step, DENSE).mean((1, 3)).permute(2, 0, 1))
    return (torch.stack(pictures) * 255).round().byte(), torch.stack(dense).half()


def make_sample(seed: int, codes: Codes, views: int = VIEWS) -> RoomSample:
    """Draw one room; deterministic."""
    room, rng = make_plain_room(seed), np.random.default_rng([0xDA7A, seed])
    layout = room_layout(room, rng)
    volume = room_volume(room, layout)
    latents = cell_latents(volume, codes)
    cameras = room_cameras(room, views, IMAGE, IMAGE, fov=float(rng.uniform(*FOV)), aim=AIM)
    images, dense = draw_views(room, cameras)
    lens = cameras.intrinsics.float().clone()
    lens[:, :2] /= IMAGE
    lattice: Lattice = volume.lattice

    def pack(code: Tensor) -> Tensor:
        return (code / STEP).round().clamp(-127, 127).to(torch.int8)

    return RoomSample(
        images, dense, cameras.world_to_camera.float(), lens, latents.structure.half(), latents.cells.short(),
        latents.occupied, pack(latents.shape), pack(latents.texture), lattice.low, torch.tensor(layout.size).float(),
        lattice.offsets,
    )  # fmt: skip


def prepare(
    folder: Path | str, count: int, codes: Codes, split: str = "train", part: tuple[int, int] = (0, 1),
    views: int = VIEWS,
) -> Iterator[int]:  # fmt: skip
    """Draw `count` rooms of a split into shards in a folder; those that exist stay. Yields the rooms done.

    part: (k, n) draws every n-th shard from the k-th, for n processes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if split not in SPLITS:
        raise InputError(f"The split is {split!r}; {', '.join(SPLITS)} would work.")
    for shard in range((count + SHARD - 1) // SHARD):
        if shard % part[1] != part[0]:
            continue
        path = folder / f"{split}_{shard:04d}.pt"
        if not path.exists():
            numbers = range(shard * SHARD, min(count, (shard + 1) * SHARD))
            rooms = [vars(make_sample(SPLITS[split] + i, codes, views)) for i in numbers]
            partial = path.with_suffix(".part")
            torch.save(rooms, partial)
            partial.replace(path)
        yield min(count, (shard + 1) * SHARD)


class Rooms:
    """The rooms of one split, read where they lie (memory-mapped)."""

    def __init__(self, folder: Path | str, split: str = "train"):
        paths = sorted(Path(folder).glob(f"{split}_*.pt"))
        if not paths:
            raise InputError(f"There are no rooms of {split!r} in {folder}; draw them with --prepare.")
        names = [f.name for f in fields(RoomSample)]
        found = [torch.load(path, map_location="cpu", weights_only=True, mmap=True) for path in paths]
        self.rooms = [RoomSample(**{name: room[name] for name in names}) for shard in found for room in shard]

    def __len__(self) -> int:
        return len(self.rooms)

    def __getitem__(self, index: int) -> RoomSample:
        return self.rooms[index]
