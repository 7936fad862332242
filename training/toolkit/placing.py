"""A mesh as Pixal3D sees it: turned into the view frame and fitted to the upright camera in front of it.

View frame: right-handed, x right, y up, z toward the camera, the object inside the cube [-0.5, 0.5]^3.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.projection import distance_from_fov
from ...scene.frames import turn_points
from ..procedural.placement import LIMIT, view_turn

FILL = 1 / 1.1  # the padding of Pixal3D's crop


@dataclass(frozen=True)
class View:
    """How an object is seen: angles in degrees, azimuth 0 at its front (+Z of a glTF file)."""

    azimuth: float
    elevation: float
    fov: float

    @property
    def distance(self) -> float:
        """Of the camera from the middle of the cube."""
        return float(distance_from_fov(math.radians(self.fov)))


def draw_view(sha: str, index: int, azimuth: float, elevation: tuple[float, float], fov: tuple[float, float]) -> View:
    """View `index` of an object, the same for the same object: uniform within +-azimuth, elevation and fov, degrees."""
    rng = np.random.default_rng([zlib.crc32(sha.encode()), index])
    return View(float(rng.uniform(-azimuth, azimuth)), float(rng.uniform(*elevation)), float(rng.uniform(*fov)))


def place_in_view(vertices: Tensor, view: View, fill: float = FILL) -> Tensor:
    """Vertices [V, 3] of a glTF file (Y up, front +Z) in the view frame, float32.

    The larger side of what is seen fills `fill` of the picture, less where the object would then leave the cube.
    """
    points = turn_points(vertices.double(), "y_up_front", "z_up") @ view_turn(view.azimuth, view.elevation).T
    low, high = points.amin(0), points.amax(0)
    points = (points - (low + high) / 2) / (high - low).max()
    half, distance = math.tan(math.radians(view.fov) / 2), view.distance
    scale, offset = 0.9, torch.zeros(3, dtype=torch.float64)
    for _ in range(8):
        placed = scale * (points + offset)
        seen = placed[:, :2] / ((distance - placed[:, 2:]) * half)
        low, high = seen.amin(0), seen.amax(0)
        depth = (placed[:, 2].amin() + placed[:, 2].amax()) / 2
        offset = offset - torch.cat([(low + high) / 4, depth[None]]) / scale
        scale *= 2 * fill / float((high - low).max())
    placed = scale * (points + offset)
    reach = float(placed.abs().max())
    return (placed * min(1.0, LIMIT / reach)).float()
