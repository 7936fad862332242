"""Several processes on one scene: who samples which chunks, and how overlaps are added up.

Under `torchrun` every process samples its share of the chunks and the sums over overlaps are reduced in every step;
alone, nothing is exchanged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...scene.errors import InputError


@dataclass(frozen=True)
class Processes:
    """rank of world; alone: rank 0 of 1."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def share(self, count: int) -> list[int]:
        """The chunks of this process. Raises InputError for fewer chunks than processes."""
        if count < self.world:
            raise InputError(f"There are {count} chunks for {self.world} processes; start no more than {count}.")
        return list(range(self.rank, count, self.world))

    def reduce(self, x: Tensor) -> Tensor:
        """The sum of x over all processes."""
        if self.world > 1:
            torch.distributed.all_reduce(x)
        return x

    def same(self, x: Tensor) -> Tensor:
        """x as the first process has it."""
        if self.world > 1:
            x = x.contiguous()
            torch.distributed.broadcast(x, 0)
        return x

    def gather(self, xs: Sequence[Tensor], shapes: Sequence[torch.Size]) -> list[Tensor]:
        """The tensors of all chunks from those of each process's share, exactly; shapes: of all chunks."""
        if self.world == 1:
            return list(xs)
        flat = xs[0].new_zeros(sum(shape.numel() for shape in shapes))
        parts = list(flat.split([shape.numel() for shape in shapes]))
        for i, x in zip(self.share(len(shapes)), xs):
            parts[i].copy_(x.flatten())
        self.reduce(flat)  # every number has one owner; the others add zero
        return [part.view(shape) for part, shape in zip(parts, shapes)]


def join_processes(device: torch.device | str = "cpu") -> Processes:
    """The group that `torchrun` started this process in (RANK, WORLD_SIZE), else this process alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world <= 1:
        return Processes()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size())


def leave_processes() -> None:
    """End the group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
