"""From the joint frame of a scene back to its world, and the grids that the baker halves."""

from __future__ import annotations

import torch
from torch import Tensor


def to_world(points: Tensor, chunk_to_world: Tensor) -> Tensor:
    """Points [P, 3] of a chunk's frame in the world, float32; chunk_to_world: [4, 4].

    Source: GenRecon, specification 11 (transform_to_original).
    """
    matrix = chunk_to_world.to(torch.float32)
    return points.to(torch.float32) @ matrix[:3, :3].mT + matrix[:3, 3]


def voxels_to_world(coords: Tensor, resolution: int, chunk_to_world: Tensor) -> Tensor:
    """Centers [N, 3] in the world of a chunk's voxels [N, 3]."""
    return to_world((coords.float() + 0.5) / resolution - 0.5, chunk_to_world)


def halving_friendly(size: int, floor: int = 32) -> int:
    """The smallest number from `size` on that halves without remainder until it is no more than `floor`.

    Source: GenRecon, specification 11.1.
    """
    found = size
    while True:
        n = found
        while n > floor and n % 2 == 0:
            n //= 2
        if n <= floor:
            return found
        found += 1
