"""The mesh operations at toy size: our contenders run, and the figures beside the times are what they say."""

import pytest
import torch

from sightline.cli import bench


@pytest.mark.parametrize(("name", "case"), [("decimate", dict(cells=20)), ("remesh", dict(cells=16, resolution=16))])
def test_ours_runs_and_is_measured(name, case):
    op = bench.operations()[name]
    case = {**case, "device": "cpu"}
    found = op.contenders[0].prepare(case)()
    figures = op.measure(case, {key: value.float() for key, value in found.items()})
    assert figures["faces"] == len(found["faces"]) > 0
    assert 10 < figures["angle p1"] <= 60
    if name == "decimate":
        assert 0 < figures["mean error"] < figures["worst error"] < 1
    else:
        assert figures["bad edges"] == 0


def test_the_surface_is_closed_and_of_the_size_asked():
    from sightline.cli.bench.decimate import bumpy_surface
    from sightline.kernels.mesh.topology import Counts

    vertices, faces = bumpy_surface(40)
    counts = Counts.of(faces.numpy())
    assert (counts.border_edges, counts.conflicting_edges, counts.euler) == (0, 0, 2)
    assert 5 < counts.faces / 40**2 < 8 and vertices.abs().max() < 0.5
    corners = vertices[faces].double()
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.25 < float(volume) < 0.29
