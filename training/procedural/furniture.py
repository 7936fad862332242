"""Chairs, tables, sofas and lamps; z up, feet on the ground, chairs and sofas face +x."""

from __future__ import annotations

from .palette import Rng, metal, neutral, pastel, pick, rod, surface, wood
from .primitives import Box, Ellipsoid, Frustum, Primitive, RoundedBox


def _legs(rng: Rng, x: float, y: float, height: float, material, thick: float, splay: float = 0.0) -> list[Primitive]:
    return [
        rod((sx * (x + splay), sy * (y + splay), 0), (sx * x, sy * y, height), thick, material)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def chair(rng: Rng) -> list[Primitive]:
    frame, seat_cover = pick(rng, [wood, surface, metal])(rng), surface(rng)
    width, depth = rng.uniform(0.44, 0.56), rng.uniform(0.42, 0.52)
    seat, back, thick = rng.uniform(0.4, 0.5), rng.uniform(0.42, 0.62), rng.uniform(0.05, 0.09)
    parts: list[Primitive] = [RoundedBox(seat_cover, (0, 0, seat), half=(depth / 2, width / 2, thick / 2), radius=0.02)]
    style = pick(rng, ["legs", "legs", "legs", "office"])
    if style == "legs":
        parts += _legs(
            rng, depth / 2 - 0.04, width / 2 - 0.04, seat, frame, rng.uniform(0.022, 0.036), rng.uniform(0, 0.04)
        )
    else:
        parts.append(rod((0, 0, 0.05), (0, 0, seat), 0.035, frame))
        parts.append(Frustum(frame, (0, 0, 0.03), bottom=width * 0.48, top=0.06, height=0.06))
    xb = -depth / 2 + 0.03
    if rng.random() < 0.65:
        cover = seat_cover if rng.random() < 0.6 else surface(rng)
        parts.append(RoundedBox(cover, (xb, 0, seat + back / 2), half=(0.032, width / 2, back / 2), radius=0.025))
    else:
        for side in (-1, 1):
            y = side * (width / 2 - 0.03)
            parts.append(rod((xb, y, seat), (xb - 0.03, y, seat + back), 0.028, frame))
        slats = int(rng.integers(2, 5))
        for k in range(slats):
            z = seat + back * (k + 1) / slats
            parts.append(Box(seat_cover, (xb - 0.02, 0, z - 0.04), half=(0.018, width / 2 - 0.03, 0.04)))
    if rng.random() < 0.3:
        for side in (-1, 1):
            y = side * (width / 2)
            parts.append(Box(frame, (-0.02, y, seat + 0.2), half=(depth / 2 - 0.02, 0.03, 0.02)))
            parts.append(rod((depth / 2 - 0.06, y, seat), (depth / 2 - 0.06, y, seat + 0.2), 0.02, frame))
    return parts


def table(rng: Rng) -> list[Primitive]:
    top, frame = pick(rng, [wood, surface, surface])(rng), pick(rng, [wood, surface, metal])(rng)
    height, thick = rng.uniform(0.45, 0.75), rng.uniform(0.05, 0.09)
    parts: list[Primitive] = []
    if rng.random() < 0.4:
        r = rng.uniform(0.45, 0.6)
        parts.append(Frustum(top, (0, 0, height), bottom=r, top=r, height=thick))
        x = y = r * 0.6
    else:
        x, y = rng.uniform(0.35, 0.5), rng.uniform(0.5, 0.75)
        parts.append(Box(top, (0, 0, height), half=(x, y, thick / 2)))
        x, y = x - 0.06, y - 0.06
    if rng.random() < 0.65:
        parts += _legs(rng, x, y, height, frame, rng.uniform(0.03, 0.055), rng.uniform(0, 0.06))
        if rng.random() < 0.4:
            parts.append(Box(surface(rng), (0, 0, height * 0.35), half=(x, y, 0.02)))
    else:
        parts.append(rod((0, 0, 0.05), (0, 0, height), rng.uniform(0.05, 0.1), frame))
        parts.append(Frustum(frame, (0, 0, 0.03), bottom=min(x, y) * 0.9, top=min(x, y) * 0.5, height=0.06))
    if rng.random() < 0.35:  # something on it
        r = rng.uniform(0.08, 0.13)
        parts.append(
            Ellipsoid(
                surface(rng),
                (rng.uniform(-0.1, 0.1), rng.uniform(-0.2, 0.2), height + thick / 2 + r * 0.9),
                half=(r, r, r),
            )
        )
    return parts


def sofa(rng: Rng) -> list[Primitive]:
    cover = surface(rng)
    cushion = cover if rng.random() < 0.4 else surface(rng)
    width, depth = rng.uniform(1.1, 1.9), rng.uniform(0.65, 0.8)
    seat, back, arm = rng.uniform(0.3, 0.38), rng.uniform(0.65, 0.85), rng.uniform(0.12, 0.2)
    foot = rng.uniform(0.05, 0.12)
    parts: list[Primitive] = [
        RoundedBox(cover, (0, 0, foot + seat / 2 - 0.03), half=(depth / 2, width / 2, seat / 2 - 0.03), radius=0.04),
        RoundedBox(cover, (-depth / 2 + 0.09, 0, foot + back / 2), half=(0.11, width / 2, back / 2), radius=0.07),
    ]
    for side in (-1, 1):
        y = side * (width / 2 - arm / 2)
        h = seat + rng.uniform(0.14, 0.16)
        parts.append(RoundedBox(cover, (0, y, foot + h / 2), half=(depth / 2, arm / 2, h / 2), radius=0.05))
    seats = max(1, round((width - 2 * arm) / 0.6))
    w = (width - 2 * arm) / seats
    for k in range(seats):
        y = -width / 2 + arm + w * (k + 0.5)
        parts.append(
            RoundedBox(cushion, (0.08, y, foot + seat), half=(depth / 2 - 0.11, w / 2 - 0.01, 0.07), radius=0.05)
        )
    if rng.random() < 0.5:
        y = pick(rng, [-1, 1]) * (width / 2 - arm - 0.18)
        parts.append(RoundedBox(surface(rng), (-0.06, y, foot + seat + 0.2), half=(0.08, 0.15, 0.15), radius=0.07))
    parts += _legs(rng, depth / 2 - 0.06, width / 2 - 0.06, foot + 0.02, pick(rng, [wood, metal])(rng), 0.035)
    return parts


def lamp(rng: Rng) -> list[Primitive]:
    stand, shade = pick(rng, [metal, surface, wood])(rng), pick(rng, [surface, pastel])(rng)
    height, r = rng.uniform(0.7, 1.1), rng.uniform(0.26, 0.4)
    shade_h = rng.uniform(0.28, 0.42)
    base = rng.uniform(0.16, 0.26)
    parts: list[Primitive] = [Frustum(stand, (0, 0, 0.03), bottom=base, top=base * rng.uniform(0.6, 1), height=0.06)]
    body = pick(rng, ["rod", "balls", "cone"])
    if body == "rod":
        parts.append(rod((0, 0, 0), (0, 0, height), 0.03, stand))
    elif body == "balls":
        glaze, count = surface(rng), int(rng.integers(2, 4))
        step = (height - 0.1) / count
        for k in range(count):
            q = step * 0.5
            parts.append(Ellipsoid(glaze, (0, 0, 0.06 + step * (k + 0.5)), half=(q * 0.9, q * 0.9, q * 1.05)))
        parts.append(rod((0, 0, 0.05), (0, 0, height), 0.025, stand))
    else:
        parts.append(
            Frustum(surface(rng), (0, 0, 0.06 + height * 0.4), bottom=base * 0.8, top=0.05, height=height * 0.8)
        )
        parts.append(rod((0, 0, 0.05), (0, 0, height), 0.03, stand))
    parts.append(
        Frustum(shade, (0, 0, height + shade_h * 0.3), bottom=r, top=r * rng.uniform(0.45, 0.95), height=shade_h)
    )
    if rng.random() < 0.4:
        z = height + shade_h * (0.3 - 0.46)
        parts.append(Frustum(surface(rng), (0, 0, z), bottom=r * 1.01, top=r * 1.0, height=shade_h * 0.14))
    if rng.random() < 0.3:
        parts.append(Ellipsoid(neutral(rng), (0, 0, height + shade_h * 0.85), half=(0.04, 0.04, 0.05)))
    return parts


BUILDERS = {"chair": chair, "table": table, "sofa": sofa, "lamp": lamp}
