"""Parts of a mesh that do not count: dust, and shells that no ray reaches from outside.

Meshes are numpy arrays as in `topology`.
"""

from __future__ import annotations

import numpy as np

from .rays import Rays
from .topology import Array, Edges, areas, cross, face_components
from .winding import sample_faces

ASKED = 96  # faces of a component that are asked whether they are seen
RAYS = 32  # of each face to each side


def dust(vertices: Array, faces: Array, part: float, edges: Edges | None = None) -> Array:
    """[F] bool: faces of components with less area than `part` of that of the largest component."""
    number, label = face_components(edges or Edges.of(faces))
    if number == 1:
        return np.zeros(len(faces), bool)
    area = np.bincount(label, areas(vertices, faces), number)
    return (area < part * area.max(initial=0.0))[label]


def hidden(vertices: Array, faces: Array, edges: Edges | None = None, callback=None) -> Array:
    """[F] bool: faces of components of which nothing is seen from outside.

    Rays leave from faces spread over each component, to both sides, evenly over the directions; a component of which
    one ray in a thousand or more meets nothing is seen.
    """
    number, label = face_components(edges or Edges.of(faces))
    if number < 2:
        return np.zeros(len(faces), bool)
    rays, seen = Rays(vertices, faces), np.zeros(number, bool)
    for count in (4, RAYS):  # most components are seen at first sight
        rows = sample_faces(vertices, faces, label, np.flatnonzero(~seen), ASKED)
        normal = cross(vertices, faces[rows])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        origin = vertices[faces[rows]].mean(1)
        for sign in (1, -1):
            free = rays.escapes(origin, sign * normal, count).sum(1)
            share = np.bincount(label[rows], free, number)
            seen |= share > np.bincount(label[rows], minlength=number) * count / 1000
        if callback is not None:
            callback(int(seen.sum()), number)
        if seen.all():
            break
    return ~seen[label]
