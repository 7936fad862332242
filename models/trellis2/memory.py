"""How much memory a stage will take, before it starts, and what to do where that is too much.

Every estimate is affine in the number of tokens, voxels or pixels; the factors count the tensors alive at the worst
moment of the code they describe. They are upper bounds, held against measured peaks by the tests. Bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...scene.errors import InputError
from .config import FlowConfig, SparseVaeConfig, StructureVaeConfig
from .streaming import WORKSPACE, body_row_bytes, up_row_bytes

GROWTH = (
    4.5  # voxels a surface has on a grid twice as fine, per voxel; 4 in the limit, more where it is thin or creased
)
SLACK = 192 << 20  # the allocator's leftovers (a C heap keeps pieces below 32 MB) and the library's own buffers
LEAST_WORKSPACE = 64 << 20


@dataclass(frozen=True)
class Plan:
    """How a stage is run. needed: bytes beside what is in use already; batched: both guidance branches in one pass;
    workspace: bytes per block of a streamed decoding, None where everything is decoded at once."""

    stage: str
    needed: int
    batched: bool = False
    workspace: int | None = None


def free_bytes(device: torch.device | str) -> int | None:
    """Memory a stage may take on a device now; None where the system does not tell."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "cpu" and Path("/proc/meminfo").is_file():
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
        return found[0] if found else None
    return None


def available(memory: int | str | None, device: torch.device | str) -> int | None:
    """What the option `memory` of the pipelines means: None plans nothing, a number of bytes is a limit, "auto" takes
    what is free on the device now; None where that is not known. Raises InputError for anything else."""
    if memory is None or (isinstance(memory, int) and not isinstance(memory, bool) and memory > 0):
        return memory
    if memory != "auto":
        raise InputError(f"`memory` is {memory!r}; a number of bytes, 'auto' or None would work.")
    return free_bytes(device)


def weight_bytes(model: nn.Module, device: torch.device | str | None = None) -> int:
    """Bytes of the parameters; with a device, of those that are not there yet."""
    device = None if device is None else torch.device(device)
    return sum(
        p.numel() * p.element_size() for p in model.parameters() if device is None or p.device.type != device.type
    )


def flow_memory(
    cfg: FlowConfig, tokens: int, context: int, *, branches: int = 1, device: torch.device | str = "cpu"
) -> int:
    """Working memory of a flow stage with fused attention, its weights not counted.

    tokens: 3D tokens; context: image tokens; branches: 2 where both guidance branches run in one pass. Counted are the
    conditions with their zero twins, the sampler's tensors, and the larger of attention and feed-forward of a block.
    """
    size, computing = _sizes(cfg.dtype, device)
    c, heads = cfg.model_channels, cfg.num_heads
    feed_forward = 2 * cfg.mlp_ratio * c * computing + 4 * c * size
    attention = 8 * c * computing + 16 * c
    block = max(feed_forward, attention) + 2 * c * size + 8 * c
    io = 4 * (4 * cfg.in_channels + 6 * cfg.out_channels) + 12 * (c // heads)
    projected = (cfg.projected_channels or 0) * (8 + (size if branches == 1 else 8 + 2 * size))
    image = context * (8 * cfg.cond_channels + branches * (cfg.cond_channels * size + 6 * c * computing))
    return int(tokens * (branches * (block + io) + projected) + image + _weight_copy(cfg, c, device) + SLACK)


def _weight_copy(cfg: FlowConfig, c: int, device: torch.device | str) -> int:
    """Half precision on a CPU: one layer's weights, converted or laid out anew."""
    half = cfg.dtype in (torch.float16, torch.bfloat16) and torch.device(device).type == "cpu"
    return int(2 * max(3, cfg.mlp_ratio) * c * c * 4) if half else 0


def _sizes(dtype: torch.dtype, device: torch.device | str) -> tuple[int, int]:
    """Bytes of a stored number and of one in a layer's work; float16 is computed in float32 on a CPU."""
    both = dtype == torch.float16 and torch.device(device).type == "cpu"
    return dtype.itemsize, dtype.itemsize + 4 if both else dtype.itemsize


def structure_memory(cfg: StructureVaeConfig, resolution: int) -> int:
    """Working memory of the dense structure decoder for a latent of resolution^3."""
    levels = [(resolution << level) ** 3 * width for level, width in enumerate(cfg.channels)]
    return 28 * max(levels) + SLACK


def level_voxels(cfg: SparseVaeConfig, tokens: int) -> list[int]:
    """Voxels expected on each level of a decoder, coarse to fine, for so many latent voxels."""
    return [round(tokens * GROWTH**level) for level in range(len(cfg.model_channels))]


def decoder_memory(
    cfg: SparseVaeConfig, voxels: Sequence[int], *, guided: bool = False, device: torch.device | str = "cpu"
) -> int:
    """Working memory of decoding everything at once, with the result. voxels: per level, coarse to fine.

    guided: the subdivisions and neighbor maps are another decoder's and counted there.
    """
    widths, size = cfg.model_channels, cfg.dtype.itemsize
    work = [
        n * body_row_bytes(width, cfg.dtype, device) for n, width, count in zip(voxels, widths, cfg.num_blocks) if count
    ]
    for level in range(len(widths) - 1):
        children = voxels[level + 1] / max(1, voxels[level])
        work.append(voxels[level] * up_row_bytes(widths[level], widths[level + 1], children, cfg.dtype, device))
    work.append(voxels[-1] * (widths[-1] * (size + 8) + 8 * (cfg.out_channels or 0)))
    kept = 0 if guided else _kept(cfg, voxels) + sum(voxels) * (body_row_bytes(0, cfg.dtype, device))
    return max(work) + kept + _convolution_copy(cfg, device) + SLACK


def streamed_memory(
    cfg: SparseVaeConfig,
    voxels: Sequence[int],
    workspace: int,
    *,
    guided: bool = False,
    device: torch.device | str = "cpu",
) -> int:
    """As `decoder_memory` for `stream_decode`: two levels of features, the result, and the workspace of one block."""
    widths, size, out = cfg.model_channels, cfg.dtype.itemsize, 4 * (cfg.out_channels or 0)
    last = len(widths) - 1
    stored = [2 * n * width * size for n, width, count in zip(voxels, widths, cfg.num_blocks) if count]
    for level in range(last):
        n, m = voxels[level : level + 2]
        finer = out if level + 1 == last and not cfg.num_blocks[last] else widths[level + 1] * size
        stored.append(n * (widths[level] * size + 40) + m * (finer + 12))
    kept = 0 if guided else _kept(cfg, voxels)
    return (
        max(stored)
        + kept
        + min(workspace, decoder_memory(cfg, voxels, device=device))
        + _convolution_copy(cfg, device)
        + SLACK
    )


def encoder_memory(cfg: SparseVaeConfig, voxels: int, *, device: torch.device | str = "cpu") -> int:
    """Working memory of encoding so many input voxels; every level has at most as many, at its own width."""
    counts = [voxels / 3**level for level in range(len(cfg.model_channels))]
    work = [n * body_row_bytes(width, cfg.dtype, device) for n, width in zip(counts, cfg.model_channels)]
    kept = sum(counts) * (body_row_bytes(0, cfg.dtype, device) + 40)
    return int(max(work) + kept + _convolution_copy(cfg, device) + SLACK)


def _kept(cfg: SparseVaeConfig, voxels: Sequence[int]) -> int:
    """The subdivisions, which the texture decoder follows, and their logits."""
    return sum(n * (8 * cfg.dtype.itemsize + 16) for n in voxels[:-1]) + 40 * sum(voxels[1:])


def _convolution_copy(cfg: SparseVaeConfig, device: torch.device | str) -> int:
    """One convolution's weights once more: converted on a CPU, transposed on a GPU."""
    widths = cfg.model_channels
    pairs = [(w, w) for w in widths] + [(a, 8 * b) for a, b in zip(widths[:-1], widths[1:])]
    return 2 * max(27 * a * b for a, b in pairs) * (4 if torch.device(device).type == "cpu" else cfg.dtype.itemsize)


def image_memory(
    image_size: int, *, views: int = 1, patch_size: int = 16, channels: int = 1024, hidden: int = 4096
) -> int:
    """Working memory of the image encoder (float32, fused attention) for `views` square pictures at once."""
    tokens = views * ((image_size // patch_size) ** 2 + 5)
    return 4 * (tokens * (10 * channels + 2 * hidden) + 8 * views * 3 * image_size**2) + SLACK


def naf_memory(
    image_size: int, target: int, points: int, *, dim: int = 256, channels: int = 1024, projected: bool = True
) -> int:
    """Working memory of NAF at points: its image encoder on the whole picture, and the features that are read.

    projected: with the features of the patch map beside NAF's.
    """
    side = min(image_size, 4 * target)
    encoder = 4 * (dim // 2) * (6 * side**2 + target**2)
    pixels = min(4 * points, target**2)
    reads = pixels * (8 * dim + 32) + points * (4 * channels * (3 if projected else 1) + 160)
    return encoder + reads + (64 << 20) + SLACK


def gigabytes(count: float) -> str:
    return f"{count / 2**30:.1f} GB"


def plan_flow(
    stage: str,
    cfg: FlowConfig,
    tokens: int,
    context: int,
    free: int,
    *,
    guided: bool = True,
    batched: bool = False,
    weights: int = 0,
    device: torch.device | str = "cpu",
) -> Plan:
    """Both guidance branches in one pass if that was asked for and fits, one after the other if that fits.

    weights: bytes that must still be brought to the device; guided: whether there are two branches at all. Raises
    InputError naming the knob and the number where nothing fits.
    """
    needed = 0
    for branches in (2, 1) if batched and guided else (1,):
        needed = weights + flow_memory(cfg, tokens, context, branches=branches, device=device)
        if needed <= free:
            return Plan(stage, needed, branches == 2)
    fixed = weights + flow_memory(cfg, 0, context, device=device)
    possible = int(tokens * (free - fixed) / max(1, needed - fixed))
    if possible >= 1:
        advice = f"set `max_num_tokens` to {possible} or less, or choose a lower resolution"
    else:
        advice = f"its weights and conditions alone take {gigabytes(fixed)}: free that much, or use another device"
    raise InputError(
        f"The {stage} stage needs {gigabytes(needed)} for {tokens} tokens, and {gigabytes(free)} are free; {advice}."
    )


def plan_decode(
    stage: str,
    cfg: SparseVaeConfig,
    tokens: int,
    free: int,
    *,
    weights: int = 0,
    guided: bool = False,
    voxels: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Plan:
    """Everything at once if that fits, else in octree blocks as large as fit.

    voxels: per level where they are known, default `level_voxels`. Raises InputError naming the knob and the number.
    """
    expected = level_voxels(cfg, tokens) if voxels is None else list(voxels)
    needed = weights + decoder_memory(cfg, expected, guided=guided, device=device)
    if needed <= free:
        return Plan(stage, needed)
    workspace = WORKSPACE
    while True:
        needed = weights + streamed_memory(cfg, expected, workspace, guided=guided, device=device)
        if needed <= free:
            return Plan(stage, needed, workspace=workspace)
        if workspace // 2 < LEAST_WORKSPACE:
            break
        workspace //= 2
    fixed = weights + streamed_memory(cfg, [0] * len(expected), workspace, guided=guided, device=device) + workspace
    possible = int(tokens * (free - fixed) / max(1, needed - fixed))
    if possible >= 1:
        advice = f"set `max_num_tokens` to {possible} or less"
    else:
        advice = f"{gigabytes(fixed)} are needed before the first voxel: free that much, or use another device"
    raise InputError(
        f"The {stage} needs {gigabytes(needed)} for about {expected[-1]} voxels even in the smallest blocks, and "
        f"{gigabytes(free)} are free; {advice}."
    )


def check_levels(
    stage: str,
    cfg: SparseVaeConfig,
    voxels: Sequence[int],
    workspace: int,
    free: int,
    *,
    guided: bool = False,
    device: torch.device | str = "cpu",
) -> None:
    """Raises InputError where the levels decoded so far, whose voxels are counted now, already need more than `free`.

    voxels: of the first levels. For `stream_decode`, whose plan was made before they were known.
    """
    known = [*voxels, *[0] * (len(cfg.model_channels) - len(voxels))]
    needed = streamed_memory(cfg, known, workspace, guided=guided, device=device)
    if needed > free:
        fixed = streamed_memory(cfg, [0] * len(known), workspace, device=device)
        fixed += min(workspace, decoder_memory(cfg, known, device=device))
        possible = max(1, int(voxels[0] * (free - fixed) / max(1, needed - fixed)))
        raise InputError(
            f"The {stage} needs {gigabytes(needed)} for the {voxels[-1]} voxels it found at level {len(voxels) - 1}, "
            f"and {gigabytes(free)} were free; set `max_num_tokens` to {possible} or less."
        )


def require(stage: str, needed: int, free: int, advice: str) -> Plan:
    """A stage without a choice: raises InputError with `advice` where it does not fit."""
    if needed > free:
        raise InputError(f"The {stage} needs {gigabytes(needed)}, and {gigabytes(free)} are free; {advice}.")
    return Plan(stage, needed)
