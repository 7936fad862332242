"""The texture latent: in every cell the material's mean and the color's slope, fitted to the voxels of its surface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError
from ..procedural.volumes import dual_grid
from .data import RESOLUTION, unpack_distance
from .derived import STEP
from .latents import CELL

CHANNELS = 14  # base color, metallic, roughness; slope of the base color along x, y, z
RIDGE = 1.0
SLOPE_WEIGHT = 0.4  # of the slopes in the flow's normalized latent
CODE_OBJECTS = 100


def fit_materials(
    coords: Tensor, dual: Tensor, materials: Tensor, size: tuple[int, int, int] = (RESOLUTION // CELL,) * 3
) -> tuple[Tensor, Tensor]:
    """Coefficients [x, y, z, 14] and which cells have a surface [x, y, z] bool.

    coords [N, 3] voxels, dual [N, 3], materials [N, 5] in [0, 1]; size: cells along each axis. Cells without surface
    take the mean of their neighbors', so that tokens beside the surface have a latent too.
    """
    cells = size[0] * size[1] * size[2]
    cell = coords.long() // CELL
    row = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    local = (coords + dual - cell * CELL) / (CELL / 2) - 1
    phi = torch.cat([torch.ones(len(local), 1), local], 1)
    used, index = torch.unique(row, return_inverse=True)
    left = torch.zeros(len(used), 4, 4).index_add_(0, index, phi[:, :, None] * phi[:, None])
    right = torch.zeros(len(used), 4, 5).index_add_(0, index, phi[:, :, None] * materials[:, None])
    left += torch.diag(torch.tensor([1e-3, RIDGE, RIDGE, RIDGE]))
    found = torch.linalg.solve(left, right)
    out = torch.zeros(cells, CHANNELS)
    out[used] = torch.cat([found[:, 0], found[:, 1:, :3].flatten(1)], 1)
    known = torch.zeros(cells, dtype=torch.bool)
    known[used] = True
    mean = (out[:, :5] * known[:, None]).T.reshape(1, 5, *size)
    weight = known.float().view(1, 1, *size)
    for _ in range(2):
        total, count = (F.avg_pool3d(F.pad(v, [1] * 6), 3, 1) for v in (mean, weight))
        filled = total / count.clamp_min(1e-6)
        fresh = (weight == 0) & (count > 0)
        mean, weight = torch.where(fresh, filled, mean), (weight + fresh).float()
    out[:, :5] = mean[0].flatten(1).T
    return out.view(*size, CHANNELS), known.view(size)


def texture_scale(folder: Path | str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [14] of the coefficients of the first objects of a data folder."""
    path = Path(folder) / "texture_code.pt"
    if not path.exists():
        shard = torch.load(sorted(Path(folder).glob("train_*.pt"))[0], weights_only=True, mmap=True)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), shard["voxels"].cumsum(0)])
        rows = []
        for r in range(min(CODE_OBJECTS, len(shard["fov"]))):
            grid = dual_grid(unpack_distance(shard["distance"][r]))
            found, known = fit_materials(
                grid.coords, grid.dual, shard["materials"][starts[r] : starts[r + 1]].float() / 255
            )
            rows.append(found[known])
        rows = torch.cat(rows)
        mean, std = rows.mean(0), rows.std(0)
        mean[5:] = 0
        torch.save({"mean": mean, "std": std}, path)
    state = torch.load(path, weights_only=True)
    return state["mean"], state["std"]


def derive_textures(folder: Path | str, split: str = "train") -> Iterator[int]:
    """Write `texture_<shard>` beside every shard: standardized coefficients [N, r^3, 14] int8, times `STEP`."""
    folder = Path(folder)
    mean, std = texture_scale(folder)
    for number, path in enumerate(sorted(folder.glob(f"{split}_*.pt"))):
        target = path.with_name(f"texture_{path.name}")
        if target.exists():
            continue
        shard = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        starts = torch.cat([torch.zeros(1, dtype=torch.long), shard["voxels"].cumsum(0)])
        rows = []
        for r, distance in enumerate(shard["distance"]):
            grid = dual_grid(unpack_distance(distance))
            materials = shard["materials"][starts[r] : starts[r + 1]].float() / 255
            found = (fit_materials(grid.coords, grid.dual, materials)[0].flatten(0, 2) - mean) / std
            rows.append((found / STEP).round().clamp(-127, 127).to(torch.int8))
        partial = target.with_suffix(".part")
        torch.save({"texture": torch.stack(rows)}, partial)
        partial.replace(target)
        yield number


class Textures:
    """The texture latents of a split: `code(index, cells)` gives standardized rows."""

    def __init__(self, folder: Path | str, split: str = "train"):
        paths = sorted(Path(folder).glob(f"texture_{split}_*.pt"))
        if not paths:
            raise InputError(f"There are no texture latents of {split!r} in {folder}; draw them with --prepare.")
        self.texture = torch.cat([torch.load(p, weights_only=True, mmap=True)["texture"] for p in paths])

    def __len__(self) -> int:
        return len(self.texture)

    def code(self, index: int, cells: Tensor) -> Tensor:
        """Texture latents [N, 14] of the cells [N, 3] of one object."""
        side = RESOLUTION // CELL
        x, y, z = cells.long().unbind(1)
        return self.texture[index, (x * side + y) * side + z].float() * STEP
