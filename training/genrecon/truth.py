"""The true surface of a plain room as a mesh with colors, and pictures of rooms from above with the ceiling off."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...kernels.dual_grid import grid_to_mesh
from ...kernels.mesh_render import render_mesh
from ...scene.cameras import look_at
from ...scene.chunk_layout import RoomBox, place_chunks
from ..procedural.volumes import dual_grid
from ..procedural_room import Room
from .volumes import Lattice, room_distance, surface_materials

FINER = 2  # voxels of the true surface per voxel of a chunk
WALL_SLACK = 0.14  # meters


def true_surface(room: Room) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices [V, 3] in the room's world, faces [F, 3] and base colors [V, 3] of all that lies inside of a room."""
    x, y, z = room.size
    coarse = Lattice.of(place_chunks(RoomBox((-x / 2, x / 2), (-y / 2, y / 2), (-0.1, z))))
    cells = tuple(FINER * n for n in coarse.cells)
    lattice = Lattice(coarse.low, coarse.voxel / FINER, cells, coarse.offsets * FINER)
    grid = dual_grid(room_distance(room, lattice))
    size = torch.tensor([n * 4 for n in lattice.cells])
    high = lattice.low + lattice.voxel * size
    box = [lattice.low.tolist(), high.tolist()]
    split = torch.zeros(len(grid.coords), 1)
    mesh = grid_to_mesh(grid.coords, grid.dual, grid.intersected, split, tuple(size.tolist()), aabb=box)
    colors = surface_materials(room, lattice.to_world(grid.coords + grid.dual))[:, :3]
    return mesh.vertices, mesh.faces, colors


def open_faces(vertices: Tensor, faces: Tensor, eye: Tensor, size: tuple[float, float, float]) -> Tensor:
    """[F] bool: faces that a doll's house shows to the eye: no ceiling, and no wall between it and the room."""
    middle = vertices[faces.long()].mean(1)
    half = torch.tensor(size[:2]) / 2 - WALL_SLACK
    before = (middle[:, :2] * torch.sign(eye[:2]) > half).any(1)
    return ~before & (middle[:, 2] < size[2] - 2 * WALL_SLACK)


def doll_house(
    vertices: Tensor, faces: Tensor, colors: Tensor, size: tuple[float, float, float], azimuth: float,
    pixels: tuple[int, int] = (480, 360), elevation: float = 52.0,
) -> np.ndarray:  # fmt: skip
    """A picture [H, W, 3] uint8 of a room from above, its ceiling off; azimuth and elevation in degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    away = 1.45 * max(size[:2]) + 1.5
    eye = torch.tensor([away * np.cos(a) * np.cos(e), away * np.sin(a) * np.cos(e), 0.6 + away * np.sin(e)]).float()
    camera = look_at(eye.double(), torch.tensor([0.0, 0.0, 0.7]), 46.0, *pixels)
    kept = open_faces(vertices, faces, eye, size)
    shown = render_mesh(vertices.float(), faces[kept].long(), camera, vertex_colors=colors, background=1.0, samples=2)
    return (shown.rgb[0] * 255).round().byte().numpy()
