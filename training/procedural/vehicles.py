"""Cars, trucks, boats and rockets; x forward, z up, wheels on the ground."""

from __future__ import annotations

from .palette import Rng, dark, glass, metal, neutral, paint, pick, rod, rotation, surface, wood
from .primitives import Box, Convex, Ellipsoid, Frustum, Material, Primitive, RoundedBox


def _wheels(rng: Rng, places, half_width: float, radius: float) -> list[Primitive]:
    tire, hub, thick = dark(rng), pick(rng, [metal, metal, neutral, paint])(rng), radius * rng.uniform(0.45, 0.7)
    parts = []
    for x in places:
        for side in (-1, 1):
            y = side * half_width
            parts.append(rod((x, y - thick / 2, radius), (x, y + thick / 2, radius), radius, tire))
            out = y + side * thick * 0.52
            parts.append(rod((x, out - side * 0.02, radius), (x, out, radius), radius * 0.55, hub))
    return parts


def _lamps(x_front: float, x_back: float, y: float, z: float, size: float) -> list[Primitive]:
    white, red = Material((1.0, 0.97, 0.75), roughness=0.2), Material((0.85, 0.08, 0.06), roughness=0.3)
    lamps = []
    for side in (-1, 1):
        lamps.append(Ellipsoid(white, (x_front, side * y, z), half=(size * 0.6, size, size * 0.8)))
        lamps.append(Box(red, (x_back, side * y, z), half=(size * 0.4, size, size * 0.6)))
    return lamps


def car(rng: Rng) -> list[Primitive]:
    body_paint, roof_paint = surface(rng), None
    roof_paint = body_paint if rng.random() < 0.65 else surface(rng)
    length, width = rng.uniform(1.7, 2.2), rng.uniform(0.8, 0.95)
    wheel = rng.uniform(0.17, 0.22)
    ground, body = wheel * rng.uniform(0.55, 0.8), rng.uniform(0.28, 0.38)
    style = pick(rng, ["sedan", "sedan", "hatch", "van", "coupe", "pickup"])
    z_body = ground + body / 2
    parts: list[Primitive] = [
        RoundedBox(body_paint, (0, 0, z_body), half=(length / 2, width / 2, body / 2), radius=0.09)
    ]
    cabin_length, cabin_x, height, rake = {
        "sedan": (rng.uniform(0.5, 0.58), -0.04, rng.uniform(0.28, 0.34), 0.62),
        "hatch": (rng.uniform(0.6, 0.66), -0.14, rng.uniform(0.3, 0.36), 0.74),
        "van": (rng.uniform(0.74, 0.8), -0.1, rng.uniform(0.4, 0.5), 0.85),
        "coupe": (rng.uniform(0.44, 0.5), -0.1, rng.uniform(0.22, 0.27), 0.5),
        "pickup": (rng.uniform(0.34, 0.4), 0.06, rng.uniform(0.32, 0.38), 0.75),
    }[style]
    half = (length * cabin_length / 2, width * 0.46, height / 2)
    top = (half[0] * rake, half[1] * 0.84)
    shift = -half[0] * rng.uniform(0.0, 0.12)
    x = cabin_x * length
    z = ground + body + height / 2 - 0.01
    parts.append(Convex.tapered(half, top, shift, material=glass(rng), center=(x, 0, z)))
    roof = 0.05
    parts.append(
        RoundedBox(
            roof_paint,
            (x + shift, 0, ground + body + height),
            half=(top[0] * 1.03, top[1] * 1.03, roof / 2),
            radius=0.02,
        )
    )
    # Pillars: the middle one is what makes side windows read as windows.
    for px in (0.0,) if style in ("coupe", "pickup") else (-0.28, 0.28):
        tilt = (half[1] - top[1]) / height
        for side in (-1, 1):
            foot = (x + px * half[0] * 2, side * (half[1] + 0.004), ground + body - 0.02)
            head = (x + shift + px * top[0] * 2, side * (half[1] - tilt * height + 0.004), ground + body + height)
            parts.append(rod(foot, head, 0.03, roof_paint))
    if style == "pickup":
        bed = Box(dark(rng), (-length * 0.32, 0, ground + body), half=(length * 0.15, width * 0.4, 0.012))
        parts.append(bed)
    axle = length * rng.uniform(0.29, 0.33)
    parts += _wheels(rng, (-axle, axle), width / 2 - 0.03, wheel)
    parts += _lamps(length / 2 - 0.02, -length / 2, width * 0.34, z_body + body * 0.1, 0.065)
    bumper = neutral(rng) if rng.random() < 0.6 else body_paint
    for end in (-1, 1):
        parts.append(Box(bumper, (end * length * 0.495, 0, ground + 0.06), half=(0.035, width * 0.48, 0.045)))
    if rng.random() < 0.2:  # taxi sign or roof rack
        parts.append(Box(surface(rng), (x + shift, 0, ground + body + height + 0.06), half=(0.09, 0.14, 0.045)))
    if rng.random() < 0.2:
        stripe = surface(rng)
        parts.append(Box(stripe, (0, 0, z_body), half=(length * 0.4, width / 2 + 0.006, body * 0.12)))
    return parts


def truck(rng: Rng) -> list[Primitive]:
    cab_paint, load_paint = surface(rng), surface(rng)
    width, wheel, length = rng.uniform(0.75, 0.9), rng.uniform(0.18, 0.22), rng.uniform(2.0, 2.5)
    base = wheel * 1.5
    cab_l, cab_h = rng.uniform(0.5, 0.62), rng.uniform(0.65, 0.8)
    cab_x = length / 2 - cab_l / 2
    parts: list[Primitive] = [
        Box(dark(rng), (0, 0, base - 0.04), half=(length / 2, width * 0.4, 0.06)),
        RoundedBox(cab_paint, (cab_x, 0, base + cab_h / 2), half=(cab_l / 2, width / 2, cab_h / 2), radius=0.07),
        Box(glass(rng), (cab_x + cab_l / 2, 0, base + cab_h * 0.68), half=(0.012, width * 0.42, cab_h * 0.17)),
        Box(glass(rng), (cab_x + 0.04, 0, base + cab_h * 0.68), half=(cab_l * 0.28, width / 2 + 0.008, cab_h * 0.16)),
    ]
    load_l = length - cab_l - 0.08
    load_x = -length / 2 + load_l / 2
    load = pick(rng, ["box", "box", "tank", "dump"])
    if load == "box":
        h = rng.uniform(0.8, 1.1)
        parts.append(Box(load_paint, (load_x, 0, base + h / 2 + 0.02), half=(load_l / 2, width / 2, h / 2)))
        if rng.random() < 0.6:
            parts.append(
                Box(
                    surface(rng),
                    (load_x, 0, base + h * rng.uniform(0.35, 0.65)),
                    half=(load_l / 2 + 0.004, width / 2 + 0.006, h * 0.1),
                )
            )
    elif load == "tank":
        r = width * 0.48
        parts.append(rod((load_x - load_l / 2, 0, base + r), (load_x + load_l / 2, 0, base + r), r, load_paint))
        parts.append(rod((load_x - 0.03, 0, base + r), (load_x + 0.03, 0, base + r), r * 1.02, metal(rng)))
    else:
        h = rng.uniform(0.4, 0.55)
        parts.append(
            Convex.tapered(
                (load_l * 0.42, width * 0.42, h / 2),
                (load_l / 2, width / 2),
                material=load_paint,
                center=(load_x, 0, base + h / 2 + 0.03),
            )
        )
        parts.append(Ellipsoid(wood(rng), (load_x, 0, base + h), half=(load_l * 0.42, width * 0.42, 0.16)))
    parts += _wheels(rng, (-length * 0.36, -length * 0.14, length * 0.34), width / 2 - 0.03, wheel)
    parts += _lamps(length / 2, -length / 2, width * 0.34, base + 0.1, 0.06)
    return parts


def boat(rng: Rng) -> list[Primitive]:
    hull, deck = surface(rng), wood(rng)
    length, width, depth = rng.uniform(1.7, 2.1), rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.42)
    parts: list[Primitive] = [
        Convex.tapered(
            (length * 0.33, width * 0.3, depth / 2),
            (length * 0.42, width / 2),
            material=hull,
            center=(-length * 0.05, 0, depth / 2),
        ),
        Convex.prism(
            [(-0.01, -depth / 2), (length * 0.07, -depth / 2), (length * 0.24, depth / 2), (-0.01, depth / 2)],
            width * 0.3,
            material=hull,
            center=(length * 0.28, 0, depth / 2),
        ),
        Box(deck, (-length * 0.05, 0, depth), half=(length * 0.38, width * 0.44, 0.02)),
    ]
    if rng.random() < 0.6:
        mast, cloth = rng.uniform(1.2, 1.6), surface(rng)
        parts.append(rod((0, 0, depth), (0, 0, depth + mast), 0.035, wood(rng)))
        sail = length * rng.uniform(0.32, 0.42)
        parts.append(
            Convex.prism(
                [(-sail, 0.0), (0.0, 0.0), (0.0, mast * 0.85)], 0.02, material=cloth, center=(-0.04, 0, depth + 0.15)
            )
        )
        if rng.random() < 0.6:
            parts.append(
                Convex.prism(
                    [(0.0, 0.0), (sail * 0.8, 0.0), (0.0, mast * 0.7)],
                    0.02,
                    material=surface(rng),
                    center=(0.05, 0, depth + 0.12),
                )
            )
    else:
        cabin_h = rng.uniform(0.3, 0.42)
        parts.append(
            RoundedBox(
                surface(rng),
                (-length * 0.12, 0, depth + cabin_h / 2),
                half=(length * 0.18, width * 0.3, cabin_h / 2),
                radius=0.04,
            )
        )
        parts.append(
            Box(
                glass(rng),
                (-length * 0.12, 0, depth + cabin_h * 0.65),
                half=(length * 0.185, width * 0.22, cabin_h * 0.16),
            )
        )
        parts.append(
            rod((-length * 0.2, 0, depth + cabin_h), (-length * 0.2, 0, depth + cabin_h * 2), 0.09, paint(rng))
        )
        parts.append(
            rod((-length * 0.2, 0, depth + cabin_h * 1.8), (-length * 0.2, 0, depth + cabin_h * 2.02), 0.095, dark(rng))
        )
    return parts


def rocket(rng: Rng) -> list[Primitive]:
    hull, accent = pick(rng, [surface, neutral])(rng), paint(rng)
    height, r = rng.uniform(1.3, 1.8), rng.uniform(0.22, 0.32)
    nose = rng.uniform(0.4, 0.65)
    parts: list[Primitive] = [
        Frustum(hull, (0, 0, 0.2 + height / 2), bottom=r, top=r, height=height),
        Frustum(accent, (0, 0, 0.2 + height + nose / 2), bottom=r, top=0.02, height=nose),
        Frustum(dark(rng), (0, 0, 0.1), bottom=r * 0.85, top=r * 0.5, height=0.2),
    ]
    band = surface(rng)
    for level in rng.uniform(0.15, 0.85, size=int(rng.integers(1, 3))):
        parts.append(Frustum(band, (0, 0, 0.2 + height * float(level)), bottom=r * 1.02, top=r * 1.02, height=0.12))
    fins, fin_paint = int(rng.integers(3, 5)), accent if rng.random() < 0.6 else paint(rng)
    span, root = rng.uniform(0.25, 0.4), rng.uniform(0.4, 0.6)
    turn = rng.uniform(0, 360)
    for k in range(fins):
        frame = rotation("z", turn + 360 * k / fins)
        parts.append(
            Convex.prism(
                [(r * 0.9, 0.0), (r + span, -0.18), (r + span, 0.1), (r * 0.9, root)],
                0.035,
                material=fin_paint,
                center=(0, 0, 0.2),
                rotation=frame,
            )
        )
    for k in range(int(rng.integers(1, 4))):
        window = rotation("z", turn + 45) @ rotation("y", 90)
        level = 0.2 + height * (0.8 - 0.22 * k)
        direction = window[:, 2].tolist()
        parts.append(
            Frustum(
                glass(rng),
                (direction[0] * r, direction[1] * r, level),
                window,
                bottom=r * 0.38,
                top=r * 0.38,
                height=0.06,
            )
        )
    return parts


BUILDERS = {"car": car, "truck": truck, "boat": boat, "rocket": rocket}
