"""The whole embedded family on unseen objects: the figures of its documentation."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from ...kernels.dual_grid import GridMesh, grid_to_mesh
from ...kernels.metrics import psnr
from ...models.trellis2.cascade import Cascade
from ...models.trellis2.image_condition import AnyCamera, FrontCamera, Pictures, projected_condition
from ...models.trellis2.latents import Latents, TexturedMesh, decode_latents
from ...models.trellis2.runner import Runner
from ..procedural.placement import Placed, make_placed
from ..procedural.volumes import distance_grid, dual_grid
from .data import CELL_VOXELS, REACH, RESOLUTION, draw_picture, on_black
from .rendering import mesh_coverage, mesh_view, true_colors, turn_matrix

POINTS, DENSE = 8000, 100_000  # points asked for their distance, and points the distance is measured to
PICTURE = 128


@dataclass(frozen=True)
class Truth:
    """What a result is measured against: voxels of the surface [R, R, R] bool, and its mesh."""

    voxels: Tensor
    mesh: GridMesh

    @classmethod
    def of(cls, placed: Placed) -> Truth:
        distance = distance_grid(placed.primitives, RESOLUTION, REACH / RESOLUTION) * RESOLUTION
        grid = dual_grid(distance)
        return cls(filled(grid.coords), grid_to_mesh(grid.coords, grid.dual, grid.intersected, None, RESOLUTION))


def filled(coords: Tensor, resolution: int = RESOLUTION) -> Tensor:
    """Dense bool grid of voxels coords [N, 3]."""
    grid = torch.zeros([resolution] * 3, dtype=torch.bool)
    grid[tuple(coords.long().T)] = True
    return grid


def make(cascade: Cascade, picture, camera: AnyCamera, seed: int = 0) -> Latents:
    """All latents of one prepared picture by the single-step cascade."""
    config, run = cascade.config, Runner(cascade, seed)
    views = Pictures(cascade.encoder(), [picture])
    coords = run.structure(projected_condition(views, config.stage("ss"), camera), config.lr_resolution)
    cells = coords[:, 1:]
    shape = run.shape("512", coords, projected_condition(views, config.stage("shape_512"), camera, cells))
    texture = run.texture("512", shape, projected_condition(views, config.stage("tex_512"), camera, cells))
    return Latents(coords, None, shape, texture, config.lr_resolution)


def surface_samples(vertices: Tensor, faces: Tensor, count: int = POINTS, seed: int = 0) -> np.ndarray:
    """Points [count, 3], even over the area."""
    corners = vertices[faces.long()].double()
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    rng = np.random.default_rng(seed)
    face = rng.choice(len(faces), count, p=(area / area.sum()).numpy())
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    a, b, c = corners[torch.from_numpy(face)].numpy().transpose(1, 0, 2)
    return (1 - u) * a + u * (1 - v) * b + u * v * c


def surface_distance(found: GridMesh, true: GridMesh, within: float = 0.02) -> tuple[float, float]:
    """Chamfer distance (mean of both directions' mean distances) and F score at `within`.

    Distances are measured to 100 000 points; of two samples of one surface the chamfer distance is about 0.002.
    """
    one = _distances(found, true)
    two = _distances(true, found)
    precision, recall = float((one < within).mean()), float((two < within).mean())
    return float(one.mean() + two.mean()) / 2, 2 * precision * recall / max(precision + recall, 1e-9)


def _distances(start: GridMesh, goal: GridMesh) -> np.ndarray:
    points = surface_samples(start.vertices, start.faces, POINTS, 0)
    return cKDTree(surface_samples(goal.vertices, goal.faces, DENSE, 1)).query(points)[0]


def overlap(found: Tensor, true: Tensor) -> float:
    """Intersection over union of two bool grids."""
    return float((found & true).sum() / (found | true).sum().clamp_min(1))


def coarse(voxels: Tensor) -> Tensor:
    """The occupied cells of a fine bool grid."""
    return F.max_pool3d(voxels.float()[None, None], CELL_VOXELS)[0, 0] > 0


def upright(found: Tensor, true: Tensor) -> bool:
    """Whether none of the other 23 turns of the cube fits better than none."""
    scores = []
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            parity = sum(axes[i] > axes[j] for i in range(3) for j in range(i + 1, 3)) + sum(flips)
            if parity % 2:
                continue
            grid = found.permute(axes).flip([k for k in range(3) if flips[k]])
            scores.append((overlap(grid, true), axes == (0, 1, 2) and not any(flips)))
    return max(scores)[1]


def measure(cascade: Cascade, placed: Placed, seed: int = 0) -> dict[str, float]:
    """All figures of one object; the picture is the one its seed gives."""
    rgba, _ = draw_picture(placed)
    picture = on_black(rgba).float() / 255
    camera = FrontCamera(math.radians(placed.fov))
    started = time.perf_counter()
    latents = make(cascade, picture, camera, seed)
    mesh = decode_latents(cascade, latents)
    seconds = time.perf_counter() - started
    truth = Truth.of(placed)
    cells = filled(latents.structure[:, 1:], RESOLUTION // CELL_VOXELS)
    found = filled(mesh.coords)
    chamfer, score = surface_distance(GridMesh(mesh.vertices, mesh.faces), truth.mesh)
    figures = {
        "structure_iou": overlap(cells, coarse(truth.voxels)),
        "voxel_iou": overlap(found, truth.voxels),
        "chamfer": chamfer,
        "f_score": score,
        "upright": float(upright(coarse(found), coarse(truth.voxels))),
        "seconds": seconds,
    }
    for name, degrees in (("input", 0.0), ("turned", 45.0)):
        colors, coverage = true_colors(placed, degrees, PICTURE)
        turn = turn_matrix(placed.elevation, degrees)
        view = mesh_view(mesh.vertices, mesh.faces, mesh.attributes[:, :3].clamp(0, 1), placed.fov, turn, PICTURE)
        shape = mesh_coverage(mesh.vertices, mesh.faces, placed.fov, turn, PICTURE)
        figures[f"psnr_{name}"] = float(psnr(view.rgb.permute(0, 3, 1, 2), colors.permute(2, 0, 1)[None]).mean())
        gray = (coverage * 0.5)[..., None].expand(-1, -1, 3)
        figures[f"gray_{name}"] = float(psnr(gray.permute(2, 0, 1)[None], colors.permute(2, 0, 1)[None]).mean())
        figures[f"silhouette_{name}"] = overlap(shape > 0.5, coverage > 0.5)
    return figures


def decoder_figures(cascade: Cascade, placed: Placed, code) -> dict[str, float]:
    """What the decoders and the shape flow do when they are given the true tokens, and the mean latent for comparison.

    code: the `LinearCode` of the shape latents.
    """
    from .latents import occupied_cells, structure_latent, windows

    truth = Truth.of(placed)
    distance = distance_grid(placed.primitives, RESOLUTION, REACH / RESOLUTION) * RESOLUTION
    occupied = occupied_cells(distance[None])[0]
    cells = torch.nonzero(occupied)
    coords = F.pad(cells, (1, 0)).int()
    exact = code.encode(windows(distance, cells))
    decoder = cascade.get("sparse_structure_decoder")
    with torch.no_grad():
        structure = decoder(structure_latent(distance[None]))[0, 0] > 0
    camera = FrontCamera(math.radians(placed.fov))
    rgba, _ = draw_picture(placed)
    views = Pictures(cascade.encoder(), [on_black(rgba).float() / 255])
    cond = projected_condition(views, cascade.config.stage("shape_512"), camera, cells.int())
    flow = Runner(cascade, 0).shape("512", coords, cond)
    figures = {"structure_vae_iou": overlap(structure, occupied)}
    for name, feats in (("vae", exact), ("flow", flow.feats), ("mean", torch.zeros_like(exact))):
        mesh = decode_shape(cascade, coords, feats)
        if mesh is None:
            continue
        voxels, surface = mesh
        figures[f"{name}_iou"] = overlap(voxels, truth.voxels)
        if len(surface.faces):
            figures[f"{name}_chamfer"], figures[f"{name}_f_score"] = surface_distance(surface, truth.mesh)
    return figures


@torch.no_grad()
def decode_shape(cascade: Cascade, coords: Tensor, feats: Tensor) -> tuple[Tensor, GridMesh] | None:
    """Voxels [R, R, R] bool and mesh of shape latents feats [N, C] on coords [N, 4]; None where nothing is left."""
    from ...models.trellis2.sc_vae import shape_head
    from ...scene.errors import InputError
    from ...scene.sparse import SparseTensor

    try:
        out = cascade.get("shape_slat_decoder")(SparseTensor(feats, coords))
    except InputError:
        return None
    dual, flags, split = shape_head(out.voxels.feats)
    fine = out.voxels.coords[:, 1:].contiguous()
    return filled(fine), grid_to_mesh(fine, dual, flags, split, RESOLUTION)


def measure_all(
    cascade: Cascade,
    indices: list[tuple[str, int]],
    code,
    callback: Callable[[int, int], None] | None = None,
    noises: int = 1,
) -> Iterator[dict]:
    """Figures of objects given by kind and seed, made from `noises` different noises: one row each."""
    for number, (kind, seed) in enumerate(indices):
        placed = make_placed(kind, seed)
        for noise in range(noises):
            row = {"kind": kind, "seed": seed, "noise": noise} | measure(cascade, placed, seed=noise)
            yield row | (decoder_figures(cascade, placed, code) if noise == 0 else {})
        if callback:
            callback(number + 1, len(indices))


def summary(rows: list[dict]) -> dict[str, tuple[float, float, int]]:
    """Mean, standard error and count of every figure."""
    found = {}
    for name in dict.fromkeys(key for row in rows for key in row if key not in ("kind", "seed", "noise")):
        values = np.array([row[name] for row in rows if name in row])
        found[name] = (float(values.mean()), float(values.std() / max(1, len(values)) ** 0.5), len(values))
    return found


__all__ = ["TexturedMesh", "Truth", "make", "measure", "measure_all", "summary"]
