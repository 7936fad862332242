"""How long a scene will take and how much memory, before it starts.

The work of a flow is counted in multiplications; how fast this machine is, is measured by one evaluation of the
structure flow on one chunk (or taken from a stage that has run). Source of the counts: GenRecon, specification 2.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..trellis2.config import FlowConfig
from ..trellis2.memory import flow_memory, structure_memory, weight_bytes
from ..trellis2.samplers import SamplerSettings, flow_times
from .family import ROLES, SceneFamily
from .flows import SceneCondition, ViewTokens

TYPICAL_SURFACE = 5.0  # occupied voxels of a chunk of R^3, in R^2: floor, walls and what stands in the room


@dataclass(frozen=True)
class Estimate:
    """seconds per stage ("structure", "shape", "texture"), and the bytes of the stage that needs most."""

    seconds: dict[str, float]
    memory: int

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {_span(value)}" for name, value in self.seconds.items())
        return f"about {_span(self.total)} ({parts}) and {self.memory / 1e9:.1f} GB"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def flow_work(cfg: FlowConfig, tokens: int, context: int, conditional: bool = True) -> float:
    """Multiplications of one evaluation on `tokens` voxels, attending to `context` image tokens."""
    c, hidden = cfg.model_channels, int(cfg.model_channels * cfg.mlp_ratio)
    block = tokens * c * (4 * c + 2 * hidden) + 2 * tokens * tokens * c
    if conditional:
        block += tokens * c * (2 * c + cfg.cond_channels) + 2 * tokens * context * c
    return cfg.num_blocks * block + tokens * c * (cfg.in_channels + cfg.out_channels)


def stage_work(cfg: FlowConfig, settings: SamplerSettings, tokens: Sequence[int], context: int) -> float:
    """Multiplications of a whole stage over chunks with so many tokens each."""
    low, high = settings.guidance_interval
    total = 0.0
    for t in flow_times(settings.steps, settings.rescale_t)[:-1]:
        both = low <= t <= high and settings.guidance_strength not in (0, 1)
        for n in tokens:
            total += flow_work(cfg, n, context) + (flow_work(cfg, n, context, False) if both else 0.0)
    return total


@torch.no_grad()
def measure_speed(family: SceneFamily, context: int, repeats: int = 2) -> float:
    """Multiplications per second, by the structure flow on one chunk of zeros."""
    with family.on_device(ROLES["structure"]) as model:
        cfg, device = model.config, family.device
        x = torch.zeros(1, cfg.in_channels, *[cfg.resolution] * 3, device=device)
        tokens = torch.zeros(context, cfg.cond_channels, device=device)
        voxels = torch.zeros(1, cfg.resolution**3, cfg.cond_channels, device=device)
        cond, t = SceneCondition([ViewTokens(tokens)], voxels), torch.full((1,), 500.0, device=device)
        best = float("inf")
        for _ in range(max(1, repeats)):
            begin = time.perf_counter()
            float(model(x, t, cond).sum())  # waits for the device
            best = min(best, time.perf_counter() - begin)
    return flow_work(cfg, cfg.resolution**3, context) / best


def estimate(
    family: SceneFamily,
    settings: dict[str, SamplerSettings],
    chunks: int,
    context: int,
    speed: float | None = None,
    tokens: Sequence[int] | None = None,
) -> Estimate:
    """Time and memory of sampling a scene of so many chunks.

    settings: per stage; context: image tokens of a view; speed: of `measure_speed`, measured where it is not given;
    tokens: occupied voxels of every chunk where they are known, else `TYPICAL_SURFACE` is assumed.
    """
    speed = measure_speed(family, context) if speed is None else speed
    seconds, memory = {}, 0
    for stage, role in ROLES.items():
        model = family.get(role)
        cfg = model.config
        if stage == "structure":
            counts = [cfg.resolution**3] * chunks
        else:
            typical = round(min(TYPICAL_SURFACE * cfg.resolution**2, cfg.resolution**3))
            counts = list(tokens) if tokens is not None else [typical] * chunks
        seconds[stage] = stage_work(cfg, settings[stage], counts, context) / speed
        memory = max(memory, flow_memory(cfg, max(counts), context, device=family.device) + weight_bytes(model))
    decoder = family.get("sparse_structure_decoder")
    memory = max(memory, structure_memory(decoder.config, family.get(ROLES["structure"]).config.resolution))
    return Estimate(seconds, memory)
