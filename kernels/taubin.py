"""Smoothing that keeps edges and borders, and the division of a mesh among chunks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..scene.errors import InputError


def _edges(faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Edges [E, 2] of a mesh, faces per edge [E], and for every half edge its edge and its face [3F]."""
    faces = faces.long()
    half = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    face = torch.arange(len(faces), device=faces.device).repeat(3)
    edges, place, count = torch.unique(half.sort(1).values, dim=0, return_inverse=True, return_counts=True)
    return edges, count, place, face


def locked_vertices(vertices: Tensor, faces: Tensor, feature_angle: float = 25.0) -> Tensor:
    """[V] bool: vertices on an edge of one face, of more than two faces, or between two faces at more than
    `feature_angle` degrees to each other. Source: GenRecon, specification 11.2."""
    edges, count, place, face = _edges(faces)
    a, b, c = vertices[faces.long()].double().unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    bad = count != 2
    order = torch.argsort(place, stable=True)
    starts = count.cumsum(0) - count
    pair = (count == 2).nonzero().squeeze(1)
    first, second = face[order[starts[pair]]], face[order[starts[pair] + 1]]
    sharp = (normal[first] * normal[second]).sum(1) < math.cos(math.radians(feature_angle))
    bad[pair[sharp]] = True
    locked = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    locked[edges[bad].flatten()] = True
    return locked


def taubin_smooth(
    vertices: Tensor, faces: Tensor, iterations: int, lam: float = 0.5, mu: float = -0.53, feature_angle: float = 25.0
) -> Tensor:
    """Vertices [V, 3] after `iterations` of a step by lam and a step by mu toward the mean of their neighbors.

    Locked vertices (`locked_vertices`) stay. Raises InputError for fewer than 0 iterations. Source: GenRecon,
    specification 11.2.
    """
    if iterations < 0:
        raise InputError(f"{iterations} smoothing iterations were asked for; 0 or more would work.")
    free = ~locked_vertices(vertices, faces, feature_angle)[:, None]
    edges = _edges(faces)[0]
    start, end = torch.cat([edges, edges.flip(1)]).unbind(1)
    degree = torch.bincount(start, minlength=len(vertices)).clamp(min=1)[:, None]
    v = vertices.double()
    for _ in range(iterations):
        for step in (lam, mu):
            mean = torch.zeros_like(v).index_add_(0, start, v[end]) / degree
            moving = free & (degree > 0)
            v = torch.where(moving, v + step * (mean - v), v)
    return v.to(vertices.dtype)


def nearest_chunk(vertices: Tensor, faces: Tensor, centers: Tensor) -> Tensor:
    """[F] int64, the chunk whose center [K, 3] is nearest to the middle of each face."""
    middle = vertices[faces.long()].mean(1)
    return torch.cdist(middle.double(), centers.double()).argmin(1)
