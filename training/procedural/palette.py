"""Materials and small placing helpers the builders share."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import torch
from torch import Tensor

from .primitives import Frustum, Material

Rng = np.random.Generator


def paint(rng: Rng) -> Material:
    """A lively, saturated color of any hue."""
    hue = rng.uniform(0, 1)
    color = colorsys.hsv_to_rgb(hue, rng.uniform(0.65, 1.0), rng.uniform(0.6, 1.0))
    return Material(color, metallic=float(rng.choice([0.0, 0.0, 0.6])), roughness=float(rng.uniform(0.2, 0.6)))


def pastel(rng: Rng) -> Material:
    """A bright, soft color of any hue."""
    color = colorsys.hsv_to_rgb(rng.uniform(0, 1), rng.uniform(0.2, 0.5), rng.uniform(0.75, 0.95))
    return Material(color, roughness=float(rng.uniform(0.5, 0.9)))


def neutral(rng: Rng) -> Material:
    """Light, middle or dark grey, slightly warm or cold."""
    value, tint = rng.choice([0.2, 0.45, 0.7, 0.85]), rng.uniform(-0.04, 0.04)
    return Material((float(value + tint), float(value), float(value - tint)), roughness=float(rng.uniform(0.3, 0.9)))


def surface(rng: Rng) -> Material:
    """What most bodies are made of: paint (most often), pastel, or a neutral grey."""
    return [paint, paint, paint, pastel, neutral][rng.integers(5)](rng)


def wood(rng: Rng) -> Material:
    value = rng.uniform(0.35, 0.8)
    return Material((value, value * rng.uniform(0.6, 0.72), value * rng.uniform(0.3, 0.45)), roughness=0.7)


def metal(rng: Rng) -> Material:
    value = rng.uniform(0.45, 0.75)
    return Material(
        (value, value, value * rng.uniform(0.95, 1.08)), metallic=1.0, roughness=float(rng.uniform(0.15, 0.5))
    )


def dark(rng: Rng) -> Material:
    value = rng.uniform(0.06, 0.18)
    return Material((value, value, value * 1.1), roughness=0.5)


def glass(rng: Rng) -> Material:
    value = rng.uniform(0.12, 0.3)
    return Material((value * 0.8, value, value * 1.35), metallic=0.0, roughness=0.1)


def foliage(rng: Rng) -> Material:
    color = colorsys.hsv_to_rgb(rng.uniform(0.2, 0.42), rng.uniform(0.5, 0.85), rng.uniform(0.4, 0.75))
    if rng.random() < 0.25:  # autumn
        color = colorsys.hsv_to_rgb(rng.uniform(0.02, 0.14), rng.uniform(0.7, 0.95), rng.uniform(0.7, 0.95))
    return Material(color, roughness=0.9)


def rotation(axis: str, degrees: float) -> Tensor:
    """Rotation matrix [3, 3] about one axis, right-handed."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if axis == "x":
        return torch.tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    if axis == "y":
        return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rod(start, end, radius: float, material: Material, end_radius: float | None = None) -> Frustum:
    """A cylinder (or cone frustum) from one point to another."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = b - a
    length = float(np.linalg.norm(axis))
    z = axis / length
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    frame = torch.tensor(np.stack([x, np.cross(z, x), z], 1), dtype=torch.float32)
    return Frustum(
        material=material,
        center=tuple(((a + b) / 2).tolist()),
        rotation=frame,
        bottom=radius,
        top=radius if end_radius is None else end_radius,
        height=length,
    )


def pick(rng: Rng, options):
    """One of ``options``, all equally likely."""
    return options[int(rng.integers(len(options)))]
