"""The transfer curve of sRGB (IEC 61966-2-1), on tensors of any shape."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(srgb: Tensor) -> Tensor:
    """sRGB values in [0, 1] without their transfer curve."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def encoded(values: Tensor) -> Tensor:
    """The inverse of `linear`."""
    return torch.where(values <= 0.0031308, values * 12.92, 1.055 * values.clamp(min=0) ** (1 / 2.4) - 0.055)
