"""What the stages read, computed once from the drawn shards: latents of structure and shape, and their linear code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...scene.errors import InputError
from .data import Shards, unpack_distance
from .latents import CELL, LinearCode, near_cells, occupied_cells, structure_latent, windows

CHANNELS = 16
STEP = 1 / 20  # of the stored code, in standard deviations
CODE_OBJECTS = 100


def shape_code(folder: Path | str) -> LinearCode:
    """The code of the shape latents of a data folder: principal components of the windows of its first objects."""
    path = Path(folder) / "shape_code.pt"
    if not path.exists():
        shards = Shards(folder, "train", CODE_OBJECTS)
        rows = []
        for index in range(len(shards)):
            voxels = shards[index].voxels()
            rows.append(windows(voxels, torch.nonzero(near_cells(voxels[None])[0])))
        code, kept = LinearCode.of(torch.cat(rows), CHANNELS)
        torch.save(code.state() | {"kept": kept}, path)
    state = torch.load(path, weights_only=True)
    return LinearCode(state["mean"], state["basis"], state["std"])


def all_cells(resolution: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(resolution)] * 3)


def derive(folder: Path | str, split: str = "train", part: tuple[int, int] = (0, 1)) -> Iterator[int]:
    """Write `latents_<shard>` beside every shard of a split; those that exist stay. Yields the shards done."""
    folder, code = Path(folder), shape_code(folder)
    for path in sorted(folder.glob(f"{split}_*.pt")):
        number, target = int(path.stem.rpartition("_")[2]), path.with_name(f"latents_{path.name}")
        if number % part[1] != part[0] or target.exists():
            continue
        shard = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found: dict[str, list[Tensor]] = {"structure": [], "shape": [], "occupied": [], "near": []}
        for distance in shard["distance"]:
            voxels = unpack_distance(distance)
            cells = all_cells((voxels.shape[0] - 1) // CELL)
            found["structure"].append(structure_latent(voxels[None])[0].half())
            found["shape"].append((code.encode(windows(voxels, cells)) / STEP).round().clamp(-127, 127).to(torch.int8))
            found["occupied"].append(occupied_cells(voxels[None])[0])
            found["near"].append(near_cells(voxels[None])[0])
        partial = target.with_suffix(".part")
        torch.save({k: torch.stack(v) for k, v in found.items()}, partial)
        partial.replace(target)
        yield number


class Latents:
    """The derived tensors of a split in memory, with pictures: everything but distances and materials.

    image [N, 3, S, S] uint8; patches [N, 6, P, P] uint8; structure [N, 16, r, r, r] float16; shape [N, (2r)^3, C] int8
    (times `STEP`); occupied, near [N, 2r, 2r, 2r] bool; fov [N] degrees; kind [N]. `texture`, where `derive_texture`
    was run: see there.
    """

    def __init__(self, folder: Path | str, split: str = "train", names: tuple[str, ...] = ()):
        folder = Path(folder)
        paths = [p for p in sorted(folder.glob(f"{split}_*.pt")) if p.with_name(f"latents_{p.name}").exists()]
        if not paths:
            raise InputError(f"There are no derived latents of {split!r} in {folder}; draw them with --prepare.")
        shards = [torch.load(p, weights_only=True, mmap=True) for p in paths]
        latents = [torch.load(p.with_name(f"latents_{p.name}"), weights_only=True, mmap=True) for p in paths]
        for name in ("image", "patches", "fov", "kind", "seed"):
            setattr(self, name, torch.cat([s[name] for s in shards]))
        for name in names or ("structure", "shape", "occupied", "near"):
            setattr(self, name, torch.cat([s[name] for s in latents]))

    def code(self, index: int, cells: Tensor) -> Tensor:
        """Shape latents [N, C] of the cells [N, 3] of one object."""
        side = self.occupied.shape[-1]
        x, y, z = cells.long().unbind(1)
        return self.shape[index, (x * side + y) * side + z].float() * STEP

    def __len__(self) -> int:
        return len(self.fov)
