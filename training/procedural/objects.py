"""The catalogue of procedural objects: kind and seed in, a list of primitives inside the ball of radius 0.5 out."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError
from . import furniture, scenery, things, vehicles
from .primitives import Primitive

BUILDERS = {**vehicles.BUILDERS, **furniture.BUILDERS, **things.BUILDERS, **scenery.BUILDERS}
HELD_OUT_KINDS = ("snowman",)
KINDS = tuple(kind for kind in BUILDERS if kind not in HELD_OUT_KINDS)
RADIUS = 0.5


@dataclass(frozen=True)
class ProceduralObject:
    """A named object: primitives in its own frame (right-handed, Z up), inside the ball of radius 0.5 at the origin."""

    kind: str
    seed: int
    primitives: tuple[Primitive, ...]

    def sdf(self, points: Tensor) -> Tensor:
        """Signed distance of points [..., 3] to the union of the primitives; returns [...]."""
        return torch.stack([p.sdf(points) for p in self.primitives]).amin(0)


def make_object(kind: str, seed: int) -> ProceduralObject:
    """Build one object; the same kind and seed always give the same object.

    ``kind`` is one of ``KINDS`` or ``HELD_OUT_KINDS``, ``seed`` any non-negative integer. Every kind draws its own
    proportions, options and colors. Raises InputError for an unknown kind or a negative seed.
    """
    if kind not in BUILDERS:
        raise InputError(f"`kind` is {kind!r}, which is not drawn here; use one of {', '.join(BUILDERS)}.")
    if seed < 0:
        raise InputError(f"`seed` is {seed}; use a number from 0 up.")
    rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
    primitives = BUILDERS[kind](rng)
    return ProceduralObject(kind, seed, fit(primitives, RADIUS * rng.uniform(0.9, 1.0)))


def fit(primitives: list[Primitive], radius: float) -> tuple[Primitive, ...]:
    """Move the middle of the bounding box to the origin and scale so that the farthest point is at ``radius``."""
    points = torch.cat([p.bounds_points() for p in primitives])
    middle = (points.amin(0) + points.amax(0)) / 2
    factor = radius / float((points - middle).norm(dim=1).max())
    offset = tuple((-middle).tolist())
    return tuple(p.moved(offset, factor) for p in primitives)
