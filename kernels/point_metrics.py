"""How close two shapes are: Chamfer distance and F-score of points, overlap of voxels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene.errors import InputError


def points_on_mesh(vertices: Tensor, faces: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` points [count, 3] spread evenly over the surface of a mesh, vertices [V, 3], faces [F, 3]."""
    a, b, c = vertices.double()[faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    if len(faces) == 0 or not float(area.sum()) > 0:
        raise InputError("The mesh has no surface; there is nothing to measure.")
    face = torch.multinomial(area, count, replacement=True, generator=generator)
    u, v = torch.rand(2, count, dtype=torch.float64, generator=generator)
    u = u.sqrt()
    return ((1 - u)[:, None] * a[face] + (u * (1 - v))[:, None] * b[face] + (u * v)[:, None] * c[face]).float()


def unit_cube(points: Tensor) -> Tensor:
    """Points [N, 3] moved and scaled so that their bounding box is centered and at most 1 long."""
    low, high = points.amin(0), points.amax(0)
    return (points - (low + high) / 2) / (high - low).max().clamp_min(1e-9)


def nearest_distances(points: Tensor, others: Tensor, chunk: int = 2048) -> Tensor:
    """Distance [N] of every point [N, 3] to the nearest of others [M, 3]."""
    return torch.cat([torch.cdist(part, others).amin(1) for part in points.split(chunk)])


def compare_points(points: Tensor, others: Tensor, threshold: float = 0.05) -> dict[str, float]:
    """Chamfer distance (sum of both mean distances) and F-score at `threshold` of two sets of points [N, 3]."""
    there, back = nearest_distances(points, others), nearest_distances(others, points)
    precision, recall = float((there < threshold).float().mean()), float((back < threshold).float().mean())
    total = precision + recall
    return {
        "chamfer": float(there.mean() + back.mean()),
        "f_score": 2 * precision * recall / total if total else 0.0,
        "precision": precision,
        "recall": recall,
    }


def voxel_iou(first: Tensor, second: Tensor) -> float:
    """Intersection over union of two sets of voxels [N, D] integers, each row once."""
    both = torch.cat([first.long().cpu(), second.long().cpu()])
    union = len(torch.unique(both, dim=0))
    return (len(both) - union) / union if union else 1.0
