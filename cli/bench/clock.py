"""Seconds and peak memory of the stages of one timed run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """What a contender returns under "stages" beside its tensors: {stage: {"wall": seconds, "cuda_peak": bytes}}."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside; on CUDA also the most memory that was allocated during it."""
        on_cuda = self.device.startswith("cuda")
        finish(self.device)
        if on_cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        yield
        finish(self.device)
        self.found[name] = {"wall": time.perf_counter() - begin}
        if on_cuda:
            self.found[name]["cuda_peak"] = torch.cuda.max_memory_allocated()


def finish(device: str) -> None:
    """Wait until the device has done all it was asked for."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
