"""Plain rooms: walls of one color each, large furniture without thin parts; what the embedded GenRecon family knows.

World: Z up, floor at z = 0, the room centered in x and y, meters. Furniture stands upright, turned by quarters.
"""

from __future__ import annotations

import math

import numpy as np

from ...scene.errors import InputError
from ..procedural.palette import Rng, foliage, neutral, pastel, pick, rod, surface, wood
from ..procedural.primitives import Box, Ellipsoid, Frustum, Material, Primitive, RoundedBox
from .room import FREE, WALL, Pattern, Room, _footprint, _placed

KINDS = ("sofa", "bed", "cabinet", "table", "bookcase", "armchair", "lamp", "plant")
SHELL = 6  # the first primitives: floor, ceiling, walls


def _block(material: Material, low, high) -> Box:
    center = tuple((a + b) / 2 for a, b in zip(low, high))
    return Box(material, center, half=tuple((b - a) / 2 for a, b in zip(low, high)))


def sofa(rng: Rng, width: tuple[float, float] = (1.3, 1.9)) -> list[Primitive]:
    """Seat, back, arms and cushions down to the floor; faces +x."""
    cover = surface(rng)
    cushion = cover if rng.random() < 0.4 else surface(rng)
    w, d = rng.uniform(*width) / 2, rng.uniform(0.75, 0.9) / 2
    seat, back, arm = rng.uniform(0.32, 0.4), rng.uniform(0.7, 0.85), rng.uniform(0.15, 0.22)
    parts: list[Primitive] = [
        _block(cover, (-d, -w, 0), (d, w, seat)),
        _block(cover, (-d, -w, 0), (-d + 0.22, w, back)),
        _block(cover, (-d, -w, 0), (d, -w + arm, seat + 0.18)),
        _block(cover, (-d, w - arm, 0), (d, w, seat + 0.18)),
    ]
    parts.append(RoundedBox(cushion, (0.1, 0, seat), half=(d - 0.12, w - arm - 0.02, 0.09), radius=0.05))
    return parts


def armchair(rng: Rng) -> list[Primitive]:
    """A narrow sofa."""
    return sofa(rng, (0.8, 0.95))


def bed(rng: Rng) -> list[Primitive]:
    """Frame, headboard, blanket and pillow; the head is at -x."""
    frame, blanket = wood(rng), surface(rng)
    length, w = rng.uniform(1.9, 2.05) / 2, rng.uniform(0.9, 1.5) / 2
    top = rng.uniform(0.42, 0.52)
    return [
        _block(frame, (-length, -w, 0), (length, w, 0.24)),
        _block(frame, (-length, -w, 0), (-length + 0.1, w, rng.uniform(0.8, 1.0))),
        _block(Material((0.93, 0.92, 0.9)), (-length + 0.1, -w + 0.02, 0.24), (-length + 0.75, w - 0.02, top)),
        _block(blanket, (-length + 0.6, -w, 0.2), (length, w, top + 0.03)),
        RoundedBox(surface(rng), (-length + 0.34, 0, top), half=(0.2, w * 0.7, 0.12), radius=0.08),
    ]


def cabinet(rng: Rng) -> list[Primitive]:
    """A closed body, low or as high as a person; doors of another color."""
    body = pick(rng, [wood, surface, neutral])(rng)
    d, w = rng.uniform(0.42, 0.58) / 2, rng.uniform(0.8, 1.4) / 2
    height = rng.uniform(0.75, 0.95) if rng.random() < 0.5 else rng.uniform(1.6, 2.0)
    parts: list[Primitive] = [_block(body, (-d, -w, 0), (d, w, height))]
    if rng.random() < 0.7:
        front = surface(rng)
        parts += [
            _block(front, (d - 0.02, -w + 0.05, 0.1), (d + 0.03, -0.03, height - 0.06)),
            _block(front, (d - 0.02, 0.03, 0.1), (d + 0.03, w - 0.05, height - 0.06)),
        ]
    if height < 1 and rng.random() < 0.5:
        r = rng.uniform(0.12, 0.18)
        parts.append(Ellipsoid(surface(rng), (0, rng.uniform(-w, w) * 0.6, height + r * 0.95), half=(r, r, r)))
    return parts


def table(rng: Rng) -> list[Primitive]:
    """A thick top on two side panels or a pedestal."""
    top, under = pick(rng, [wood, surface])(rng), pick(rng, [wood, surface])(rng)
    height, thick = rng.uniform(0.5, 0.76), rng.uniform(0.08, 0.1)
    if rng.random() < 0.5:
        x, y = rng.uniform(0.6, 0.85) / 2, rng.uniform(1.0, 1.5) / 2
        parts: list[Primitive] = [_block(top, (-x, -y, height - thick), (x, y, height))]
        parts += [
            _block(under, (-x + 0.04, s * (y - 0.1) - 0.05, 0), (x - 0.04, s * (y - 0.1) + 0.05, height - thick / 2))
            for s in (-1, 1)
        ]
    else:
        r = rng.uniform(0.42, 0.6)
        parts = [
            Frustum(top, (0, 0, height - thick / 2), bottom=r, top=r, height=thick),
            rod((0, 0, 0), (0, 0, height - thick / 2), rng.uniform(0.09, 0.15), under),
            Frustum(under, (0, 0, 0.04), bottom=r * 0.6, top=r * 0.5, height=0.08),
        ]
    if rng.random() < 0.4:
        r = rng.uniform(0.1, 0.15)
        parts.append(Ellipsoid(surface(rng), (0, rng.uniform(-0.2, 0.2), height + r * 0.95), half=(r, r, r)))
    return parts


def bookcase(rng: Rng) -> list[Primitive]:
    """Back, sides and boards, with blocks of books."""
    board = wood(rng)
    w, d, height = rng.uniform(0.9, 1.3) / 2, 0.19, rng.uniform(1.4, 1.9)
    parts: list[Primitive] = [
        _block(board, (-d, -w, 0), (-d + 0.06, w, height)),
        *(_block(board, (-d, s * w - 0.035, 0), (d, s * w + 0.035, height)) for s in (-1, 1)),
    ]
    count = int(rng.integers(3, 5))
    for k in range(count + 1):
        z = (height - 0.07) * k / count
        parts.append(_block(board, (-d, -w, z), (d, w, z + 0.07)))
        if k < count:
            start, end = sorted(rng.uniform(-w + 0.06, w - 0.06, 2).tolist())
            if end - start > 0.2:
                depth, tall = d - rng.uniform(0.03, 0.08), z + 0.07 + rng.uniform(0.5, 0.85) * (height / count - 0.1)
                parts.append(_block(surface(rng), (-d + 0.02, start, z), (depth, end, tall)))
    return parts


def lamp(rng: Rng) -> list[Primitive]:
    """A floor lamp with a thick pole."""
    stand, shade = surface(rng), pick(rng, [surface, pastel])(rng)
    height, r = rng.uniform(1.2, 1.5), rng.uniform(0.24, 0.34)
    return [
        Frustum(stand, (0, 0, 0.04), bottom=0.24, top=0.2, height=0.08),
        rod((0, 0, 0), (0, 0, height), 0.055, stand),
        Frustum(shade, (0, 0, height + 0.1), bottom=r, top=r * rng.uniform(0.55, 0.9), height=rng.uniform(0.35, 0.45)),
    ]


def plant(rng: Rng) -> list[Primitive]:
    """A pot with a crown of leaves."""
    leaves, pot = foliage(rng), surface(rng)
    r, crown = rng.uniform(0.18, 0.24), rng.uniform(0.28, 0.4)
    z = 0.4 + crown * 0.9
    return [
        Frustum(pot, (0, 0, 0.2), bottom=r * 0.8, top=r, height=0.4),
        rod((0, 0, 0.3), (0, 0, z), 0.06, wood(rng)),
        Ellipsoid(leaves, (0, 0, z + 0.1), half=(crown, crown, crown * rng.uniform(1.0, 1.4))),
    ]


BUILDERS = {
    "sofa": sofa, "armchair": armchair, "bed": bed, "cabinet": cabinet, "table": table, "bookcase": bookcase,
    "lamp": lamp, "plant": plant,
}  # fmt: skip
AGAINST_WALL = ("sofa", "bed", "cabinet", "bookcase")


def make_plain_room(seed: int, size: tuple[float, float, float] | None = None) -> Room:
    """A plain room; the same seed always gives the same room. size: inside, x, y, height; drawn where it is not given.

    Raises InputError for a negative seed and a room smaller than 2 m x 2 m x 2 m.
    """
    if seed < 0:
        raise InputError(f"`seed` is {seed}; use a number from 0 up.")
    rng = np.random.default_rng([0x91A1, seed])
    if size is None:
        size = (float(rng.uniform(3.2, 4.6)), float(rng.uniform(3.0, 4.2)), float(rng.uniform(2.4, 2.7)))
    x, y, z = size
    if min(size) < 2:
        raise InputError(f"The room is {x:g} x {y:g} x {z:g} m; at least 2 m each way are furnished.")
    half = WALL / 2
    floor = pick(rng, [wood, wood, neutral, pastel])(rng)
    primitives: list[Primitive] = [
        Box(floor, (0, 0, -half), half=(x / 2 + WALL, y / 2 + WALL, half)),
        Box(Material((0.93, 0.92, 0.9)), (0, 0, z + half), half=(x / 2 + WALL, y / 2 + WALL, half)),
    ]
    wall = pastel(rng)
    for s in (-1, 1):
        cover = wall if rng.random() < 0.5 else pastel(rng)
        primitives.append(Box(cover, (s * (x / 2 + half), 0, z / 2), half=(half, y / 2 + WALL, z / 2)))
    for s in (-1, 1):
        cover = wall if rng.random() < 0.5 else pastel(rng)
        primitives.append(Box(cover, (0, s * (y / 2 + half), z / 2), half=(x / 2, half, z / 2)))
    patterns = {}
    if rng.random() < 0.4:
        other = tuple(np.clip(np.array(floor.color) * rng.uniform(0.6, 0.8), 0, 1).tolist())
        patterns[0] = Pattern("checks", other, float(rng.uniform(0.5, 0.8)), (0, 1))
    for axis, s in ((0, -1), (0, 1), (1, -1), (1, 1)):  # pictures, windows, a door
        if rng.random() < 0.6:
            center, spread = [0.0, 0.0, z * rng.uniform(0.5, 0.62)], [0.03, 0.03, rng.uniform(0.3, 0.5)]
            center[axis] = s * (size[axis] / 2)
            spread[1 - axis] = rng.uniform(0.35, 0.8)
            room_for = size[1 - axis] / 2 - spread[1 - axis] - 0.1
            center[1 - axis] = float(rng.uniform(-room_for, room_for))
            primitives.append(Box(surface(rng), tuple(center), half=tuple(spread)))
    if rng.random() < 0.7:
        rug = Box(surface(rng), (0, 0, 0.01), half=(rng.uniform(0.6, 0.9), rng.uniform(0.7, 1.1), 0.015))
        primitives += _placed([rug], 0.0, rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4))
    taken: list[tuple[float, float, float, float]] = []
    kinds = list(rng.permutation(KINDS)[: int(rng.integers(4, 8))])
    kinds.sort(key=lambda kind: kind not in AGAINST_WALL)
    for kind in kinds:
        parts = BUILDERS[kind](rng)
        for _ in range(40):
            quarter = int(rng.integers(4))
            trial = _placed(parts, quarter * math.pi / 2, 0.0, 0.0)
            low, high = (v.tolist() for v in _footprint(trial))
            if high[0] - low[0] > x - 0.1 or high[1] - low[1] > y - 0.1:
                continue
            place = [rng.uniform(-s / 2 + 0.03 - a, s / 2 - 0.03 - b) for s, a, b in zip((x, y), low, high)]
            if kind in AGAINST_WALL:  # its back, at -x before the turn, stands at a wall
                axis, back = ((0, -1), (1, -1), (0, 1), (1, 1))[quarter]
                gap = rng.uniform(0.0, 0.06)
                side = size[axis] / 2 - gap
                place[axis] = (-side - low[axis]) if back < 0 else (side - high[axis])
            px, py = place
            box = (px + low[0], py + low[1], px + high[0], py + high[1])
            clear = all(
                box[2] < b[0] - 0.08 or b[2] + 0.08 < box[0] or box[3] < b[1] - 0.08 or b[3] + 0.08 < box[1]
                for b in taken
            )
            near = [max(a, -b, 0.0) for a, b in ((box[0], box[2]), (box[1], box[3]))]
            if clear and math.hypot(*near) >= FREE * min(x, y) + 0.1:
                primitives += _placed(parts, quarter * math.pi / 2, px, py)
                taken.append(box)
                break
    return Room(seed, size, tuple(primitives), patterns)
