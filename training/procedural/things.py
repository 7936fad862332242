"""Mugs, vases and robots; z up."""

from __future__ import annotations

import numpy as np

from .palette import Rng, dark, foliage, glass, metal, neutral, paint, pick, rod, rotation, surface
from .primitives import Box, Ellipsoid, Frustum, Material, Primitive, RoundedBox, Torus


def mug(rng: Rng) -> list[Primitive]:
    glaze = surface(rng)
    r, height = rng.uniform(0.36, 0.45), rng.uniform(0.75, 1.0)
    top = r * rng.uniform(0.95, 1.2)
    parts: list[Primitive] = [Frustum(glaze, (0, 0, height / 2), bottom=r, top=top, height=height)]
    drink = Material(pick(rng, [(0.22, 0.11, 0.05), (0.5, 0.3, 0.12), (0.9, 0.88, 0.82)]), roughness=0.2)
    parts.append(Frustum(drink, (0, 0, height), bottom=top * 0.86, top=top * 0.86, height=0.012))
    for _ in range(int(rng.integers(0, 3))):
        level, thick = rng.uniform(0.15, 0.85), rng.uniform(0.08, 0.25)
        radius = r + (top - r) * level
        low, high = radius - (top - r) * thick / 2 + 0.008, radius + (top - r) * thick / 2 + 0.008
        parts.append(
            Frustum(
                surface(rng),
                (0, 0, height * level),
                bottom=low,
                top=high,
                height=height * min(thick, 0.14 + 0.1 * thick),
            )
        )
    handle = glaze if rng.random() < 0.6 else paint(rng)
    ring = height * rng.uniform(0.24, 0.3)
    turn = rotation("x", 90)
    parts.append(Torus(handle, (r * 1.02, 0, height * 0.5), turn, ring=ring, tube=rng.uniform(0.055, 0.08)))
    return parts


def vase(rng: Rng) -> list[Primitive]:
    glaze, band = surface(rng), surface(rng)
    height = rng.uniform(1.0, 1.4)
    foot, belly, neck, lip = (
        rng.uniform(0.16, 0.28),
        rng.uniform(0.36, 0.52),
        rng.uniform(0.1, 0.22),
        rng.uniform(0.18, 0.32),
    )
    at = rng.uniform(0.3, 0.5)
    knots = np.array([0.0, at * 0.45, at, at + 0.2, 0.82, 1.0])
    radii = np.array([foot, foot + (belly - foot) * 0.75, belly, (belly + neck) * 0.55, neck, lip])
    banded = int(rng.integers(0, 5))
    parts: list[Primitive] = []
    for k in range(5):
        material = band if k == banded or (rng.random() < 0.15) else glaze
        z0, z1 = knots[k] * height, knots[k + 1] * height
        parts.append(
            Frustum(
                material,
                (0, 0, float(z0 + z1) / 2),
                bottom=float(radii[k]),
                top=float(radii[k + 1]),
                height=float(z1 - z0),
            )
        )
    if rng.random() < 0.5:  # flowers
        stem, petal = foliage(rng), paint(rng)
        for _ in range(int(rng.integers(3, 6))):
            angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.3)
            tip = (lean * np.cos(angle), lean * np.sin(angle), height + rng.uniform(0.25, 0.5))
            parts.append(rod((0, 0, height * 0.95), tip, 0.018, stem))
            q = rng.uniform(0.08, 0.13)
            parts.append(Ellipsoid(petal, tip, half=(q, q, q * 0.8)))
    return parts


def robot(rng: Rng) -> list[Primitive]:
    shell, second, joint = surface(rng), surface(rng), pick(rng, [metal, neutral, dark])(rng)
    w, d, h = rng.uniform(0.4, 0.6), rng.uniform(0.3, 0.42), rng.uniform(0.45, 0.6)
    leg, head = rng.uniform(0.25, 0.42), rng.uniform(0.24, 0.34)
    z = leg + h / 2
    parts: list[Primitive] = [RoundedBox(shell, (0, 0, z), half=(d / 2, w / 2, h / 2), radius=0.05)]
    parts.append(rod((0, 0, leg + h), (0, 0, leg + h + 0.08), 0.07, joint))
    top = leg + h + 0.06 + head / 2
    if rng.random() < 0.6:
        parts.append(RoundedBox(second, (0, 0, top), half=(head * 0.5, head * 0.62, head / 2), radius=0.05))
        face = head * 0.5
    else:
        parts.append(Ellipsoid(second, (0, 0, top), half=(head * 0.56, head * 0.6, head * 0.58)))
        face = head * 0.5
    eye = Material(pick(rng, [(0.1, 0.9, 1.0), (1.0, 0.9, 0.2), (1.0, 0.2, 0.15), (0.05, 0.05, 0.08)]), roughness=0.2)
    for side in (-1, 1):
        parts.append(Ellipsoid(eye, (face, side * head * 0.26, top + 0.03), half=(0.035, 0.055, 0.055)))
        y = side * (w / 2 + 0.08)
        parts.append(
            rod(
                (0, y, leg + h * 0.92),
                (rng.uniform(0, 0.2), y + side * rng.uniform(0, 0.12), leg + h * 0.2),
                0.065,
                joint,
            )
        )
        parts.append(Ellipsoid(second, (0, side * (w / 2 + 0.05), leg + h * 0.9), half=(0.1, 0.1, 0.1)))
        parts.append(rod((0, side * w * 0.26, 0.06), (0, side * w * 0.26, leg), 0.075, joint))
        parts.append(RoundedBox(second, (0.05, side * w * 0.27, 0.06), half=(0.15, 0.1, 0.06), radius=0.03))
    parts.append(Box(eye if rng.random() < 0.5 else glass(rng), (d / 2, 0, z + 0.05), half=(0.012, w * 0.28, h * 0.2)))
    if rng.random() < 0.6:
        parts.append(rod((0, 0, top + head * 0.4), (0, 0, top + head * 0.5 + 0.14), 0.02, joint))
        parts.append(Ellipsoid(paint(rng), (0, 0, top + head * 0.5 + 0.16), half=(0.05, 0.05, 0.05)))
    return parts


BUILDERS = {"mug": mug, "vase": vase, "robot": robot}
