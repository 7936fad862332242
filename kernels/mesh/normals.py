"""Smooth normals."""

from __future__ import annotations

import numpy as np

from .topology import Array


def smooth_normals(vertices: Array, faces: Array) -> Array:
    """[V, 3] unit normals: those of the faces around each vertex, weighted by their angle there.

    vertices: [V, 3] float64; faces: [F, 3]. Vertices without a face, or whose faces cancel, get +Y.
    """
    corners = vertices[faces]
    edge = np.roll(corners, -1, 1) - corners
    edge /= np.maximum(np.linalg.norm(edge, axis=-1, keepdims=True), 1e-300)
    angle = np.arccos(np.clip(-np.einsum("fkc,fkc->fk", edge, np.roll(edge, 1, 1)), -1, 1))
    normal = np.cross(edge[:, 0], edge[:, 1])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    flat, weight = faces.reshape(-1), angle.reshape(-1)
    total = np.stack([np.bincount(flat, weight * np.repeat(normal[:, k], 3), len(vertices)) for k in range(3)], 1)
    size = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(size > 1e-12, total / np.maximum(size, 1e-12), (0.0, 1.0, 0.0))
