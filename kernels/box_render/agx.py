"""Blender's AgX view in a closed form of 30 numbers, fitted to samples of its output.

display = srgb(guard(N mix(curve(log2 M rgb)))): an inset matrix, a curve on each channel, the hue of before the curve
mixed with that of after it, an outset matrix, and colors outside of sRGB raised to it at the same luminance. For linear
values below 0.3, where control pictures live. Off by 0.06 of 255 levels on the mean for values below 0.02, 0.4 for
0.02 to 0.12, 0.8 for 0.12 to 0.3 (held-out samples). `bias` is half a level, by which Blender's dither raises a
picture. The numbers are in `agx_fit.json`, which the editor's shader reads too.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch
from torch import Tensor

FILE = Path(__file__).with_name("agx_fit.json")


@functools.cache
def coefficients() -> dict:
    """The numbers of the fit: matrices by rows, polynomial with the highest power first."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def agx(linear: Tensor) -> Tensor:
    """Scene-linear Rec.709 [..., 3] to AgX display values in sRGB encoding, 0 to 1; same shape and dtype."""
    fit = coefficients()
    inset = linear.clamp_min(0.0) @ linear.new_tensor(fit["inset"]).mT
    t = (torch.log2(inset + 2.0 ** fit["log_offset"]) - fit["log_shift"]) / fit["log_scale"]
    curve = torch.full_like(t, fit["polynomial"][0])
    for number in fit["polynomial"][1:]:
        curve = curve * t + number
    curve = curve.clamp_min(0.0) ** fit["power"]
    # the channel between the others, moved towards where it lay before the curve: the hue of both, mixed
    low, high = inset.amin(-1, keepdim=True), inset.amax(-1, keepdim=True)
    bottom, top = curve.amin(-1, keepdim=True), curve.amax(-1, keepdim=True)
    before = bottom + (top - bottom) * (inset - low) / (high - low + 1e-9)
    mixed = torch.lerp(curve, before, fit["hue_mix"])
    return srgb(_guard(mixed @ linear.new_tensor(fit["outset"]).mT, linear.new_tensor(fit["luminance"])))


def _guard(color: Tensor, weights: Tensor) -> Tensor:
    """Colors with a negative channel are lifted until it is 0, then darkened to the luminance they had."""

    def luminance(c):
        y = c @ weights
        inverse = c.amax(-1, keepdim=True) - c
        return inverse.amax(-1) - inverse @ weights + y

    lifted = color + (-color.amin(-1, keepdim=True)).clamp_min(0.0)
    old, new = luminance(color), luminance(lifted)
    ratio = torch.where(new > old, old / new.clamp_min(1e-9), 1.0)
    return (lifted * ratio[..., None]).clamp_min(0.0)


def srgb(linear: Tensor) -> Tensor:
    """The sRGB encoding of linear values of at least 0."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055)
