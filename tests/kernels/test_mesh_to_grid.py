import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sightline.kernels import mesh_to_grid as module
from sightline.kernels.dual_grid import find_quads, grid_to_mesh
from sightline.kernels.mesh_to_grid import mesh_to_grid
from sightline.scene.errors import InputError


def tensors(mesh):
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


def turned(mesh, seed):
    mesh = mesh.copy()
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(torch.rand(3, generator=seeded(seed)).numpy()))
    mesh.apply_translation((torch.rand(3, generator=seeded(seed + 1)) * 0.1 - 0.05).numpy())
    return mesh


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def box(seed=0, size=0.5):
    return turned(trimesh.creation.box((size, size * 0.8, size * 1.1)), seed)


def crossed_edges(vertices, faces, resolution):
    """Every grid edge a triangle passes through, by intersecting segment and triangle: {(i, j, k, axis)}."""
    corners = (vertices.double() + 0.5)[faces.long()] * resolution
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    found = set()
    line = torch.arange(resolution - 1)
    for axis in range(3):
        for i in line.tolist():
            for j in line.tolist():
                start = torch.zeros(3, dtype=torch.float64)  # the grid line through the upper corners of cells i, j
                start[(axis + 1) % 3], start[(axis + 2) % 3] = i + 1, j + 1
                way = torch.zeros(3, dtype=torch.float64)
                way[axis] = 1
                height = ((a - start) * normal).sum(1) / normal[:, axis]
                point = start + height[:, None] * way
                sides = [(torch.linalg.cross(q - p, point - p) * normal).sum(1) for p, q in ((a, b), (b, c), (c, a))]
                inside = (sides[0] > 0) & (sides[1] > 0) & (sides[2] > 0)
                for z in height[inside].floor().long().tolist():
                    cell = [0, 0, 0]
                    cell[axis], cell[(axis + 1) % 3], cell[(axis + 2) % 3] = z, i, j
                    found.add((*cell, axis))
    return found


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_the_flags_are_the_crossed_edges_and_the_voxels_surround_them(seed):
    vertices, faces = tensors(box(seed))
    grid = mesh_to_grid(vertices, faces, 9)
    rows, axes = torch.nonzero(grid.intersected, as_tuple=True)
    flags = {(*grid.coords[r].tolist(), a) for r, a in zip(rows.tolist(), axes.tolist())}
    assert flags == crossed_edges(vertices, faces, 9)
    quads, _, _ = find_quads(grid.coords, grid.intersected)
    assert len(quads) == len(flags) and set(quads.flatten().tolist()) == set(range(len(grid.coords)))


@pytest.mark.parametrize("shape", ["sphere", "torus", "box"])
def test_there_and_back_is_the_same_closed_body(shape):
    mesh = {
        "sphere": trimesh.creation.icosphere(subdivisions=3, radius=0.4),
        "torus": trimesh.creation.torus(0.3, 0.12),
        "box": trimesh.creation.box((0.6, 0.5, 0.55)),
    }[shape]
    vertices, faces = tensors(turned(mesh, 3))
    grid = mesh_to_grid(vertices, faces, 32)
    back = grid_to_mesh(grid.coords, grid.dual, grid.intersected, None, 32)
    quads, _, _ = find_quads(grid.coords, grid.intersected)
    uses = torch.stack([quads, quads.roll(-1, 1)], -1).view(-1, 2).sort(1).values.unique(dim=0, return_counts=True)[1]
    # only around an edge that is crossed twice, and therefore flagged, a quad stands without its counterpart
    assert int((uses % 2 == 1).sum()) <= 4 * crossed_twice(vertices, faces, 32)
    body = trimesh.Trimesh(back.vertices.numpy(), back.faces.numpy(), process=False)
    assert body.is_winding_consistent
    assert body.volume == pytest.approx(mesh.volume, rel=0.02)
    surface, _ = trimesh.sample.sample_surface(trimesh.Trimesh(vertices.numpy(), faces.numpy()), 100_000, seed=0)
    assert float(cKDTree(surface).query(body.vertices)[0].max()) < 0.35 / 32


def crossed_twice(vertices, faces, resolution):
    corners = vertices[faces.long()] + 0.5
    size, count = torch.full((3,), 1 / resolution), torch.full((3,), resolution)
    total = 0
    for axis in range(3):
        cells = module._crossings(corners, axis, size, count).cell
        total += int((cells.unique(dim=0, return_counts=True)[1] % 2 == 0).sum())
    return total


def test_corners_and_edges_stay_sharp():
    vertices, faces = tensors(box(5))
    grid = mesh_to_grid(vertices, faces, 16, regularization=1e-4)
    points = (grid.coords + grid.dual) / 16 - 0.5
    to_corner = torch.cdist(vertices, points).amin(1)
    assert float(to_corner.max()) < 0.02 / 16
    rounded = mesh_to_grid(vertices, faces, 16, regularization=10.0)
    away = torch.cdist(vertices, (rounded.coords + rounded.dual) / 16 - 0.5).amin(1)
    assert float(away.mean()) > 0.1 / 16


def test_vertices_of_an_open_border_are_drawn_to_it():
    square = trimesh.Trimesh([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0.3, 0.3, 0], [-0.3, 0.3, 0]], [[0, 1, 2], [0, 2, 3]])
    vertices, faces = tensors(turned(square, 8))
    edges = [(vertices[i], vertices[(i + 1) % 4]) for i in range(4)]

    def mean_distance(weight):
        grid = mesh_to_grid(vertices, faces, 12, boundary_weight=weight)
        points = (grid.coords + grid.dual) / 12 - 0.5
        distances = []
        for a, b in edges:
            along = (b - a) / (b - a).norm()
            t = ((points - a) @ along).clamp(0, float((b - a).norm()))
            distances.append((points - a - t[:, None] * along).norm(dim=1))
        nearest = torch.stack(distances).amin(0)
        return float(nearest[nearest < 0.6 / 12].mean())

    assert mean_distance(5.0) < 0.5 * mean_distance(0.0)


def test_the_face_weight_counts_and_as_released_only_switches():
    vertices, faces = tensors(trimesh.creation.icosphere(subdivisions=2, radius=0.4))
    options = dict(boundary_weight=0.0)
    one, three = (mesh_to_grid(vertices, faces, 10, face_weight=w, **options).dual for w in (1.0, 3.0))
    released = [mesh_to_grid(vertices, faces, 10, face_weight=w, as_released=True, **options).dual for w in (1.0, 3.0)]
    assert torch.equal(released[0], released[1]) and torch.equal(released[0], one)
    assert float((one - three).abs().max()) > 1e-3
    assert not torch.equal(one, mesh_to_grid(vertices, faces, 10, face_weight=0.0, **options).dual)


def test_triangles_overlap_the_voxels_their_points_lie_in():
    vertices, faces = tensors(box(11))
    size, count = torch.full((3,), 1 / 13), torch.full((3,), 13)
    corners = vertices[faces.long()] + 0.5
    edges = corners.roll(-1, 1) - corners
    normals = torch.nn.functional.normalize(torch.linalg.cross(edges[:, 0], edges[:, 1]), dim=1)
    found = set()
    for triangle, cell in module._overlaps(corners, edges, normals, size, count):
        found |= {(t, *c) for t, c in zip(triangle.tolist(), cell.tolist())}
    weight = torch.rand(len(faces), 4000, 3, generator=seeded(1)).sqrt()
    weight = weight / weight.sum(2, keepdim=True)
    inside = ((weight @ corners) * 13).floor().long()
    sampled = {(t, *c) for t in range(len(faces)) for c in inside[t].unique(dim=0).tolist()}
    assert sampled <= found
    centers = torch.tensor([row[1:] for row in found]) + 0.5  # and no voxel is far from its triangle
    normal = normals[[row[0] for row in found]]
    distance = ((centers / 13 - corners[[row[0] for row in found], 0]) * normal).sum(1).abs()
    assert bool((distance <= normal.abs().sum(1) / 26 + 1e-6).all())


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_no_point_of_the_voxel_is_better_than_the_constrained_minimum(seed, rank):
    generator = seeded(seed)
    planes = torch.randn(20, rank, 4, generator=generator, dtype=torch.float64)
    form = planes.mT @ planes  # singular for a rank below 3
    bottom = torch.rand(20, 3, generator=generator, dtype=torch.float64)
    top = bottom + 0.2 + torch.rand(20, 3, generator=generator, dtype=torch.float64)
    best = module._constrained_minimum(form, (bottom + top) / 2, bottom, top)
    assert bool(((best >= bottom) & (best <= top)).all())

    def value(points):
        points = torch.nn.functional.pad(points, (0, 1), value=1.0)
        return torch.einsum("nsi,nij,nsj->ns", points, form, points)

    share = torch.rand(20, 500, 3, generator=generator, dtype=torch.float64)
    share = torch.where(
        torch.rand(20, 500, 3, generator=generator) < 0.3, share.round(), share
    )  # faces, edges, corners
    others = bottom[:, None] + share * (top - bottom)[:, None]
    assert bool((value(best[:, None]) <= value(others) + 1e-9).all())


def test_chunks_do_not_matter(monkeypatch):
    vertices, faces = tensors(trimesh.creation.icosphere(subdivisions=1, radius=0.4))
    whole = mesh_to_grid(vertices, faces, 20)
    monkeypatch.setattr(module, "CHUNK", 50)
    parts = mesh_to_grid(vertices, faces, 20)
    assert torch.equal(whole.coords, parts.coords) and torch.equal(whole.intersected, parts.intersected)
    torch.testing.assert_close(whole.dual, parts.dual, atol=1e-5, rtol=0)


def test_a_flat_sheet_needs_no_regularization():
    square = trimesh.Trimesh(
        [[-0.3, -0.3, 0.01], [0.3, -0.3, 0.01], [0.3, 0.3, 0.01], [-0.3, 0.3, 0.01]], [[0, 1, 2], [0, 2, 3]]
    )
    grid = mesh_to_grid(*tensors(square), 8, regularization=0.0, boundary_weight=0.0)
    assert len(grid.coords) > 0
    torch.testing.assert_close(
        grid.coords[:, 2] + grid.dual[:, 2], torch.full((len(grid.coords),), 0.51 * 8), atol=1e-4, rtol=0
    )


def test_a_mesh_between_the_grid_lines_gives_no_voxels():
    speck = torch.tensor([[0.01, 0.01, 0.01], [0.012, 0.01, 0.01], [0.01, 0.012, 0.01]])
    grid = mesh_to_grid(speck, torch.tensor([[0, 1, 2]]), 8)
    assert len(grid.coords) == 0 and grid.dual.shape == (0, 3) and grid.intersected.shape == (0, 3)


def test_a_box_of_other_sides_and_a_degenerate_triangle():
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.9)
    vertices, faces = tensors(mesh)
    faces = torch.cat([faces, torch.tensor([[0, 0, 1], [2, 2, 2]], dtype=torch.int32)])
    grid = mesh_to_grid(vertices, faces, (10, 20, 16), aabb=((-1, -1, -1), (1, 1, 1)))
    assert grid.dual.isfinite().all()
    points = (grid.coords + grid.dual) * torch.tensor([0.2, 0.1, 0.125]) - 1
    assert float((points.norm(dim=1) - 0.9).abs().max()) < 0.05


@pytest.mark.parametrize(
    "vertices, faces, resolution, said",
    [
        ([[0, 0, 0.0]], [], 8, "no faces"),
        ([[0, 0, 0.0]], [[0, 0, 1]], 8, r"vertices 0\.\.1"),
        ([[0, 0, 0.0], [0, 0.6, 0], [0.1, 0, 0]], [[0, 1, 2]], 8, "more than the grid"),
        ([[0, 0, 0.0], [0, float("nan"), 0], [0.1, 0, 0]], [[0, 1, 2]], 8, "not finite"),
        ([[0, 0, 0.0]], [[0, 0, 0]], 1, "at least 2"),
    ],
)
def test_unusable_meshes_are_named(vertices, faces, resolution, said):
    with pytest.raises(InputError, match=said):
        mesh_to_grid(torch.tensor(vertices), torch.tensor(faces, dtype=torch.int64).reshape(-1, 3), resolution)
