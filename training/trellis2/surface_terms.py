"""How a decoded surface looks: depth, normals and outline of its pictures against those of the true surface."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.dual_grid import grid_to_fans
from ...kernels.metrics import SSIM_WINDOW, lpips, ssim
from ...kernels.raster import rasterize
from .recipe import LossOptions

RADII = 2.0, 100.0


def surface_terms(
    coords: Tensor, true_vertex: Tensor, vertex: Tensor, true_crossed: Tensor, crossed: Tensor, weight: Tensor,
    resolution: int, items: int, options: LossOptions, generator: torch.Generator,
) -> dict[str, Tensor]:  # fmt: skip
    """Weighted L1 of depth, normals and outline, SSIM and LPIPS of the normals, one random camera per item.

    coords [N, 4]; dual vertices [N, 3], flags [N, 3] and split weights [N, 1] of the truth and of the decoder.
    Gradients reach vertices and weights through depth and normals; the outline has none here and is only reported.
    Raises MissingDependency where LPIPS is asked for and its network is not installed.
    """
    totals: dict[str, Tensor | float] = dict.fromkeys(("depth", "normal", "ssim", "lpips", "mask"), 0.0)
    weights = {
        "depth": options.depth,
        "normal": options.normal,
        "ssim": options.normal * options.ssim,
        "lpips": options.normal * options.lpips,
        "mask": options.mask,
    }
    for item in range(items):
        rows = torch.nonzero(coords[:, 0] == item).squeeze(1)
        here = coords[rows, 1:]
        view = random_view(generator).to(coords.device)
        even = torch.ones_like(weight[rows])
        with torch.no_grad():
            wanted = picture(here, true_vertex[rows], true_crossed[rows], even, resolution, view, options.render_size)
        found = picture(here, vertex[rows], crossed[rows], weight[rows], resolution, view, options.render_size)
        terms = {name: F.l1_loss(a, b) for name, a, b in zip(("depth", "normal", "mask"), found, wanted)}
        pair = [normals.permute(2, 0, 1)[None] for normals in (found[1], wanted[1])]
        if weights["ssim"]:  # windows reach over the border, as the released ones do
            terms["ssim"] = 1 - ssim(*(F.pad(normals, [SSIM_WINDOW // 2] * 4) for normals in pair))
        if weights["lpips"]:
            terms["lpips"] = lpips(*pair).mean()
        for name, value in terms.items():
            totals[name] = totals[name] + value / items
    return {name: weights[name] * totals[name] for name in totals if weights[name]}


@dataclass(frozen=True)
class View:
    """matrix: [3, 4], world to a camera that looks along -z; focal: 1 makes half the picture as wide as it is away;
    near: what lies nearer to the camera is cut away."""

    matrix: Tensor
    focal: float
    near: float

    def to(self, device: torch.device) -> View:
        return View(self.matrix.to(device), self.focal, self.near)


def random_view(generator: torch.Generator) -> View:
    """A camera whose picture the sphere of radius 1/2 fills, cut open somewhere before the middle.

    The squared inverse distance is uniform between the radii, the near plane up to 1 before the middle. Source:
    TRELLIS.2, camera randomization of the shape VAE.
    """
    low, high = 1 / RADII[1] ** 2, 1 / RADII[0] ** 2
    radius = (low + (high - low) * float(torch.rand((), generator=generator))) ** -0.5
    away = F.normalize(torch.randn(3, generator=generator), dim=0)
    near = radius - float(torch.rand((), generator=generator))
    up = torch.tensor([0.0, 0.0, 1.0]) if abs(float(away[2])) < 0.99 else torch.tensor([1.0, 0.0, 0.0])
    right = F.normalize(torch.linalg.cross(up, away), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(away, right), away])
    place = -rotation @ (away * radius)
    return View(torch.cat([rotation, place[:, None]], 1), 1 / math.tan(math.asin(0.5 / radius)), near)


def picture(
    coords: Tensor, dual: Tensor, crossed: Tensor, weight: Tensor, resolution: int, view: View, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth [S, S], normals [S, S, 3] in [0, 1] and outline [S, S] of a dual grid's surface.

    Normals point away from the camera, in its frame (x right, y down, z ahead), as colors; 0.5 where nothing is.
    Faces are about a voxel large, so the near plane cuts them whole.
    """
    empty = dual.sum() * 0
    depth = dual.new_zeros(size * size) + empty
    normal, mask = dual.new_full((size * size, 3), 0.5) + empty, dual.new_zeros(size * size)
    mesh = grid_to_fans(coords, dual, crossed, weight, resolution)
    seen = mesh.vertices @ view.matrix[:, :3].T + view.matrix[:, 3]
    corners = seen[mesh.faces.long()]
    corners = corners[-corners[..., 2].mean(1) > view.near]
    if not len(corners):
        return depth.view(size, size), normal.view(size, size, 3), mask.view(size, size)
    away = (-corners[..., 2:]).clamp(min=1e-3)
    flat = (corners[..., :2] * view.focal / away * torch.tensor([1.0, -1.0], device=away.device) + 1) * (size / 2)
    with torch.no_grad():
        found = rasterize(flat.detach(), (size, size), nearness=1 / away[..., 0].detach())
    hit = torch.nonzero(found.face.flatten() >= 0).squeeze(1)
    face, shares = found.face.flatten()[hit], found.weights.view(-1, 3)[hit].to(dual.dtype)
    near = (shares / away[face][..., 0]).sum(1)
    facing = F.normalize(
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1, eps=1e-12
    )[face]
    facing = facing * torch.where(facing[:, 2:] < 0, -1.0, 1.0)  # windings are random in training
    color = (facing * facing.new_tensor([-1.0, 1.0, 1.0]) + 1) / 2
    depth = depth.index_put((hit,), 1 / near.clamp(min=1e-6))
    normal = normal.index_put((hit,), color)
    mask = mask.index_put((hit,), torch.ones_like(near))
    return depth.view(size, size), normal.view(size, size, 3), mask.view(size, size)
