"""How long sampling a scene will take and how much memory, before it starts.

Work is counted in multiplications: of the flows, and of the aggregators, whose counts follow from the cameras. How fast
this machine is, is measured by one evaluation of the structure flow on one chunk, one batch of voxels, one block of the
structure decoder and, where the photos are there, one of them. Source of the counts: GenRecon, specification 2 and 5.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...kernels.multi_diffusion import DenseOverlap, chunk_offsets
from ...kernels.view_aggregation import PAIR_BYTES, TABLE_BYTES
from ...kernels.view_projection import project_to_patches
from ..trellis2.config import FlowConfig
from ..trellis2.memory import SLACK, flow_memory, structure_memory, weight_bytes
from ..trellis2.samplers import SamplerSettings, flow_times
from .family import ROLES, SceneFamily
from .flows import SceneCondition, ViewTokens
from .joint_condition import IN_MEMORY, SceneViews, lattice_points
from .scene_sampling import KV_BYTES

TYPICAL_SURFACE = 5.0  # occupied voxels of a chunk of R^3, in R^2, where nothing is known about the room
PROBE = 1024  # voxels whose aggregation is timed
SAMPLES = 3  # batches whose samples are counted
DECODER = "sparse_structure_decoder"

Clock = Callable[[], float]


@dataclass(frozen=True)
class Estimate:
    """seconds per stage ("photos", "structure", "shape", "texture"); the most bytes the device will hold, those that
    are in use already among them; tokens: expected voxels of every chunk."""

    seconds: dict[str, float]
    memory: int
    tokens: tuple[int, ...] = field(default=(), repr=False)

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


# ---- work


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


def aggregation_work(valid: Tensor, patch: Tensor, width: int) -> float:
    """Multiplications of aggregating V voxels, seen by N views as valid [N, V] says, at patches [N, V]: first layers on
    each token that is used, and on mean and variance of each voxel; the rest on each sample and each voxel."""
    pairs = int(valid.sum())
    rows = patch + torch.arange(len(patch), device=patch.device)[:, None] * (int(patch.max()) + 1)
    used = len(torch.unique(rows[valid]))
    return 2.0 * used * width**2 + valid.shape[1] * 5.0 * width**2 + pairs * (width**2 + width)


# ---- speed


@torch.no_grad()
def measure_speed(family: SceneFamily, context: int, repeats: int = 2, clock: Clock = time.perf_counter) -> float:
    """Multiplications per second, by the structure flow on one chunk of zeros."""
    with family.on_device(ROLES["structure"]) as model:
        cfg, device = model.config, family.device
        x = torch.zeros(1, cfg.in_channels, *[cfg.resolution] * 3, device=device)
        tokens = torch.zeros(context, cfg.cond_channels, device=device)
        voxels = torch.zeros(1, cfg.resolution**3, cfg.cond_channels, device=device)
        cond, t = SceneCondition([ViewTokens(tokens)], voxels), torch.full((1,), 500.0, device=device)
        best = _best(lambda: float(model(x, t, cond).sum()), repeats, clock)
    return flow_work(cfg, cfg.resolution**3, context) / best


def _best(call: Callable[[], float], repeats: int, clock: Clock) -> float:
    """Seconds of the fastest call; what it returns waits for the device."""
    best = float("inf")
    for _ in range(max(1, repeats)):
        begin = clock()
        call()
        best = min(best, clock() - begin)
    return max(best, 1e-9)


@torch.no_grad()
def _condition_seconds(
    family: SceneFamily, views: SceneViews, points: Tensor, count: int, cells: int, dtype: torch.dtype, clock: Clock
) -> float:
    """Seconds of aggregating `count` voxels, `cells` at a time; their centers lie as points [P, 3] do, in order."""
    if not count or not len(points):
        return 0.0
    width = views.tokens.shape[-1]
    patches = round((views.tokens.shape[1] - views.prefix) ** 0.5)
    batch = max(1, min(cells, count))
    starts = sorted({int(s) for s in torch.linspace(0, max(0, len(points) - batch), SAMPLES)})
    found = []
    for start in starts:
        some = points[start : start + batch].to(views.tokens.device)
        patch, valid = project_to_patches(some, views.extrinsics, views.intrinsics, patches, dtype)
        found.append((aggregation_work(valid, patch, width) / len(some), patch, valid))
    each = sum(work for work, _, _ in found) / len(found)
    _, patch, valid = found[len(found) // 2]
    patch, valid = patch[:, :PROBE], valid[:, :PROBE]
    with family.on_device(ROLES["structure"]) as model:
        aggregator = model.aggregator
        call = lambda: float(aggregator.from_patches(views.tokens, patch, valid, prefix=views.prefix).sum())  # noqa: E731
        seconds = _best(call, 2, clock)
    return count * each * seconds / aggregation_work(valid, patch, width)


@torch.no_grad()
def _decoder_seconds(family: SceneFamily, cells: int, clock: Clock) -> float:
    """Seconds of the structure decoder on a lattice of so many cells, by half a chunk along each axis."""
    if DECODER not in family.models:
        return 0.0
    with family.on_device(DECODER) as decoder:
        side = max(2, family.get(ROLES["structure"]).config.resolution // 2)
        x = torch.zeros(1, decoder.config.latent_channels, *[side] * 3, device=family.device)
        return _best(lambda: float(decoder(x).sum()), 2, clock) * cells / side**3


# ---- all of it


def estimate(
    family: SceneFamily,
    settings: dict[str, SamplerSettings],
    relative: Tensor,
    views: SceneViews,
    tokens: Sequence[int] | None = None,
    surface: Tensor | None = None,
    *,
    cells: int = 8192,
    batch: int = 1,
    projection: torch.dtype = torch.float32,
    photos: float = 0.0,
    voxels: bool = True,
    store_bytes: int = IN_MEMORY,
    clock: Clock = time.perf_counter,
) -> Estimate:
    """Time and memory of sampling a scene.

    settings: per stage; relative: [K, 3] of the chunks; views: their tokens may be zeros. tokens: expected voxels of
    every chunk (`scene.surface_cells`), else `TYPICAL_SURFACE` is assumed; surface: [P, 3] points of the surface in the
    joint frame, which the voxels of the later stages lie near. cells, batch, projection, store_bytes: as the sampler
    has them. photos: seconds of reading and encoding them; voxels: whether there is a per-voxel condition. clock: wall
    time, or time of the processor.
    """
    context, width = views.tokens.shape[1], views.tokens.shape[2]
    own = [weight_bytes(family.get(role), family.device) for role in ROLES.values()]
    held = in_use(family.device)
    speed = measure_speed(family, context, clock=clock)
    seconds, needed = {"photos": photos} if photos else {}, 0
    for stage, role in ROLES.items():
        model = family.get(role)
        cfg, dense = model.config, stage == "structure"
        overlap = DenseOverlap(chunk_offsets(relative, cfg.resolution), cfg.resolution)
        used = torch.zeros(overlap.size, dtype=torch.bool)
        for i in range(len(relative)):
            used[overlap.block(i)] = True
        lattice = used.nonzero()
        once = len(lattice) / (len(relative) * cfg.resolution**3)  # of a chunk, not counted twice in overlaps
        if dense:
            counts, rows, where = [cfg.resolution**3] * len(relative), len(lattice), lattice
        else:
            typical = min(TYPICAL_SURFACE * cfg.resolution**2, cfg.resolution**3)
            counts = [round(n) for n in (tokens if tokens is not None else [typical] * len(relative))]
            rows, where = round(sum(counts) * once), _near(surface, relative, cfg.resolution, lattice)
        points = lattice_points(where, cfg.resolution, relative)
        seconds[stage] = stage_work(cfg, settings[stage], counts, context) / speed
        if voxels:
            seconds[stage] += _condition_seconds(family, views, points, rows, cells, projection, clock)
        store = rows * width * 4
        condition = (store if store <= store_bytes else 0) + sorted(counts)[-1] * batch * width * 4
        latents = 4 * sum(counts) * (2 * cfg.in_channels + cfg.out_channels)
        most = sum(sorted(counts)[-batch:])
        acting = flow_memory(cfg, most, context, device=family.device) - SLACK
        caching = 2 * cfg.model_channels * cfg.num_blocks * context * (2 if cfg.dtype.itemsize == 2 else 4)
        caching = min(KV_BYTES, caching * min(len(views.tokens), len(relative)))
        table = min(TABLE_BYTES, 2 * width * 4 * len(views.tokens) * min(context, cells))
        aggregating = 2 * PAIR_BYTES + table + 17 * len(views.tokens) * min(cells, rows)
        needed = max(needed, condition + latents + max(acting + caching, aggregating))
        if dense:
            seconds[stage] += _decoder_seconds(family, lattice_cells(overlap), clock)
            if DECODER in family.models:
                decoder = family.get(DECODER)
                decoding = structure_memory(decoder.config, min(max(overlap.size), 2 * cfg.resolution))
                needed = max(needed, decoding - SLACK)
    weights = max(own) if family.low_vram else sum(own)
    return Estimate(seconds, held + weights + needed, tuple(counts))


def in_use(device: torch.device | str) -> int:
    """Bytes held now: by tensors on a GPU, by this process on a CPU (0 where the system does not tell)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    status = Path("/proc/self/status")
    if device.type != "cpu" or not status.is_file():
        return 0
    found = [line.split()[1] for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) << 10 if found else 0


def lattice_cells(overlap: DenseOverlap) -> int:
    """Cells of the whole lattice, covered by a chunk or not."""
    x, y, z = overlap.size
    return x * y * z


def _near(surface: Tensor | None, relative: Tensor, resolution: int, lattice: Tensor) -> Tensor:
    """Lattice cells in their order: those that points [P, 3] of the joint frame lie in, all where there are none."""
    if surface is None or not len(surface):
        return lattice
    cells = ((surface.double() - (relative.double().amin(0) - 0.5)) * resolution).floor().long()
    cells = torch.unique(cells, dim=0)
    size = lattice.amax(0) + 1
    cells = cells[((cells >= 0) & (cells < size)).all(1)]
    return cells if len(cells) else lattice
