import numpy as np
import pytest
from repair_meshes import ball, volume

from sightline.kernels.mesh.remesh import remesh
from sightline.kernels.mesh.shells import hidden
from sightline.kernels.mesh.topology import Counts
from sightline.scene.errors import InputError


@pytest.mark.parametrize("band", [1.0, 1.6])
def test_a_ball_gets_two_shells_and_loses_the_hidden_one(band):
    vertices, faces = ball(20)
    steps = []
    points, triangles, face, weights = remesh(vertices, faces, 40, band=band, callback=lambda *at: steps.append(at))
    counts = Counts.of(triangles)
    assert (counts.border_edges, counts.crowded_edges, counts.conflicting_edges) == (0, 0, 0)
    assert (counts.components, counts.euler) == (2, 4)
    assert steps == sorted(steps) and steps[-1][0] == steps[-1][1]
    radius = np.linalg.norm(points, axis=1)
    assert np.abs(np.abs(radius - 0.5) - band / 40).max() < 0.15 / 40
    outer = triangles[~hidden(points, triangles)]
    assert volume(points, outer) == pytest.approx(4 / 3 * np.pi * (0.5 + band / 40) ** 3, rel=0.02)
    near = (vertices[faces[face]] * weights[..., None]).sum(1)
    assert np.abs(np.linalg.norm(near - points, axis=1) - band / 40).max() < 0.15 / 40


def test_projected_back_it_lies_on_the_surface():
    vertices, faces = ball(20)
    points, _, _, _ = remesh(vertices, faces, 40, project_back=1.0)
    assert np.abs(np.linalg.norm(points, axis=1) - 0.5).max() < 0.004


def test_a_sheet_becomes_a_closed_shell_wherever_it_lies():
    sheet = np.array([[0.0, 0, 0], [3, 0, 0], [3, 2, 0], [0, 2, 0]]) + 50, np.array([[0, 1, 2], [0, 2, 3]])
    points, triangles, _, _ = remesh(*sheet, 48)
    counts = Counts.of(triangles)
    assert (counts.border_edges, counts.components, counts.euler) == (0, 1, 2)
    assert volume(points - 50, triangles) == pytest.approx(3 * 2 * 2 * 3 / 48, rel=0.15)


@pytest.mark.parametrize(("resolution", "band", "sentence"), [(4, 1.0, "`remesh`"), (2000, 1.0, "`remesh`"),
                                                              (32, 9.0, "`band`")])  # fmt: skip
def test_bad_input(resolution, band, sentence):
    with pytest.raises(InputError, match=sentence):
        remesh(*ball(3), resolution, band=band)
    with pytest.raises(InputError, match="one point"):
        remesh(np.zeros((3, 3)), np.array([[0, 1, 2]]), 32)
