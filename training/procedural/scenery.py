"""Houses, trees and snowmen; z up, standing on the ground."""

from __future__ import annotations

import numpy as np

from .palette import Rng, dark, foliage, glass, neutral, paint, pastel, pick, rod, surface, wood
from .primitives import Box, Convex, Ellipsoid, Frustum, Material, Primitive


def house(rng: Rng) -> list[Primitive]:
    wall, roof = pick(rng, [pastel, surface, neutral])(rng), pick(rng, [paint, surface])(rng)
    x, y, h = rng.uniform(0.45, 0.7), rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.85)
    rise = rng.uniform(0.3, 0.55)
    parts: list[Primitive] = [Box(wall, (0, 0, h / 2), half=(x, y, h / 2))]
    if rng.random() < 0.7:
        gable = [(-x * 1.12, 0.0), (x * 1.12, 0.0), (0.0, rise)]
        parts.append(Convex.prism(gable, y * 1.1, material=roof, center=(0, 0, h)))
    else:
        parts.append(
            Convex.tapered(
                (x * 1.12, y * 1.12, rise / 2), (x * 0.2, y * 0.15), material=roof, center=(0, 0, h + rise / 2)
            )
        )
    door, pane = surface(rng), glass(rng)
    parts.append(Box(door, (rng.uniform(-0.3, 0.3) * x, y, h * 0.26), half=(0.1, 0.015, h * 0.26)))
    for side in (-1, 1):
        parts.append(Box(pane, (side * x * 0.62, y, h * 0.62), half=(0.09, 0.012, 0.1)))
        parts.append(Box(pane, (side * x * 0.45, -y, h * 0.6), half=(0.1, 0.012, 0.1)))
        parts.append(Box(pane, (side * x, 0.0, h * 0.6), half=(0.012, 0.13, 0.1)))
    if rng.random() < 0.6:
        cx, cy = pick(rng, [-1, 1]) * x * 0.5, pick(rng, [-1, 1]) * y * 0.4
        parts.append(Box(paint(rng), (cx, cy, h + rise * 0.7), half=(0.08, 0.08, rise * 0.5)))
    if rng.random() < 0.35:  # garage
        parts.append(Box(wall, (x + 0.2, 0, h * 0.3), half=(0.22, y * 0.8, h * 0.3)))
        parts.append(Box(roof, (x + 0.2, 0, h * 0.62), half=(0.25, y * 0.86, 0.03)))
    if rng.random() < 0.4:
        parts.append(Box(Material((0.35, 0.55, 0.25), roughness=0.9), (0, 0, -0.02), half=(x * 1.3, y * 1.4, 0.02)))
    return parts


def tree(rng: Rng) -> list[Primitive]:
    trunk, leaf = wood(rng), foliage(rng)
    height, r = rng.uniform(0.35, 0.7), rng.uniform(0.07, 0.12)
    parts: list[Primitive] = [Frustum(trunk, (0, 0, height / 2), bottom=r * 1.3, top=r, height=height)]
    style = pick(rng, ["fir", "round", "cloud", "cypress"])
    if style == "fir":
        layers, z, width = int(rng.integers(2, 5)), height * 0.8, rng.uniform(0.4, 0.55)
        for k in range(layers):
            w, cone = width * (1 - 0.22 * k), 0.5
            parts.append(Frustum(leaf, (0, 0, z + cone / 2), bottom=w, top=w * 0.12, height=cone))
            z += cone * 0.58
    elif style == "round":
        q = rng.uniform(0.38, 0.52)
        parts.append(Ellipsoid(leaf, (0, 0, height + q * 0.8), half=(q, q, q * rng.uniform(0.85, 1.2))))
    elif style == "cypress":
        q = rng.uniform(0.6, 0.8)
        parts.append(Ellipsoid(leaf, (0, 0, height + q * 0.7), half=(0.26, 0.26, q)))
    else:
        for _ in range(int(rng.integers(4, 7))):
            q, angle, out = rng.uniform(0.2, 0.32), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
            parts.append(
                Ellipsoid(
                    leaf, (out * np.cos(angle), out * np.sin(angle), height + rng.uniform(0.1, 0.5)), half=(q, q, q)
                )
            )
    if style in ("round", "cloud") and rng.random() < 0.4:
        fruit = paint(rng)
        for _ in range(6):
            angle, z = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5)
            parts.append(
                Ellipsoid(fruit, (0.42 * np.cos(angle), 0.42 * np.sin(angle), height + z), half=(0.06, 0.06, 0.06))
            )
    if rng.random() < 0.3:
        parts.append(Frustum(surface(rng), (0, 0, 0.1), bottom=0.22, top=0.28, height=0.24))
    return parts


def snowman(rng: Rng) -> list[Primitive]:
    snow = Material((0.9, 0.92, 0.95), roughness=0.8) if rng.random() < 0.5 else pastel(rng)
    big, ratio = rng.uniform(0.4, 0.5), rng.uniform(0.68, 0.76)
    radii = [big, big * ratio, big * ratio**2]
    z, parts = 0.0, []
    for k, r in enumerate(radii):
        z += r * (1.0 if k == 0 else 0.8)
        parts.append(Ellipsoid(snow, (0, 0, z), half=(r, r, r * 0.95)))
        z += r * 0.75
    head_z, head = z - radii[2] * 0.75, radii[2]
    parts.append(
        rod((head * 0.85, 0, head_z), (head * 1.8, 0, head_z - 0.02), 0.05, Material((0.95, 0.45, 0.08)), 0.01)
    )
    coal = dark(rng)
    for side in (-1, 1):
        parts.append(Ellipsoid(coal, (head * 0.85, side * head * 0.35, head_z + head * 0.35), half=(0.04, 0.04, 0.04)))
        parts.append(
            rod((0, side * radii[1] * 0.8, big * 2), (0.05, side * (radii[1] + 0.4), big * 2 + 0.25), 0.025, wood(rng))
        )
    for k in range(3):
        parts.append(Ellipsoid(coal, (radii[1] * 0.95, 0, big * 1.75 + 0.13 * k), half=(0.04, 0.04, 0.04)))
    hat, band = pick(rng, [dark, paint])(rng), paint(rng)
    top = head_z + head * 0.75
    parts.append(Frustum(hat, (0, 0, top), bottom=head * 1.15, top=head * 1.15, height=0.05))
    parts.append(Frustum(hat, (0, 0, top + 0.17), bottom=head * 0.75, top=head * 0.7, height=0.32))
    parts.append(Frustum(band, (0, 0, top + 0.06), bottom=head * 0.78, top=head * 0.77, height=0.08))
    parts.append(Frustum(paint(rng), (0, 0, head_z - head * 0.85), bottom=radii[1] * 0.78, top=head * 0.85, height=0.1))
    return parts


BUILDERS = {"house": house, "tree": tree, "snowman": snowman}
