"""A procedural room on the lattice its chunks share: signed distances, surface, materials, latents of its cells.

Lattice frame: voxels from the low corner of the chunk layout, axes of the world. Everything outside of the room's
inside is solid, as photos cannot show what is behind a wall, so that the surface is what can be seen from inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.chunk_layout import ChunkLayout
from ..cascade.data import REACH
from ..cascade.latents import CELL, LinearCode, near_cells, occupied_cells, windows
from ..cascade.texture_code import fit_materials
from ..procedural.primitives import Primitive
from ..procedural.volumes import DualGrid, dual_grid, material_table
from ..procedural_room import Room

RESOLUTION = 64  # voxels of a chunk along an axis
CELLS = RESOLUTION // CELL
LOWEST_FLOOR = 0.4  # voxels; a floor that the layout cuts off is lifted into it
SHELL = 6  # primitives of a room that are its floor, ceiling and walls
DISTANCE_SCALE, OCCUPIED_MEAN, OCCUPIED_SCALE = 0.7, 0.15, 0.35


@dataclass(frozen=True, eq=False)
class Lattice:
    """low: [3] world position of the lattice's corner; voxel: side of a voxel in meters; cells: [3] along each axis;
    offsets [K, 3]: first cell of every chunk."""

    low: Tensor
    voxel: float
    cells: tuple[int, int, int]
    offsets: Tensor

    @classmethod
    def of(cls, layout: ChunkLayout) -> Lattice:
        """The lattice of a chunk layout; all strides are whole cells."""
        centers = torch.from_numpy(layout.centers)
        low = centers.amin(0) - layout.size / 2
        offsets = ((centers - centers.amin(0)) * (CELLS / layout.size)).round().long()
        cells = tuple((offsets.amax(0) + CELLS).tolist())
        return cls(low.float(), layout.size / RESOLUTION, cells, offsets)

    def lines(self) -> list[Tensor]:
        """World coordinates of the corners along each axis."""
        return [self.low[k] + self.voxel * torch.arange(n * CELL + 1) for k, n in enumerate(self.cells)]

    def to_world(self, points: Tensor) -> Tensor:
        """World positions of lattice positions [N, 3] in voxels."""
        return self.low + self.voxel * points


def room_distance(room: Room, lattice: Lattice) -> Tensor:
    """Signed distances in voxels, cut off at `REACH`, at the lattice's corners [X+1, Y+1, Z+1]."""
    x, y, z = lattice.lines()
    half_x, half_y, height = room.size[0] / 2, room.size[1] / 2, room.size[2]
    floor = max(0.0, float(z[0]) + LOWEST_FLOOR * lattice.voxel)
    reach = REACH * lattice.voxel
    across = torch.minimum(half_x - x.abs()[:, None], half_y - y.abs()[None])
    grid = torch.minimum(across[..., None], torch.minimum(z - floor, height - z)).clamp(-reach, reach)
    for primitive in room.primitives[SHELL:]:
        points = primitive.outline_points()
        low, high = points.amin(0) - reach, points.amax(0) + reach
        part = tuple(slice(int((line < a).sum()), int((line <= b).sum())) for line, a, b in zip((x, y, z), low, high))
        if any(s.start >= s.stop for s in part):
            continue
        local = primitive.to_local(x[part[0], None, None], y[None, part[1], None], z[None, None, part[2]])
        view = grid[part]
        torch.minimum(view, primitive.local_sdf(*torch.broadcast_tensors(*local)), out=view)
    return (grid / lattice.voxel).clamp_(-REACH, REACH)


def nearest_owner(primitives: tuple[Primitive, ...], points: Tensor) -> Tensor:
    """Index [N] of the primitive whose surface is nearest to points [N, 3]; each looks only at points beside it."""
    best = torch.full((len(points),), torch.inf)
    owner = torch.zeros(len(points), dtype=torch.long)
    for index, primitive in enumerate(primitives):
        box = primitive.outline_points()
        near = ((points > box.amin(0) - 0.1) & (points < box.amax(0) + 0.1)).all(1).nonzero().squeeze(1)
        distance = primitive.sdf(points[near]).abs()
        closer = distance < best[near]
        best[near[closer]], owner[near[closer]] = distance[closer], index
    return owner


def surface_materials(room: Room, points: Tensor) -> Tensor:
    """Base color, metallic, roughness [N, 5] at surface points [N, 3] of the world."""
    owner = nearest_owner(room.primitives, points)
    return torch.cat([room.colors(points, owner), material_table(room.primitives)[owner, 3:]], 1)


@dataclass(frozen=True, eq=False)
class RoomVolume:
    """distance [X+1, Y+1, Z+1]; its dual grid; materials [N, 5] of the grid's voxels."""

    lattice: Lattice
    distance: Tensor
    grid: DualGrid
    materials: Tensor


def room_volume(room: Room, layout: ChunkLayout) -> RoomVolume:
    """The surface of a room on the lattice of its chunks."""
    lattice = Lattice.of(layout)
    distance = room_distance(room, lattice)
    grid = dual_grid(distance)
    points = lattice.to_world(grid.coords + grid.dual)
    return RoomVolume(lattice, distance, grid, surface_materials(room, points))


@dataclass(frozen=True)
class Codes:
    """What makes latents of rows: the shape code, and mean and deviation [14] of the texture coefficients."""

    shape: LinearCode
    texture_mean: Tensor
    texture_std: Tensor

    def state(self) -> dict[str, Tensor]:
        return self.shape.state() | {"texture_mean": self.texture_mean, "texture_std": self.texture_std}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Codes:
        shape = LinearCode(state["mean"], state["basis"], state["std"])
        return cls(shape, state["texture_mean"], state["texture_std"])


def structure_fields(distance: Tensor) -> Tensor:
    """The structure latent [2, x, y, z] of all cells: mean distance and occupancy, brought to about unit spread."""
    mean = F.avg_pool3d(distance[None, None], CELL + 1, CELL)[0, 0] / REACH
    occupied = occupied_cells(distance[None])[0].float()
    return torch.stack([mean / DISTANCE_SCALE, (occupied - OCCUPIED_MEAN) / OCCUPIED_SCALE])


@dataclass(frozen=True, eq=False)
class CellLatents:
    """Latents of a room's cells: structure [2, x, y, z]; of the cells near the surface their index cells [M, 3],
    whether the surface passes through (occupied [M] bool), shape code [M, 16], texture code [M, 14], standardized."""

    structure: Tensor
    cells: Tensor
    occupied: Tensor
    shape: Tensor
    texture: Tensor


def cell_latents(volume: RoomVolume, codes: Codes) -> CellLatents:
    """The latents of a room's lattice."""
    distance = volume.distance
    near, occupied = near_cells(distance[None])[0], occupied_cells(distance[None])[0]
    cells = torch.nonzero(near | occupied)
    shape = codes.shape.encode(windows(distance, cells))
    fitted, _ = fit_materials(volume.grid.coords, volume.grid.dual, volume.materials, volume.lattice.cells)
    at = tuple(cells.T)
    texture = (fitted[at] - codes.texture_mean) / codes.texture_std
    return CellLatents(structure_fields(distance), cells, occupied[at], shape, texture)
