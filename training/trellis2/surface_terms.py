"""How a decoded surface looks: depth, normals and outline of its pictures against those of the true surface."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.dual_grid import grid_to_fans
from ...kernels.raster import rasterize
from .recipe import LossOptions

RADII = 2.0, 100.0


def surface_terms(
    coords: Tensor, true_vertex: Tensor, vertex: Tensor, true_crossed: Tensor, crossed: Tensor, weight: Tensor,
    resolution: int, items: int, options: LossOptions, generator: torch.Generator,
) -> dict[str, Tensor]:  # fmt: skip
    """Weighted L1 of depth, normals and outline, one random camera per item.

    coords [N, 4]; dual vertices [N, 3], flags [N, 3] and split weights [N, 1] of the truth and of the decoder.
    Gradients reach vertices and weights through depth and normals; the outline has none here and is only reported.
    """
    totals = {"depth": coords.new_zeros((), dtype=torch.float32), "normal": 0.0, "mask": 0.0}
    for item in range(items):
        rows = torch.nonzero(coords[:, 0] == item).squeeze(1)
        here = coords[rows, 1:]
        camera = random_camera(generator).to(coords.device)
        even = torch.ones_like(weight[rows])
        with torch.no_grad():
            wanted = picture(here, true_vertex[rows], true_crossed[rows], even, resolution, camera, options.render_size)
        found = picture(here, vertex[rows], crossed[rows], weight[rows], resolution, camera, options.render_size)
        totals["depth"] = totals["depth"] + F.l1_loss(found[0], wanted[0]) / items
        totals["normal"] = totals["normal"] + F.l1_loss(found[1], wanted[1]) / items
        totals["mask"] = totals["mask"] + F.l1_loss(found[2], wanted[2]) / items
    weights = {"depth": options.depth, "normal": options.normal, "mask": options.mask}
    return {name: weights[name] * totals[name] for name in totals if weights[name]}


def random_camera(generator: torch.Generator) -> Tensor:
    """[4, 4]: world to a camera that sees the unit sphere fill its picture, scaled so that the picture is [-1, 1].

    The squared inverse distance is uniform between the radii. Source: TRELLIS.2, camera randomization of the shape VAE.
    """
    low, high = 1 / RADII[1] ** 2, 1 / RADII[0] ** 2
    radius = (low + (high - low) * float(torch.rand((), generator=generator))) ** -0.5
    away = F.normalize(torch.randn(3, generator=generator), dim=0)
    up = torch.tensor([0.0, 0.0, 1.0]) if abs(float(away[2])) < 0.99 else torch.tensor([1.0, 0.0, 0.0])
    right = F.normalize(torch.linalg.cross(up, away), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(away, right), away])
    focal = 1 / math.tan(math.asin(0.5 / radius))
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ (away * radius)
    matrix[3, 3] = focal  # kept where an affine matrix holds 1
    return matrix


def picture(
    coords: Tensor, dual: Tensor, crossed: Tensor, weight: Tensor, resolution: int, camera: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth [S, S], normals [S, S, 3] in the camera's frame and outline [S, S] of a dual grid's surface."""
    empty = dual.sum() * 0
    depth = dual.new_zeros(size * size) + empty
    normal, mask = dual.new_zeros(size * size, 3) + empty, dual.new_zeros(size * size)
    mesh = grid_to_fans(coords, dual, crossed, weight, resolution)
    if not len(mesh.faces):
        return depth.view(size, size), normal.view(size, size, 3), mask.view(size, size)
    focal = float(camera[3, 3])
    seen = mesh.vertices @ camera[:3, :3].T + camera[:3, 3]
    corners = seen[mesh.faces.long()]
    away = (-corners[..., 2:]).clamp(min=1e-3)
    flat = (corners[..., :2] * focal / away * torch.tensor([1.0, -1.0], device=away.device) + 1) * (size / 2)
    with torch.no_grad():
        found = rasterize(flat.detach(), (size, size), nearness=1 / away[..., 0].detach())
    hit = torch.nonzero(found.face.flatten() >= 0).squeeze(1)
    face, shares = found.face.flatten()[hit], found.weights.view(-1, 3)[hit].to(dual.dtype)
    near = (shares / away[face][..., 0]).sum(1)
    facing = F.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1, eps=1e-12
    )[face]
    facing = facing * torch.where(facing[:, 2:] < 0, -1.0, 1.0)  # windings are random in training
    depth = depth.index_put((hit,), 1 / near.clamp(min=1e-6))
    normal = normal.index_put((hit,), facing)
    mask = mask.index_put((hit,), torch.ones_like(near))
    return depth.view(size, size), normal.view(size, size, 3), mask.view(size, size)
