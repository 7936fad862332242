"""What the stages are trained on: procedural objects as a picture, a distance grid and the material of its voxels.

Everything follows from kind and seed; a folder of shards only saves the time to draw it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError
from ..procedural.placement import VIEWS, Placed, ViewRanges, make_placed
from ..procedural.render import first_hits, rays, shade
from ..procedural.volumes import DualGrid, distance_grid, dual_grid, material_table, nearest_primitive

KINDS = ("chair", "table", "mug", "lamp", "sofa")
RESOLUTION = 64  # voxels of the mesh grid per axis
CELL_VOXELS = 4  # voxels of the mesh grid per token along an axis
REACH = 4  # voxels of distance that are kept
IMAGE, PATCH = 128, 8
SPLITS = {"train": 0, "validation": 2_000_000, "test": 3_000_000}  # first seed of each
SHARD = 250


@dataclass(frozen=True)
class Sample:
    """One object and its picture.

    image [3, S, S] uint8, on black; patches [6, S/8, S/8] uint8: mean base color, metallic and roughness of what is
    seen in each patch, and coverage; distance [R+1]^3 int8: signed distance, 127 = `REACH` voxels; materials [N, 5]
    uint8 base color, metallic, roughness of the voxels of `grid()`; fov in degrees.
    """

    kind: str
    seed: int
    fov: float
    image: Tensor
    patches: Tensor
    distance: Tensor
    materials: Tensor

    def voxels(self) -> Tensor:
        """Signed distance in voxels [R+1]^3 float32."""
        return unpack_distance(self.distance)

    def grid(self) -> DualGrid:
        return dual_grid(self.voxels())


def unpack_distance(distance: Tensor) -> Tensor:
    """int8 -> voxels; 0 counts as outside, as it did when the grid was packed."""
    return distance.float() * (REACH / 127)


def draw_picture(placed: Placed, size: int = IMAGE, samples: int = 2, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """RGBA [S, S, 4] in [0, 1] (straight), and per patch mean material and coverage [6, S/8, S/8].

    The lamp's direction is drawn from the object's seed.
    """
    rng = np.random.default_rng([17, placed.seed if seed is None else seed])
    item, cameras = placed.in_world(), placed.camera(size)
    origins, directions = rays(cameras, samples)
    depth, winner = first_hits(item, origins, directions)
    lamp = (-90.0 + rng.uniform(-70, 70), rng.uniform(15, 65))  # the camera looks along +y
    rgba = shade(item, origins, directions, depth, winner, (size, size, samples), *lamp)[0]
    materials = torch.cat([material_table(item.primitives), torch.zeros(1, 5)])  # -1: nothing
    seen = torch.cat([materials, torch.ones(len(materials), 1)], 1)
    seen[-1] = 0
    side = PATCH * samples
    flat = seen[winner[0].long()].view(size // PATCH, side, size // PATCH, side, 6).mean((1, 3))
    flat[..., :5] /= flat[..., 5:].clamp_min(1e-6)
    return rgba, flat.permute(2, 0, 1)


def on_black(rgba: Tensor) -> Tensor:
    """Straight RGBA [S, S, 4] in [0, 1] -> what the networks see: [3, S, S] uint8."""
    return (rgba[..., :3] * rgba[..., 3:]).mul(255).round().byte().permute(2, 0, 1).contiguous()


def make_sample(kind: str, seed: int, ranges: ViewRanges = VIEWS) -> Sample:
    """Draw one object; deterministic."""
    placed = make_placed(kind, seed, ranges)
    rgba, patches = draw_picture(placed)
    exact = distance_grid(placed.primitives, RESOLUTION, REACH / RESOLUTION) * RESOLUTION
    distance = (exact * (127 / REACH)).round().to(torch.int8)
    grid = dual_grid(unpack_distance(distance))
    points = (grid.coords + grid.dual) / RESOLUTION - 0.5
    materials = material_table(placed.primitives)[nearest_primitive(placed.primitives, points)]
    return Sample(
        kind, seed, placed.fov, on_black(rgba), patches.mul(255).round().byte(), distance,
        materials.mul(255).round().byte(),
    )  # fmt: skip


def object_of(index: int, split: str, kinds: Sequence[str] = KINDS) -> tuple[str, int]:
    """Kind and seed of the index-th object of a split: the kinds take turns."""
    if split not in SPLITS:
        raise InputError(f"The split is {split!r}; {', '.join(SPLITS)} would work.")
    return kinds[index % len(kinds)], SPLITS[split] + index


def prepare(folder: Path | str, count: int, split: str = "train", part: tuple[int, int] = (0, 1)) -> Iterator[int]:
    """Draw `count` objects of a split into shards in a folder; those that exist stay. Yields the objects done.

    part: (k, n) draws every n-th shard from the k-th, for n processes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range((count + SHARD - 1) // SHARD):
        if shard % part[1] != part[0]:
            continue
        path = folder / f"{split}_{shard:04d}.pt"
        if not path.exists():
            indices = range(shard * SHARD, min(count, (shard + 1) * SHARD))
            samples = [make_sample(*object_of(i, split)) for i in indices]
            packed = {
                name: torch.stack([getattr(s, name) for s in samples]) for name in ("image", "patches", "distance")
            }
            packed["materials"] = torch.cat([s.materials for s in samples])
            packed["voxels"] = torch.tensor([len(s.materials) for s in samples])
            packed["fov"] = torch.tensor([s.fov for s in samples])
            packed["kind"] = torch.tensor([KINDS.index(s.kind) for s in samples])
            packed["seed"] = torch.tensor([s.seed for s in samples])
            partial = path.with_suffix(".part")
            torch.save(packed, partial)
            partial.replace(path)
        yield min(count, (shard + 1) * SHARD)


class Shards:
    """The drawn objects of one split, read where they lie (memory-mapped)."""

    def __init__(self, folder: Path | str, split: str = "train", count: int | None = None):
        paths = sorted(Path(folder).glob(f"{split}_*.pt"))
        if not paths:
            raise InputError(f"There are no shards of {split!r} in {folder}; draw them with --prepare.")
        self.shards = [torch.load(path, map_location="cpu", weights_only=True, mmap=True) for path in paths]
        self.rows = [(s, r) for s, shard in enumerate(self.shards) for r in range(len(shard["fov"]))][:count]
        self.starts = [torch.cat([torch.zeros(1, dtype=torch.long), s["voxels"].cumsum(0)]) for s in self.shards]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        s, r = self.rows[index]
        shard, start = self.shards[s], self.starts[s]
        return Sample(
            KINDS[int(shard["kind"][r])], int(shard["seed"][r]), float(shard["fov"][r]), shard["image"][r],
            shard["patches"][r], shard["distance"][r], shard["materials"][start[r] : start[r + 1]],
        )  # fmt: skip
