"""Pictures, masks and point maps as SAM 3D's encoders see them: cropped to the object, and whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError

BOX_FACTOR = 1.2
SIZE = 518


@dataclass(frozen=True)
class Prepared:
    """Encoder inputs by name ([C, S, S] float32), and the point map's moments [3] where there is one."""

    inputs: dict[str, Tensor]
    scale: Tensor | None = None
    shift: Tensor | None = None

    def batch(self) -> dict[str, Tensor]:
        return {name: value[None] for name, value in self.inputs.items()}


def prepare(
    image: Tensor,
    mask: Tensor,
    pointmap: Tensor | None = None,
    *,
    size: int = SIZE,
    crop: bool = True,
    box_factor: float = BOX_FACTOR,
) -> Prepared:
    """What the encoders take of one picture.

    image: [3, H, W] in 0..1, the background stays; mask: [H, W], above 0 is the object; pointmap: [3, h, w] in
    PyTorch3D axes (x left, y up, z in), not finite where unknown. crop: crop "image" and "mask" to the object; the
    structure stage of the official code does so only where there is a point map (its prior pictures are whole).
    Raises InputError for sizes that differ and for a mask without an object of at least 2 x 2 pixels.
    Source: SAM 3D, `PreProcessor` with the settings of the published pipeline.
    """
    if image.ndim != 3 or image.shape[0] != 3 or mask.shape != image.shape[1:]:
        raise InputError(f"The picture is {list(image.shape)}, the mask {list(mask.shape)}; [3, H, W] and [H, W] fit.")
    image, mask = image.float(), mask.float()
    whole_points, points, scale, shift = None, None, None, None
    if pointmap is not None:
        scale, shift = moments(pointmap.float(), mask)
        points = (pointmap.float() - shift[:, None, None]) / scale[:, None, None]
        whole_points = points
    part, part_mask = image, mask
    if crop:
        box = object_box(mask, box_factor)
        part, part_mask = (_squared(_cut(value, box), 0.0) for value in (image, mask[None]))
        part_mask = part_mask[0]
        if points is not None:
            points = _squared(_cut(match_size(points, *image.shape[1:]), box), float("nan"))
    inputs = {
        "image": _resized(_squared(part, 0.0), size, "bilinear"),
        "mask": _resized(_squared(part_mask[None], 0.0), size, "nearest"),
        "rgb_image": _resized(_squared(image, 0.0), size, "bilinear"),
        "rgb_image_mask": _resized(_squared(mask[None], 0.0), size, "nearest"),
    }
    if points is not None:
        inputs["pointmap"] = _resized(_squared(points, 0.0), size, "nearest")
        inputs["rgb_pointmap"] = _resized(_squared(whole_points, 0.0), size, "nearest")  # zeros, as released
    return Prepared(inputs, scale, shift)


def moments(pointmap: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scale [3] (equal) and shift [3]: the median point of the object, and the median over all pixels of the largest
    coordinate about it; 1 and 0 where the object has no known point."""
    chosen = F.interpolate(mask[None, None], size=pointmap.shape[1:], mode="nearest")[0, 0] > 0.5
    flat = pointmap.reshape(3, -1)
    points = flat[:, chosen.flatten()]
    if points.numel() == 0 or not bool(points.isfinite().any()):
        return torch.ones(3), torch.zeros(3)
    shift = points.nanmedian(dim=-1).values
    scale = (flat - shift[:, None]).abs().max(dim=0).values.nanmedian()
    return scale.expand(3), shift


def object_box(mask: Tensor, factor: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square around the object, `factor` times its longer side; may leave the picture."""
    rows, columns = torch.nonzero(mask, as_tuple=True)
    if rows.numel() == 0:
        raise InputError("The mask is empty: nothing in the picture is selected; paint the object.")
    top, bottom, left, right = (int(v) for v in (rows.min(), rows.max(), columns.min(), columns.max()))
    if right - left < 2 or bottom - top < 2:
        raise InputError(f"The mask selects {right - left + 1} x {bottom - top + 1} pixels; at least 3 x 3 are needed.")
    half = int(max(right - left, bottom - top, 2) * factor) // 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return int(x - half), int(y - half), int(x + half), int(y + half)


def match_size(points: Tensor, height: int, width: int) -> Tensor:
    """A point map [3, h, w] at another size; pixels whose nearest was unknown stay unknown."""
    if tuple(points.shape[1:]) == (height, width):
        return points
    unknown = torch.isnan(points).any(0)
    clean = torch.where(torch.isnan(points), torch.zeros_like(points), points)
    resized = F.interpolate(clean[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    unknown = F.interpolate(unknown[None, None].float(), (height, width), mode="nearest")[0, 0] > 0.5
    return torch.where(unknown, torch.nan, resized)


def _cut(value: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """The box [C, b - t, r - l] of value [C, H, W], zeros outside the picture."""
    left, top, right, bottom = box
    height, width = value.shape[1:]
    inner = value[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    return F.pad(inner, (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0)))


def _squared(value: Tensor, fill: float) -> Tensor:
    height, width = value.shape[1:]
    first, other = abs(height - width) // 2, abs(height - width) - abs(height - width) // 2
    pad = (first, other, 0, 0) if height > width else (0, 0, first, other)
    return F.pad(value, pad, value=fill)


def _resized(value: Tensor, size: int, mode: str) -> Tensor:
    if tuple(value.shape[1:]) == (size, size):
        return value
    options = {"align_corners": False, "antialias": True} if mode == "bilinear" else {}
    return F.interpolate(value[None], (size, size), mode=mode, **options)[0]
