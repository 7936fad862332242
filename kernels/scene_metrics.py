"""How well a reconstructed scene fits the true one: Chamfer distance, precision, recall, normal consistency.

Distances are in the meshes' unit (meters). Source: GenRecon, specification 15: 200,000 area-uniform samples on each
mesh; the released paper reports the arithmetic mean of precision and recall as its F-score, the usual one is harmonic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..scene.errors import InputError

SAMPLES = 200_000
THRESHOLD = 0.10
NORMAL_REACH = 0.20
ENVELOPE = 0.15


@dataclass(frozen=True)
class SceneScores:
    """chamfer: mean of the two mean nearest distances; precision, recall: shares within the threshold; f_arithmetic as
    in the paper, f_harmonic as usual; normals: mean |n n'| of nearest pairs both ways, 0 for pairs out of reach."""

    chamfer: float
    precision: float
    recall: float
    normals: float

    @property
    def f_arithmetic(self) -> float:
        return (self.precision + self.recall) / 2

    @property
    def f_harmonic(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def sample_mesh(vertices: np.ndarray, faces: np.ndarray, count: int = SAMPLES, seed: int = 0):
    """Points [count, 3] uniform on the area of a mesh and the unit normals [count, 3] of their faces.

    Raises InputError for a mesh without area.
    """
    corners = np.asarray(vertices, dtype=np.float64)[np.asarray(faces, dtype=np.int64)]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    if not double.sum() > 0:
        raise InputError("A mesh without area cannot be measured; give one with faces.")
    draw = np.random.default_rng(seed)
    face = draw.choice(len(faces), count, p=double / double.sum())
    u, v = draw.random((2, count))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    a, b, c = corners[face].transpose(1, 0, 2)
    return a + u * (b - a) + v * (c - a), cross[face] / double[face, None]


def within_envelope(points: np.ndarray, observed: np.ndarray, reach: float = ENVELOPE) -> np.ndarray:
    """[P] bool: which points lie within `reach` of the observed surface points [Q, 3].

    The paper clips predictions to a fused scan dilated by 15 cm and has not released how; this is our construction.
    """
    distance, _ = cKDTree(observed).query(points, distance_upper_bound=reach)
    return np.isfinite(distance)


def scene_scores(
    predicted: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray], threshold: float = THRESHOLD
) -> SceneScores:
    """Scores of samples (points [P, 3], normals [P, 3]) of a prediction against those of the truth.

    Raises InputError where one of them is empty.
    """
    if not len(predicted[0]) or not len(true[0]):
        raise InputError("There is nothing to compare: one of the two scenes has no sample left.")
    forth, at_true = cKDTree(true[0]).query(predicted[0])
    back, at_predicted = cKDTree(predicted[0]).query(true[0])
    agree = np.abs((predicted[1] * true[1][at_true]).sum(1)) * (forth <= NORMAL_REACH)
    agree_back = np.abs((true[1] * predicted[1][at_predicted]).sum(1)) * (back <= NORMAL_REACH)
    return SceneScores(
        float((forth.mean() + back.mean()) / 2),
        float((forth < threshold).mean()),
        float((back < threshold).mean()),
        float((agree.mean() + agree_back.mean()) / 2),
    )
