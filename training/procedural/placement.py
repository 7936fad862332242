"""Procedural objects as Pixal3D sees them: turned into the view frame and fitted to the canonical front camera.

View frame: right-handed, x right, y up, z toward the camera, the object inside the cube [-0.5, 0.5]^3. The camera is
the upright one of `kernels.projection.front_camera`, whose picture the cube's middle section fills.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.projection import distance_from_fov, front_camera
from ...scene.cameras import Cameras
from .objects import ProceduralObject, make_object
from .primitives import Primitive, turned

LIMIT = 0.485  # of a coordinate, so that the surface keeps a voxel's distance from the faces of the cube
TO_WORLD = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # view frame -> world of the cameras


@dataclass(frozen=True)
class ViewRanges:
    """Where pictures are taken from; angles in degrees, uniform.

    azimuth: away from the front, to either side; elevation; fov: horizontal field of view; fill: longer side of the
    projected object in picture sides (a crop with Pixal3D's padding of 1.1 gives 1 / 1.1).
    """

    azimuth: float = 70.0
    elevation: tuple[float, float] = (3.0, 30.0)
    fov: tuple[float, float] = (36.0, 52.0)
    fill: tuple[float, float] = (0.88, 0.912)


VIEWS = ViewRanges()


@dataclass(frozen=True)
class Placed:
    """An object in the view frame and how it is seen; azimuth, elevation, fov in degrees."""

    kind: str
    seed: int
    primitives: tuple[Primitive, ...]
    azimuth: float
    elevation: float
    fov: float

    def camera(self, size: int) -> Cameras:
        """The front camera of a picture of size x size, in its own world (Z up)."""
        fov = math.radians(self.fov)
        return front_camera(fov, float(distance_from_fov(fov)), size)

    def in_world(self) -> ProceduralObject:
        """The object in the world of `camera`."""
        return ProceduralObject(self.kind, self.seed, tuple(turned(p, TO_WORLD) for p in self.primitives))


def view_turn(azimuth: float, elevation: float) -> Tensor:
    """Rotation [3, 3] from the object's frame (Z up, front +x) to the view frame; degrees, azimuth 0 sees the front."""
    a, e = math.radians(azimuth), math.radians(elevation)
    toward = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=torch.float64)
    right = torch.tensor([-math.sin(a), math.cos(a), 0.0], dtype=torch.float64)
    return torch.stack([right, torch.linalg.cross(toward, right), toward])


def place(item: ProceduralObject, azimuth: float, elevation: float, fov: float, fill: float) -> Placed | None:
    """Turns the object into the view frame and fits it to the picture; None where it then leaves the cube."""
    parts = [turned(p, view_turn(azimuth, elevation)) for p in item.primitives]
    points = torch.cat([p.outline_points() for p in parts]).double()
    half = math.tan(math.radians(fov) / 2)
    distance = 0.5 / half
    scale, offset = 1.0, torch.zeros(3, dtype=torch.float64)
    for _ in range(8):
        p = scale * (points + offset)
        seen = p[:, :2] / ((distance - p[:, 2:]) * half)
        low, high = seen.amin(0), seen.amax(0)
        depth = (p[:, 2].amin() + p[:, 2].amax()) / 2
        offset = offset - torch.cat([(low + high) / 2 * 0.5, depth[None]]) / scale
        scale *= 2 * fill / float((high - low).max())
    if float((scale * (points + offset)).abs().max()) > LIMIT:
        return None
    shift = tuple(offset.tolist())
    return Placed(item.kind, item.seed, tuple(p.moved(shift, scale) for p in parts), azimuth, elevation, fov)


def make_placed(kind: str, seed: int, ranges: ViewRanges = VIEWS, tries: int = 40) -> Placed:
    """An object of a kind and its view, the same for the same seed.

    Views in which the object would leave the cube are drawn again; a mug is seen from the side of its handle.
    """
    rng = np.random.default_rng([zlib.crc32(b"placed"), zlib.crc32(kind.encode()), seed])
    item = make_object(kind, seed)
    placed = None
    for attempt in range(tries):
        azimuth = rng.uniform(-ranges.azimuth, ranges.azimuth)
        if kind == "mug":
            azimuth = azimuth * 0.8 + rng.choice([-90.0, 90.0])
        elevation, fov = rng.uniform(*ranges.elevation), rng.uniform(*ranges.fov)
        fill = rng.uniform(*ranges.fill) * (1.0 if attempt < tries - 5 else 0.8)
        placed = place(item, float(azimuth), float(elevation), float(fov), float(fill))
        if placed:
            break
    if placed is None:
        placed = place(item, 45.0, 20.0, 40.0, 0.6)
    return placed
