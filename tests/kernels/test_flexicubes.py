"""The surface of a ball, and the tables of cases."""

import torch

from sightline.kernels.flexicubes import CORNERS, EDGES, case_tables, extract_mesh


def ball(size=12, radius=0.35):
    points = torch.cartesian_prod(*[torch.arange(size + 1)] * 3)
    positions = points / size - 0.5
    cells = torch.cartesian_prod(*[torch.arange(size)] * 3)
    corner = cells[:, None] + torch.tensor(CORNERS)
    cubes = (corner[..., 0] * (size + 1) + corner[..., 1]) * (size + 1) + corner[..., 2]
    return positions, positions.norm(dim=1) - radius, cubes, cells


def test_a_ball_is_closed_round_and_wound_outward():
    positions, sdf, cubes, cells = ball()
    vertices, faces, colors = extract_mesh(positions, sdf, cubes, cells, attributes=positions)
    assert (vertices.norm(dim=1) - 0.35).abs().max() < 0.02
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    assert (torch.unique(edges, dim=0, return_counts=True)[1] == 2).all()
    a, b, c = vertices[faces].unbind(1)
    volume = float((a * torch.linalg.cross(b, c)).sum() / 6)
    assert abs(volume - 4 / 3 * torch.pi * 0.35**3) < 0.02
    torch.testing.assert_close(colors, vertices)


def test_nothing_inside_is_an_empty_mesh():
    positions, sdf, cubes, cells = ball()
    vertices, faces, colors = extract_mesh(positions, sdf.abs() + 1, cubes, cells)
    assert len(vertices) == len(faces) == 0 and colors is None


def test_every_crossed_edge_is_in_one_patch():
    patches, count, turn = case_tables()
    for case in range(256):
        inside = [case >> i & 1 for i in range(8)]
        crossed = [e for e, (a, b) in enumerate(EDGES) if inside[a] != inside[b]]
        listed = patches[case][patches[case] >= 0].tolist()
        assert sorted(listed) == crossed and int(count[case]) == int((patches[case, :, 0] >= 0).sum())
    assert int((turn.abs().sum(1) > 0).sum()) == 36
