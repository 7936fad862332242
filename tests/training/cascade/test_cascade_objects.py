"""Procedural objects on grids: deterministic, fitted to the camera, closed and wound."""

import math

import pytest
import torch

from sightline.kernels.dual_grid import grid_to_mesh
from sightline.kernels.projection import distance_from_fov, front_uv
from sightline.training.cascade.data import KINDS, draw_picture, make_sample, object_of
from sightline.training.cascade.latents import LinearCode, near_cells, occupied_cells, structure_latent, windows
from sightline.training.cascade.rendering import mesh_coverage, true_colors, turn_matrix
from sightline.training.cascade.texture_code import fit_materials
from sightline.training.procedural.placement import make_placed
from sightline.training.procedural.volumes import distance_grid, dual_grid


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same(kind):
    first, second, other = make_sample(kind, 3), make_sample(kind, 3), make_sample(kind, 8)
    for name in ("image", "patches", "distance", "materials"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.fov == second.fov and not torch.equal(first.image, other.image)
    assert len(first.materials) == len(first.grid().coords)


@pytest.mark.parametrize("kind", KINDS)
def test_the_surface_is_closed_and_faces_outwards(kind):
    placed = make_placed(kind, 5)
    grid = dual_grid(distance_grid(placed.primitives, 32, 4 / 32))
    mesh = grid_to_mesh(grid.coords, grid.dual, grid.intersected, None, 32)
    faces = mesh.faces.long()
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward, backward = edges[:, 0] * len(mesh.vertices) + edges[:, 1], edges[:, 1] * len(mesh.vertices) + edges[:, 0]
    assert torch.equal(forward.sort().values, backward.sort().values)  # every edge is run along once each way
    a, b, c = mesh.vertices[faces].double().unbind(1)
    assert float((a * torch.linalg.cross(b, c)).sum()) > 0  # positive volume
    assert float(mesh.vertices.abs().max()) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_object_fills_the_picture_it_is_seen_in(kind):
    placed = make_placed(kind, 7)
    points = torch.cat([p.outline_points() for p in placed.primitives])
    fov = math.radians(placed.fov)
    uv, _ = front_uv(points * 2, fov, distance_from_fov(fov), 1.0, 128)
    low, high = uv.amin(0), uv.amax(0)
    assert 0.8 < float((high - low).max()) / 128 < 0.93
    assert float(((low + high) / 2 - 64).abs().max()) < 1.5
    alpha = draw_picture(placed)[0][..., 3] > 0.5
    columns = torch.nonzero(alpha.any(0)).flatten()
    assert abs(float(columns[0]) - float(low[0])) < 4 and abs(float(columns[-1]) - float(high[0])) < 4


def test_mesh_and_picture_agree():
    placed = make_placed("sofa", 11)
    grid = dual_grid(distance_grid(placed.primitives, 64, 4 / 64))
    mesh = grid_to_mesh(grid.coords, grid.dual, grid.intersected, None, 64)
    for degrees in (0.0, 60.0):
        _, coverage = true_colors(placed, degrees, 96)
        turn = turn_matrix(placed.elevation, degrees)
        found, true = mesh_coverage(mesh.vertices, mesh.faces, placed.fov, turn, 96) > 0.5, coverage > 0.5
        assert float((found & true).sum() / (found | true).sum()) > 0.93


def test_latents_are_linear_and_cover_the_surface():
    samples = [make_sample(*object_of(i, "validation")) for i in range(3)]
    voxels = torch.stack([s.voxels() for s in samples])
    occupied, near = occupied_cells(voxels), near_cells(voxels)
    for k, sample in enumerate(samples):
        expected = torch.zeros(16, 16, 16, dtype=torch.bool)
        expected[tuple((sample.grid().coords // 4).long().T)] = True
        assert torch.equal(occupied[k], expected)
    assert not bool((occupied & ~near).any()) and int(near.sum()) > int(occupied.sum())
    cells = torch.nonzero(near[0])
    rows = windows(voxels[0], cells)
    code, kept = LinearCode.of(rows, 16)
    assert kept > 0.97 and float((code.decode(code.encode(rows)) - rows).square().mean() / rows.var()) < 1.1 * (
        1 - kept
    )
    assert structure_latent(voxels).shape == (3, 16, 8, 8, 8)


def test_material_fit():
    sample = make_sample("mug", 4)
    grid, materials = sample.grid(), sample.materials.float() / 255
    found, known = fit_materials(grid.coords, grid.dual, materials)
    cell = (grid.coords // 4).long()
    local = (grid.coords + grid.dual - cell * 4) / 2 - 1
    coefficients = found[tuple(cell.T)]
    slopes = coefficients[:, 5:].view(-1, 3, 3)
    colors = coefficients[:, :3] + (local[:, :, None] * slopes).sum(1)
    assert float((colors - materials[:, :3]).abs().mean()) < 0.03
    assert int(known.sum()) == len(torch.unique(cell, dim=0)) and bool(
        (found[..., :3].abs().sum(-1) > 0).sum() > known.sum()
    )
