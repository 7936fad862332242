"""Scores of scenes: known numbers for planes and cubes."""

import numpy as np
import pytest

from sightline.kernels.scene_metrics import sample_mesh, scene_scores, within_envelope
from sightline.scene.errors import InputError


def plane(z=0.0, size=2.0):
    v = np.array([[0, 0, z], [size, 0, z], [size, size, z], [0, size, z]])
    return v, np.array([[0, 1, 2], [0, 2, 3]])


def test_samples_are_uniform_on_the_area():
    points, normals = sample_mesh(*plane(1.0), count=20_000)
    assert (points[:, 2] == 1).all() and np.allclose(normals, [0, 0, 1])
    assert np.allclose(points[:, :2].mean(0), 1, atol=0.03) and np.allclose(points[:, :2].var(0), 4 / 12, atol=0.02)
    with pytest.raises(InputError, match="without area"):
        sample_mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))


@pytest.mark.parametrize(("shift", "share"), [(0.05, 1.0), (0.2, 0.0)])
def test_a_shifted_plane(shift, share):
    true, found = sample_mesh(*plane(), count=40_000), sample_mesh(*plane(shift), count=40_000, seed=1)
    scores = scene_scores(found, true)
    assert scores.chamfer == pytest.approx(shift, abs=0.01)
    assert scores.precision == scores.recall == scores.f_arithmetic == scores.f_harmonic == share
    assert scores.normals == pytest.approx(1.0 if shift < 0.2 else 0.0, abs=0.4 if shift == 0.2 else 1e-9)


def test_half_a_plane_has_full_precision_and_half_recall():
    true, half = sample_mesh(*plane(), count=40_000), plane()
    half[0][:, 0] *= 0.5
    scores = scene_scores(sample_mesh(*half, count=20_000), true)
    assert scores.precision == 1.0 and scores.recall == pytest.approx(0.55, abs=0.02)
    assert scores.f_harmonic < scores.f_arithmetic


def test_the_envelope_keeps_what_was_seen():
    points = np.array([[0, 0, 0.1], [0, 0, 0.2], [5.0, 0, 0]])
    np.testing.assert_array_equal(within_envelope(points, np.zeros((1, 3))), [True, False, False])
    with pytest.raises(InputError, match="nothing to compare"):
        scene_scores((points[:0], points[:0]), (points, points))
