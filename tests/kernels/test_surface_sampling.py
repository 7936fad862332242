"""Closest points, triangle candidates per voxel and texture look-up, against brute force and hand calculation."""

import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels.mesh_to_grid import mesh_to_grid, triangle_cells
from sightline.kernels.surface_sampling import closest_on_triangles, sample_texture, surface_points
from sightline.scene.errors import InputError


def tensors(mesh, seed=0):
    mesh = mesh.copy()
    generator = torch.Generator().manual_seed(seed)
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(torch.rand(3, generator=generator).numpy()))
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["any", "needle", "flat"]))
def test_closest_points_beat_every_sample_of_the_triangle(seed, kind):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randn(8, 3, 3, generator=generator, dtype=torch.float64)
    if kind == "needle":
        corners[:, 2] = corners[:, 1] + 1e-5 * corners[:, 2]
    if kind == "flat":
        corners[:, 2] = 0.3 * corners[:, 0] + 0.7 * corners[:, 1]
    points = torch.randn(8, 3, generator=generator, dtype=torch.float64) * 2
    weights = closest_on_triangles(points, corners)
    assert torch.allclose(weights.sum(1), torch.ones(8, dtype=torch.float64)) and weights.min() >= 0
    found = ((weights[:, :, None] * corners).sum(1) - points).norm(dim=1)
    samples = torch.distributions.Dirichlet(torch.full((3,), 0.5)).sample((2000,)).double()
    others = (torch.einsum("sk,pkc->psc", samples, corners) - points[:, None]).norm(dim=2).amin(1)
    assert bool((found <= others + 1e-6).all())
    assert bool((others - found < 0.3).all())


def test_the_nearest_triangle_of_the_voxel():
    vertices, faces = tensors(trimesh.creation.icosphere(2, 0.4), 1)
    grid = mesh_to_grid(vertices, faces, 16)
    points = (grid.coords + grid.dual) / 16 - 0.5
    face, weights = surface_points(vertices, faces, grid.coords, points, 16)
    assert face.min() >= 0 and face.max() < len(faces)
    corners = vertices[faces.long()]
    found = ((weights[:, :, None] * corners[face]).sum(1) - points).norm(dim=1)
    count, n = len(faces), len(points)
    everywhere = closest_on_triangles(points.repeat_interleave(count, 0), corners.repeat(n, 1, 1))
    nearest = ((everywhere[:, :, None] * corners.repeat(n, 1, 1)).sum(1) - points.repeat_interleave(count, 0)).norm(
        dim=1
    )
    nearest = nearest.view(n, count).amin(1)
    assert bool((found >= nearest - 1e-6).all())
    assert float((found - nearest).max()) < 1 / 16 and float((found - nearest < 1e-6).float().mean()) > 0.95


def test_voxels_apart_from_the_surface_take_the_nearest_triangle():
    vertices = torch.tensor(
        [
            [-0.4, -0.4, 0.01],
            [0.4, -0.4, 0.01],
            [0.0, 0.4, 0.01],
            [-0.4, -0.4, -0.4],
            [-0.3, -0.4, -0.4],
            [-0.4, -0.3, -0.4],
        ]
    )
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    coords = torch.tensor([[8, 8, 9], [8, 8, 15], [1, 1, 3]], dtype=torch.int32)
    points = (coords + 0.5) / 16 - 0.5
    face, weights = surface_points(vertices, faces, coords, points, 16)
    assert face.tolist() == [0, 0, 1]
    where = (weights[:, :, None] * vertices[faces[face]]).sum(1)
    assert torch.allclose(where[0], torch.tensor([0.03125, 0.03125, 0.01]), atol=1e-6)
    with pytest.raises(InputError, match="no face"):
        surface_points(vertices, faces[:0], coords, points, 16)


def test_triangle_cells_cover_points_of_every_triangle():
    vertices, faces = tensors(trimesh.creation.box((0.5, 0.3, 0.6)), 3)
    pairs = {
        (t, *c)
        for triangle, cell in triangle_cells(vertices, faces, 8)
        for t, c in zip(triangle.tolist(), cell.tolist())
    }
    weights = torch.distributions.Dirichlet(torch.ones(3)).sample((200,))
    points = torch.einsum("sk,fkc->fsc", weights, vertices[faces.long()])
    cells = ((points + 0.5) * 8).floor().long()
    for t in range(len(faces)):
        assert {(t, *c) for c in cells[t].tolist()} <= pairs


def test_texture_rows_start_on_top_and_repeat():
    texture = torch.arange(6.0).view(2, 3, 1)
    centers = torch.tensor([[1 / 6, 0.75], [0.5, 0.75], [5 / 6, 0.25], [1 / 6 + 2, -0.25]])
    assert torch.allclose(sample_texture(texture, centers)[:, 0], torch.tensor([0.0, 1.0, 5.0, 0.0]), atol=1e-6)
    between = sample_texture(texture, torch.tensor([[1 / 3, 0.75], [1 / 6, 0.5], [0.0, 0.75]]))
    assert torch.allclose(between[:, 0], torch.tensor([0.5, 1.5, 1.0]), atol=1e-6)


def test_large_footprints_read_averages():
    torch.manual_seed(0)
    texture = torch.rand(64, 32, 3)
    uv = torch.rand(50, 2)
    assert torch.allclose(sample_texture(texture, uv, torch.ones(50)), sample_texture(texture, uv), atol=1e-6)
    whole = sample_texture(texture, uv, torch.full((50,), 1e6))
    assert torch.allclose(whole, texture.mean((0, 1)).expand(50, 3), atol=1e-5)
    half = texture.view(32, 2, 16, 2, 3).mean((1, 3))
    assert torch.allclose(sample_texture(texture, uv, torch.full((50,), 2.0)), sample_texture(half, uv), atol=1e-6)
    mixed = sample_texture(texture, uv, torch.full((50,), 2**0.25))
    assert torch.allclose(mixed, 0.75 * sample_texture(texture, uv) + 0.25 * sample_texture(half, uv), atol=1e-5)
    with pytest.raises(InputError, match=r"\[H, W, C\]"):
        sample_texture(texture[0], uv)
