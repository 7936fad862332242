"""A furnished room: floor, walls and ceiling with patterns, furniture along the walls and in the middle.

World: Z up, floor at z = 0, the room centered in x and y, meters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError
from ..procedural import furniture
from ..procedural.palette import Rng, pastel, surface, wood
from ..procedural.primitives import Box, Material, Primitive, turned
from ..procedural.render import first_hits

PATTERNS = ("plain", "checks", "boards", "stripes", "tiles")
WALL = 0.1  # thickness, meters
FREE = 0.15  # radius around the middle, in the shorter side, where photos are taken from
KINDS = ("sofa", "table", "chair", "chair", "lamp", "shelf", "rug")


@dataclass(frozen=True)
class Pattern:
    """A second color laid over a primitive: kind (of `PATTERNS`), period in meters, along two world axes."""

    kind: str
    color: tuple[float, float, float]
    period: float
    axes: tuple[int, int]

    def apply(self, base: Tensor, points: Tensor) -> Tensor:
        """Colors [N, 3] at points [N, 3] of a surface whose own color is base [3]."""
        u, v = (points[:, axis] / self.period for axis in self.axes)
        if self.kind == "checks":
            mask = ((u.floor() + v.floor()) % 2 == 0).float()
        elif self.kind == "stripes":
            mask = (u.floor() % 2 == 0).float()
        elif self.kind == "boards":
            row = u.floor()
            mask = 0.35 * torch.sin(row * 12.9898 + (v * 0.35 + row * 0.37).floor() * 4.7) + 0.4
            mask = torch.where((u - row) < 0.06, torch.ones_like(mask), mask)
        elif self.kind == "tiles":
            mask = (((u - u.floor()) < 0.06) | ((v - v.floor()) < 0.06)).float()
        else:
            mask = torch.zeros_like(u)
        other = torch.tensor(self.color, dtype=torch.float32)
        return base[None] + mask[:, None] * (other - base)[None]


@dataclass(frozen=True)
class Room:
    """size: (x, y, height) inside; primitives in the world; patterns by index of the primitive."""

    seed: int
    size: tuple[float, float, float]
    primitives: tuple[Primitive, ...]
    patterns: dict[int, Pattern]

    def colors(self, points: Tensor, owner: Tensor) -> Tensor:
        """Base colors [N, 3] at surface points [N, 3] of the primitives owner [N]."""
        out = torch.zeros(len(points), 3)
        for index in torch.unique(owner).tolist():
            mine = owner == index
            base = torch.tensor(self.primitives[index].material.color, dtype=torch.float32)
            pattern = self.patterns.get(index)
            out[mine] = base if pattern is None else pattern.apply(base, points[mine])
        return out

    def normals(self, points: Tensor, owner: Tensor) -> Tensor:
        """Outward unit normals [N, 3]."""
        out = torch.zeros(len(points), 3)
        for index in torch.unique(owner).tolist():
            mine = owner == index
            out[mine] = self.primitives[index].normals(points[mine])
        return out

    def hits(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Ray parameter and primitive hit first, [V, N] each, of origins [V, 3] and directions [V, N, 3]."""
        return first_hits(self, origins, directions)


def _shelf(rng: Rng) -> list[Primitive]:
    board = wood(rng)
    width, depth, height, count = rng.uniform(0.8, 1.3), 0.3, rng.uniform(1.2, 1.9), int(rng.integers(3, 6))
    parts: list[Primitive] = [
        Box(board, (0, s * width / 2, height / 2), half=(depth / 2, 0.025, height / 2)) for s in (-1, 1)
    ]
    parts.append(Box(board, (-depth / 2, 0, height / 2), half=(0.015, width / 2, height / 2)))
    for k in range(count + 1):
        z = 0.05 + (height - 0.08) * k / count
        parts.append(Box(board, (0, 0, z), half=(depth / 2, width / 2, 0.02)))
        y = -width / 2 + 0.08
        while k < count and y < width / 2 - 0.15:
            w, h = rng.uniform(0.04, 0.12), rng.uniform(0.12, min(0.26, (height - 0.1) / count - 0.05))
            if rng.random() < 0.75:
                parts.append(Box(surface(rng), (0.02, y + w / 2, z + 0.02 + h / 2), half=(0.09, w / 2, h / 2)))
            y += w + 0.01
    return parts


def _rug(rng: Rng) -> list[Primitive]:
    return [Box(surface(rng), (0, 0, 0.01), half=(rng.uniform(0.5, 0.8), rng.uniform(0.7, 1.1), 0.01))]


BUILDERS = {
    "sofa": furniture.sofa, "table": furniture.table, "chair": furniture.chair, "lamp": furniture.lamp,
    "shelf": _shelf, "rug": _rug,
}  # fmt: skip


def _footprint(parts: list[Primitive]) -> tuple[Tensor, Tensor]:
    points = torch.cat([p.bounds_points() for p in parts])
    return points.amin(0), points.amax(0)


def _placed(parts: list[Primitive], turn: float, x: float, y: float) -> list[Primitive]:
    c, s = math.cos(turn), math.sin(turn)
    rotation = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    moved = [turned(p, rotation) for p in parts]
    return [replace(p, center=(p.center[0] + x, p.center[1] + y, p.center[2])) for p in moved]


def make_room(seed: int, size: tuple[float, float, float] | None = None) -> Room:
    """A room; the same seed always gives the same room. size: inside, x, y, height; drawn where it is not given.

    Raises InputError for a negative seed and a room smaller than 2 m x 2 m x 2 m.
    """
    if seed < 0:
        raise InputError(f"`seed` is {seed}; use a number from 0 up.")
    rng = np.random.default_rng([0x5EED, seed])
    if size is None:
        size = (float(rng.uniform(3.2, 5.5)), float(rng.uniform(3.0, 4.6)), float(rng.uniform(2.4, 2.8)))
    x, y, z = size
    if min(size) < 2:
        raise InputError(f"The room is {x:g} x {y:g} x {z:g} m; at least 2 m each way are furnished.")
    wall, half = pastel(rng), WALL / 2
    primitives: list[Primitive] = [
        Box(wood(rng), (0, 0, -half), half=(x / 2 + WALL, y / 2 + WALL, half)),
        Box(Material((0.93, 0.92, 0.9)), (0, 0, z + half), half=(x / 2 + WALL, y / 2 + WALL, half)),
    ]
    for sx in (-1, 1):
        primitives.append(Box(wall, (sx * (x / 2 + half), 0, z / 2), half=(half, y / 2 + WALL, z / 2)))
    for sy in (-1, 1):
        cover = wall if rng.random() < 0.5 else pastel(rng)
        primitives.append(Box(cover, (0, sy * (y / 2 + half), z / 2), half=(x / 2, half, z / 2)))
    patterns = {
        0: Pattern(str(rng.choice(["boards", "checks", "tiles"])), tuple(rng.uniform(0.2, 0.5, 3)), 0.3, (0, 1))
    }
    for index, axes in ((2, (1, 2)), (3, (1, 2)), (4, (0, 2)), (5, (0, 2))):
        kind = str(rng.choice(["plain", "stripes", "tiles", "checks"]))
        color = tuple(np.clip(np.array(primitives[index].material.color) + rng.uniform(-0.22, 0.1, 3), 0, 1))
        patterns[index] = Pattern(kind, color, float(rng.uniform(0.25, 0.6)), axes)
    for index, axis, side in ((2, 0, 1), (4, 1, 1)):  # a picture and a window
        inner, height = primitives[index], z * 0.58
        center = list(inner.center)
        center[axis] += side * (half + 0.015)
        center[2] = height
        spread = [0.02, 0.02, rng.uniform(0.3, 0.45)]
        spread[1 - axis] = rng.uniform(0.35, 0.6)
        primitives.append(Box(surface(rng), tuple(center), half=tuple(spread)))
        patterns[len(primitives) - 1] = Pattern("checks", tuple(rng.uniform(0, 1, 3)), 0.17, (1 - axis, 2))
    taken: list[tuple[float, float, float, float]] = []
    for kind in KINDS:
        parts = BUILDERS[kind](rng)
        for _ in range(40):
            turn = float(rng.choice([0, 90, 180, 270]) + rng.uniform(-8, 8)) * math.pi / 180
            trial = _placed(parts, turn, 0.0, 0.0)
            low, high = _footprint(trial)
            span = (high - low)[:2]
            if float(span[0]) > x - 0.1 or float(span[1]) > y - 0.1:
                continue
            px = rng.uniform(-x / 2 + 0.05, x / 2 - 0.05 - float(span[0])) - float(low[0])
            py = rng.uniform(-y / 2 + 0.05, y / 2 - 0.05 - float(span[1])) - float(low[1])
            box = (px + float(low[0]), py + float(low[1]), px + float(high[0]), py + float(high[1]))
            clear = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
            near = [max(low_, -high_, 0.0) for low_, high_ in ((box[0], box[2]), (box[1], box[3]))]
            middle = math.hypot(*near) < FREE * min(x, y) + 0.15
            if kind == "rug" or (clear and not middle):
                primitives += _placed(parts, turn, px, py)
                if kind == "rug":
                    patterns[len(primitives) - 1] = Pattern("stripes", tuple(rng.uniform(0, 1, 3)), 0.12, (0, 1))
                else:
                    taken.append(box)
                break
    return Room(seed, size, tuple(primitives), patterns)
