import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels.dual_grid import _components, find_quads, grid_to_fans, grid_to_mesh
from sightline.scene.errors import InputError

AROUND = (  # corners of the quad of each edge axis, from the reference frame of the flagged voxel
    ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)),
)


def grid_of(inside):
    """The dual grid of a bool field [R+1, R+1, R+1] at the grid's corners: coords [N, 3], flags [N, 3]."""
    r = inside.shape[0] - 1
    flags = torch.zeros(r, r, r, 3, dtype=torch.bool)
    active = torch.zeros(r, r, r, dtype=torch.bool)
    for axis in range(3):
        upper = [slice(1, None)] * 3
        lower = [slice(1, None) if a != axis else slice(0, -1) for a in range(3)]
        flags[..., axis] = inside[tuple(upper)] != inside[tuple(lower)]
        for step in AROUND[axis]:
            moved = torch.zeros_like(active)
            moved[tuple(slice(s, None) for s in step)] = flags[tuple(slice(0, r - s) for s in step)][..., axis]
            active |= moved
    coords = torch.nonzero(active)
    return coords.to(torch.int32), flags[tuple(coords.unbind(1))]


def corners(resolution):
    line = torch.linspace(-0.5, 0.5, resolution + 1)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)


def ball(resolution, radius, center=(0.0, 0.0, 0.0)):
    return (corners(resolution) - torch.tensor(center)).norm(dim=-1) < radius


def torus(resolution, radius=0.27, thickness=0.12):
    p = corners(resolution)
    return ((p[..., :2].norm(dim=-1) - radius) ** 2 + p[..., 2] ** 2).sqrt() < thickness


def volume(mesh):
    a, b, c = mesh.vertices.double()[mesh.faces.long()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def directed_edges(faces):
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()


def extract(inside, seed=0, keep=None, **options):
    coords, flags = grid_of(inside)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(coords), generator=generator)
    if keep is not None:
        order = order[: int(keep * len(order))]
    dual = torch.rand(len(coords), 3, generator=generator)
    weight = torch.rand(len(coords), generator=generator)
    return grid_to_mesh(coords[order], dual[order], flags[order], weight[order], inside.shape[0] - 1, **options)


@pytest.mark.parametrize("solid", [ball(16, 0.4), torus(16), ball(12, 0.3, (0.1, -0.05, 0.02))])
def test_closed_surfaces_are_wound_consistently_and_outwards(solid):
    mesh = extract(solid)
    edges = directed_edges(mesh.faces)
    assert len(set(map(tuple, edges))) == len(edges)  # no edge is run along twice in one direction
    assert {(b, a) for a, b in edges} == set(map(tuple, edges))  # every edge has its opposite
    cells = float(solid[1:, 1:, 1:].sum()) / (solid.shape[0] - 1) ** 3
    assert volume(mesh) == pytest.approx(cells, rel=0.25)
    released = extract(solid, as_released=True)
    assert abs(volume(released)) < 0.3 * volume(mesh)


def test_the_wall_of_a_cavity_faces_into_the_cavity():
    outer, inner = ball(24, 0.42), ball(24, 0.2)
    shell = extract(outer & ~inner)
    assert volume(shell) == pytest.approx(volume(extract(outer)) - volume(extract(inner)), rel=0.05)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.97]))
@settings(max_examples=15, deadline=None)
def test_with_voxels_missing_neighbors_still_agree(seed, keep):
    mesh = extract(ball(10, 0.35), seed, keep)
    count = {}
    for a, b in directed_edges(mesh.faces):
        count.setdefault((min(a, b), max(a, b)), []).append(a < b)
    assert all(uses[0] != uses[1] for uses in count.values() if len(uses) == 2)


def test_an_open_bowl_faces_away_from_its_middle():
    coords, flags = grid_of(ball(20, 0.4))
    lower = coords[:, 2] < 8  # no line along z crosses twice any more
    dual = torch.full((int(lower.sum()), 3), 0.5)
    mesh = grid_to_mesh(coords[lower], dual, flags[lower], None, 20)
    points = mesh.vertices[mesh.faces.long()]
    normal = torch.linalg.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    assert float(((points.mean(1) * normal).sum(1) > 0).float().mean()) > 0.95


@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=25, deadline=None)
def test_quads_are_those_of_the_definition(seed, density):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.nonzero(torch.rand(4, 4, 4, generator=generator) < density).to(torch.int32)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    flags = torch.rand(len(coords), 3, generator=generator) < 0.6
    rows = {tuple(c): i for i, c in enumerate(coords.tolist())}
    expected = []
    for i, c in enumerate(coords.tolist()):
        for axis in range(3):
            quad = [rows.get(tuple(a + b for a, b in zip(c, step))) for step in AROUND[axis]]
            if flags[i, axis] and None not in quad:
                expected.append((quad, i, axis))
    quads, owner, axis = find_quads(coords, flags)
    assert [(q, o, a) for q, o, a in zip(quads.tolist(), owner.tolist(), axis.tolist())] == expected


def test_split_weights_choose_the_diagonal():
    coords = torch.tensor(AROUND[2], dtype=torch.int32)
    flags = torch.zeros(4, 3, dtype=torch.bool)
    flags[0, 2] = True
    for weight, diagonal in (([2.0, 1, 2, 1], {0, 2}), ([1.0, 2, 1, 2], {1, 3}), ([1.0, 1, 1, 1], {1, 3})):
        mesh = grid_to_mesh(coords, torch.rand(4, 3), flags, torch.tensor(weight), 2)
        assert set(mesh.faces[0].tolist()) & set(mesh.faces[1].tolist()) == diagonal
        assert set(mesh.faces.flatten().tolist()) == {0, 1, 2, 3}


def test_without_weights_the_flatter_diagonal_is_chosen():
    coords = torch.tensor(AROUND[2], dtype=torch.int32)
    flags = torch.zeros(4, 3, dtype=torch.bool)
    flags[0, 2] = True
    for bent, diagonal in ((0, {1, 3}), (1, {0, 2})):  # a lifted corner 0 is cut off by the diagonal 1-3
        dual = torch.full((4, 3), 0.5)
        dual[bent, 2] = 0.9
        mesh = grid_to_mesh(coords, dual, flags, None, 2)
        assert set(mesh.faces[0].tolist()) & set(mesh.faces[1].tolist()) == diagonal
        released = grid_to_mesh(coords, dual, flags, None, 2, as_released=True)
        assert set(released.faces[0].tolist()) & set(released.faces[1].tolist()) == {0, 2}


def test_vertices_lie_where_the_grid_says():
    coords = torch.tensor([[0, 0, 0], [3, 1, 2]], dtype=torch.int32)
    dual = torch.tensor([[0.0, 0.5, 1.0], [1.5, -0.5, 0.25]])
    mesh = grid_to_mesh(coords, dual, torch.zeros(2, 3, dtype=torch.bool), None, 4)
    assert mesh.faces.shape == (0, 3)
    assert mesh.vertices.tolist() == [[-0.5, -0.375, -0.25], [0.625, -0.375, 0.0625]]
    boxed = grid_to_mesh(coords, dual, torch.zeros(2, 3, dtype=torch.bool), None, 4, aabb=((0, 0, 0), (4, 8, 4)))
    assert boxed.vertices[1].tolist() == [4.5, 1.0, 2.25]


def test_fans_cover_the_same_surface_and_carry_gradients():
    coords, flags = grid_of(ball(6, 0.4))
    dual = torch.rand(len(coords), 3, requires_grad=True)
    weight = (torch.rand(len(coords)) + 0.1).requires_grad_()
    fans = grid_to_fans(coords, dual, flags, weight, 6)
    quads, _, _ = find_quads(coords, flags)
    assert len(fans.vertices) == len(coords) + len(quads) and len(fans.faces) == 4 * len(quads)
    points = fans.vertices[fans.faces.long()]
    area = torch.linalg.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]).norm(dim=1).sum()
    area.backward()
    assert float(dual.grad.abs().sum()) > 0 and float(weight.grad.abs().sum()) > 0
    middle = fans.vertices[len(coords)]
    ends = [(fans.vertices[quads[0, i]] + fans.vertices[quads[0, i + 2]]) / 2 for i in range(2)]
    w = weight[quads[0]]
    share = w[0] * w[2] / (w[0] * w[2] + w[1] * w[3])
    torch.testing.assert_close(middle, share * ends[0] + (1 - share) * ends[1])


def test_a_moebius_strip_is_recognised():
    first = torch.tensor([0, 1, 2])
    second = torch.tensor([1, 2, 0])
    _, _, two_sided = _components(4, first, second, torch.tensor([True, True, False]))
    assert two_sided.tolist() == [False, True]
    component, flipped, two_sided = _components(4, first, second, torch.tensor([False, True, False]))
    assert two_sided.all() and component.tolist() == [0, 0, 0, 1]
    assert bool(flipped[1] != flipped[0]) and bool(flipped[1] == flipped[2])


@pytest.mark.parametrize(
    "rows, flag_type, resolution, said",
    [
        ([], torch.bool, 4, "no voxel"),
        ([[0, 0, 4]], torch.bool, 4, r"0\.\.3"),
        ([[0, 0, -1]], torch.bool, 4, r"-1\.\."),
        ([[0, 0, 1], [0, 0, 1]], torch.bool, 4, "twice"),
        ([[0, 0, 1]], torch.float32, 4, "flags bool"),
    ],
)
def test_unusable_grids_are_named(rows, flag_type, resolution, said):
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 3)
    with pytest.raises(InputError, match=said):
        grid_to_mesh(
            coords, torch.zeros(len(coords), 3), torch.zeros(len(coords), 3, dtype=flag_type), None, resolution
        )
