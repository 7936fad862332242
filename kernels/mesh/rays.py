"""Whether rays leave a mesh: for the votes on its outside and for what can be seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .closest_point import BRANCH, LEAF, box_levels, morton
from .topology import Array

PAIRS = 1 << 18


class Rays:
    """A mesh made ready for rays. vertices: [V, 3]; faces: [F, 3]; numpy arrays as in `topology`."""

    def __init__(self, vertices: Array, faces: Array) -> None:
        corners = torch.from_numpy(np.ascontiguousarray(vertices[faces], np.float32))
        low, high = corners.amin((0, 1)), corners.amax((0, 1))
        self.size = float((high - low).norm())
        self.corners = corners[torch.argsort(morton(corners.mean(1), low, high))]
        self.boxes = box_levels(self.corners, self.size * 1e-6)

    def escapes(self, origin: Array, normal: Array, count: int) -> Array:
        """[N, count] bool: which of `count` rays around `normal` [N, 3] from `origin` [N, 3] meet nothing.

        The directions are spread evenly over the hemisphere, more of them near the normal, the same for every call.
        """
        i = np.arange(count) + 0.5
        height, turn = np.sqrt(1 - i / count * 0.97), i * np.pi * (1 + 5**0.5)
        across = np.sqrt(1 - height**2)
        local = np.stack([across * np.cos(turn), across * np.sin(turn), height], 1)
        side = np.cross(normal, np.eye(3)[np.abs(normal).argmin(1)])
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-300)
        frame = np.stack([side, np.cross(normal, side), normal], 1)
        direction = np.einsum("rk,nkc->nrc", local, frame)
        start = np.repeat((origin + normal * self.size * 1e-5)[:, None], count, 1)
        hit = self.hits(*(torch.from_numpy(np.ascontiguousarray(one.reshape(-1, 3), np.float32))
                          for one in (start, direction)))  # fmt: skip
        return ~hit.numpy().reshape(len(origin), count)

    def hits(self, origin: Tensor, direction: Tensor) -> Tensor:
        """[R] bool: rays from origin [R, 3] along direction [R, 3] that meet a triangle, from either side."""
        hit = torch.zeros(len(origin), dtype=torch.bool)
        safe = torch.where(direction.abs() < 1e-12, torch.full_like(direction, 1e-12), direction)
        inverse = 1 / safe
        top = len(self.boxes) - 1
        roots = len(self.boxes[top])
        work = [(top, torch.arange(len(origin)).repeat_interleave(roots), torch.arange(roots).repeat(len(origin)))]
        while work:
            level, row, box = work.pop()
            if len(row) > PAIRS:
                half = len(row) // 2
                work += [(level, row[half:], box[half:]), (level, row[:half], box[:half])]
                continue
            bounds, at, by = self.boxes[level].index_select(0, box), origin[row], inverse[row]
            one, two = (bounds[:, :3] - at) * by, (bounds[:, 3:] - at) * by
            enter, leave = torch.minimum(one, two).amax(1).clamp(min=0), torch.maximum(one, two).amin(1)
            near = torch.nonzero((enter <= leave) & ~hit[row]).squeeze(1)
            width, end = (BRANCH, len(self.boxes[level - 1])) if level else (LEAF, len(self.corners))
            row = row[near].repeat_interleave(width)
            child = (box[near, None] * width + torch.arange(width)).reshape(-1)
            inside = child < end
            row, child = row[inside], child[inside]
            if level:
                work.append((level - 1, row, child))
            elif len(row):
                met = _meets(origin[row], direction[row], self.corners.index_select(0, child))
                hit[row[met]] = True
        return hit


def _meets(origin: Tensor, direction: Tensor, corners: Tensor) -> Tensor:
    """[P] bool, a ray and a triangle each (Moeller and Trumbore)."""
    a, b, c = corners.unbind(1)
    first, second = b - a, c - a
    across = torch.linalg.cross(direction, second)
    scale = (first * across).sum(1)
    safe = torch.where(scale.abs() < 1e-30, torch.full_like(scale, 1e-30), scale)
    away = origin - a
    u = (away * across).sum(1) / safe
    other = torch.linalg.cross(away, first)
    v = (direction * other).sum(1) / safe
    t = (second * other).sum(1) / safe
    return (scale.abs() >= 1e-30) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
