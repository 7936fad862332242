"""The widgets that the flow samplers of several models share."""

from __future__ import annotations

from ..scene.errors import InputError
from .host import io


def seed_input(more: str = "") -> io.Input:
    """The number that fixes the noise; more: goes on with the tooltip's sentence."""
    return io.Int.Input(
        "seed", default=42, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip=f"Number that chooses the starting noise of this stage{more}.",
    )  # fmt: skip


def steps_input(default: int) -> io.Input:
    return io.Int.Input("steps", default=default, min=1, max=1000, tooltip="Sampling steps of one pass.")


def interval_inputs(interval: tuple[float, float]) -> list[io.Input]:
    """When guidance acts; interval: (end, start) in flow time, published."""
    low, high = interval
    return [
        io.Float.Input(
            "guidance_start", default=high, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="Time from which guidance acts; sampling runs from time 1 (noise) to 0.",
        ),
        io.Float.Input(
            "guidance_end", default=low, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="Time at which guidance ends; below it the picture is followed plainly.",
        ),
    ]  # fmt: skip


def guidance_interval(start: float, end: float) -> tuple[float, float]:
    """(end, start), as the library has it; InputError where they are the wrong way around."""
    if end > start:
        raise InputError(f"`guidance_end` {end} comes before `guidance_start` {start}; swap them.")
    return end, start


def rescale_input(default: float) -> io.Input:
    return io.Float.Input(
        "rescale_t", default=default, min=0.01, max=100.0, step=0.01, advanced=True,
        tooltip="How many of the steps are spent near the noise: 1 spreads them evenly, more makes form finer.",
    )  # fmt: skip
