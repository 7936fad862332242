"""Cleaning of sparse point clouds, as closed formulas on a k-d tree, and their PLY files."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .errors import InputError


def statistical_inliers(points: np.ndarray, neighbors: int = 20, ratio: float = 2.0) -> np.ndarray:
    """Ascending indices of the points whose mean distance to their neighbors is not unusual.

    points: [P, 3] float64. The distance d of a point is the mean over its `neighbors` nearest points, itself (distance
    0) counted; kept are 0 < d < mean(d) + ratio std(d), std with P - 1. Source: GenRecon, specification 8.1.
    """
    _check(points)
    count = min(neighbors, len(points))
    if count < 2:
        return np.arange(0)
    distances, _ = cKDTree(points).query(points, k=count)
    mean = distances.mean(1)
    valid = mean[mean > 0]
    if len(valid) < 2:
        return np.arange(0)
    limit = valid.mean() + ratio * valid.std(ddof=1)
    return np.flatnonzero((mean > 0) & (mean < limit))


def radius_inliers(points: np.ndarray, count: int = 10, radius: float = 0.1) -> np.ndarray:
    """Ascending indices of the points with more than `count` points, themselves included, within `radius`.

    points: [P, 3] float64; radius in their unit. Source: GenRecon, specification 8.1.
    """
    _check(points)
    if not len(points):
        return np.arange(0)
    found = cKDTree(points).query_ball_point(points, radius, return_length=True)
    return np.flatnonzero(found > count)


def _check(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"The points have shape {list(points.shape)}; they must be [P, 3].")
    bad = int((~np.isfinite(points).all(1)).sum())
    if bad:
        raise InputError(f"{bad} of {len(points)} points are not finite numbers; remove or mend them.")


def encode_points(points: np.ndarray, colors: np.ndarray | None = None) -> bytes:
    """The bytes of a binary PLY file of points [P, 3] (float32) with colors [P, 3] uint8; the frame is kept."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    names = ["property float x", "property float y", "property float z"]
    if colors is not None:
        fields += [("r", "u1"), ("g", "u1"), ("b", "u1")]
        names += [f"property uchar {name}" for name in ("red", "green", "blue")]
    rows = np.zeros(len(points), dtype=fields)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
    for axis, name in enumerate("rgb" if colors is not None else ""):
        rows[name] = colors[:, axis]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *names, "end_header"]
    return ("\n".join(head) + "\n").encode() + rows.tobytes()
