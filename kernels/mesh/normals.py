"""Smooth normals."""

from __future__ import annotations

import numpy as np
import torch

from ..rows import by_rows
from .topology import Array

SLICE = 1 << 18  # faces whose normals are added at once


def smooth_normals(vertices: Array, faces: Array, facing: Array | None = None) -> Array:
    """[V, 3] unit normals: those of the faces around each vertex, weighted by their angle there.

    vertices: [V, 3] float64; faces: [F, 3]. facing: [V, 3] directions that decide which side of a face is its outside,
    for surfaces wound at random; zero where nothing is known. Vertices without a face, or whose faces cancel, get +Y.
    """
    weight, normal = np.empty(faces.shape), np.empty(faces.shape)

    def compute(rows: slice) -> None:
        place = vertices.take(faces[rows], axis=0)
        edge = np.roll(place, -1, 1) - place
        edge /= np.maximum(np.linalg.norm(edge, axis=-1, keepdims=True), 1e-300)
        weight[rows] = np.arccos(np.clip(-np.einsum("fkc,fkc->fk", edge, np.roll(edge, 1, 1)), -1, 1))
        found = np.cross(edge[:, 0], edge[:, 1])
        normal[rows] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)
        if facing is not None:
            behind = np.einsum("fc,fkc->fk", normal[rows], facing.take(faces[rows], axis=0)) < 0
            weight[rows][behind] *= -1

    by_rows(len(faces), compute)
    total = torch.zeros(len(vertices), 3, dtype=torch.float64)
    for start in range(0, len(faces), SLICE):
        rows = slice(start, start + SLICE)
        given = (weight[rows, :, None] * normal[rows, None]).reshape(-1, 3)
        total.index_add_(0, torch.from_numpy(faces[rows].reshape(-1)), torch.from_numpy(given))
    total = total.numpy()
    size = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(size > 1e-12, total / np.maximum(size, 1e-12), (0.0, 1.0, 0.0))
