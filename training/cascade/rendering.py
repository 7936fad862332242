"""Pictures of results and of the truth from the input camera and from around the object."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...kernels.mesh_render import MeshViews, render_mesh
from ...kernels.projection import distance_from_fov, front_camera
from ..procedural.objects import ProceduralObject
from ..procedural.placement import TO_WORLD, Placed
from ..procedural.primitives import turned
from ..procedural.render import first_hits, rays
from ..procedural.volumes import material_table


def turn_matrix(elevation: float, degrees: float) -> Tensor:
    """Rotation [3, 3] of the view frame about the vertical axis of an object seen from `elevation`; degrees."""
    e, a = math.radians(elevation), math.radians(degrees)
    x, y, z = 0.0, math.cos(e), math.sin(e)
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return torch.eye(3) + math.sin(a) * cross + (1 - math.cos(a)) * cross @ cross


def true_colors(placed: Placed, degrees: float, size: int, samples: int = 2) -> tuple[Tensor, Tensor]:
    """Base color [S, S, 3] over black and coverage [S, S] of a placed object turned by `degrees`."""
    turn = TO_WORLD.double() @ turn_matrix(placed.elevation, degrees).double()
    item = ProceduralObject(placed.kind, placed.seed, tuple(turned(p, turn) for p in placed.primitives))
    origins, directions = rays(placed.camera(size), samples)
    _, winner = first_hits(item, origins, directions)
    table = torch.cat([material_table(item.primitives)[:, :3], torch.zeros(1, 3)])
    table = torch.cat([table, (torch.arange(len(table)) < len(table) - 1).float()[:, None]], 1)
    seen = table[winner[0].long()].view(size, samples, size, samples, 4).mean((1, 3))
    return seen[..., :3], seen[..., 3]


def mesh_view(
    vertices: Tensor,
    faces: Tensor,
    colors: Tensor | None,
    fov: float,
    turn: Tensor,
    size: int,
    shading: str = "flat",
    background: float = 0.0,
) -> MeshViews:
    """A mesh of the view frame, turned by `turn` [3, 3], from the front camera; fov in degrees."""
    angle = math.radians(fov)
    camera = front_camera(angle, float(distance_from_fov(angle)), size)
    places = vertices @ (TO_WORLD @ turn).T
    return render_mesh(places, faces, camera, vertex_colors=colors, shading=shading, background=background, samples=2)


def mesh_coverage(vertices: Tensor, faces: Tensor, fov: float, turn: Tensor, size: int) -> Tensor:
    """[S, S] share of each pixel that a mesh covers; arguments as `mesh_view`."""
    return mesh_view(vertices, faces, torch.ones(len(vertices), 3), fov, turn, size).rgb[0, ..., 0]
