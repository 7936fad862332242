"""What an operation to be timed looks like: the protocol of the files in this folder.

One file an operation (or a family of them), with a list `OPS`. The runner imports every file of the folder, so a file
imports nothing heavy at its top. To add one::

    from .op import Contender, Missing, Op

    def ours(case):
        import torch                                     # heavy imports in here
        from ...kernels.splat import rasterize
        scene = make_scene(case["count"], seed=0)        # the same input for everyone: made from the case, by seed
        return lambda: {"color": rasterize(*scene).color}

    def theirs(case):
        module = opponents.comfyui("comfy_extras.nodes_gaussian_splat")   # raises Missing where it is not installed
        ...
        return lambda: {"color": ...}

    OPS = [Op("splat", "Gaussian splats to one picture",
              {"S": dict(count=5000, side=256), "M": dict(count=50000, side=512)},
              (Contender("ours", ours), Contender("RenderSplat", theirs, same=False, note="another formula")))]

Each contender lives in a process of its own (so that its peak memory is its own), with `case["device"]` and the number
of threads set. `prepare(case)` is not timed; what it returns is called once to warm up and then timed, the contenders
taking turns. It returns named tensors (or None): they are compared with those of the first contender. An operation
whose results are not the same but better or worse has a `measure`, whose figures stand beside the times.
A long operation also returns what a `clock.StageClock` found, under "stages": seconds and memory of its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SIZES = ("S", "M", "L")


class Missing(Exception):
    """A contender is not there; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Contender:
    """One way to do the operation."""

    name: str
    prepare: Callable[[dict[str, Any]], Callable[[], dict | None]]
    same: bool = True  # computes the same thing as ours, so that a difference is an error
    sizes: tuple[str, ...] = SIZES  # where it takes part
    note: str = ""  # said beside its line: versions, other formulas, why sizes are left out


@dataclass(frozen=True)
class Op:
    """One operation; `contenders[0]` is ours, `sizes` the case of each size: plain numbers and words."""

    name: str
    summary: str
    sizes: dict[str, dict[str, Any]]
    contenders: tuple[Contender, ...]
    measure: Callable[[dict[str, Any], dict], dict[str, float]] | None = None  # (case, outputs) -> how good they are
