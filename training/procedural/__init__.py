"""Procedural objects: named kinds, composed of colored signed-distance primitives, deterministic by seed."""

from .objects import HELD_OUT_KINDS, KINDS, ProceduralObject, make_object
from .primitives import Box, Convex, Ellipsoid, Frustum, Material, Primitive, RoundedBox, Torus
from .render import composite, render_views

__all__ = [
    "HELD_OUT_KINDS",
    "KINDS",
    "ProceduralObject",
    "make_object",
    "Box",
    "Convex",
    "Ellipsoid",
    "Frustum",
    "Material",
    "Primitive",
    "RoundedBox",
    "Torus",
    "composite",
    "render_views",
]
