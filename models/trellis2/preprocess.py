"""From a picture with alpha to the square crop and the tensors the image encoders see."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError, MissingDependency
from ...scene.views import composite, square

TRELLIS2_PADDING = 1.0
PIXAL3D_PADDING = 1.1
OPAQUE = 0.8 * 255
EMPTY_LEVEL = 2 / 255  # no pixel brighter: there is nothing to see
BACKGROUND_LEVEL = 16 / 255  # a border brighter than this is no black background


def _pillow():
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependency("Image preprocessing needs Pillow; run `pip install pillow`.") from None
    return Image


def crop_to_object(
    rgba: np.ndarray,
    padding: float = TRELLIS2_PADDING,
    background: tuple[float, float, float] = (0, 0, 0),
    max_side: int = 1024,
) -> np.ndarray:
    """Cuts the object out as a square on a plain background.

    rgba [H, W, 4] uint8; padding: side of the square per longest side of the object (1.0 TRELLIS.2, 1.1 Pixal3D);
    background: RGB in [0, 1]. Returns uint8 [S, S, 3]. The picture is first reduced so that its long side is at most
    `max_side`; pixels with alpha above 80 % make the object; S may differ by one between height and width, as the
    crop's edges are rounded one by one. Raises InputError where there is no alpha or nothing is opaque.
    Source: TRELLIS.2 and Pixal3D, `preprocess_image`.
    """
    rgba, box = _object_box(rgba, padding, max_side)
    crop = _crop(rgba, *box).astype(np.float32) / 255
    alpha = crop[..., 3:]
    rgb = crop[..., :3] * alpha
    if any(background):
        rgb = np.clip(rgb + np.asarray(background, dtype=np.float32) * (1 - alpha), 0, 1)
    return (rgb * 255).astype(np.uint8)


def crop_like(
    mask: np.ndarray, rgba: np.ndarray, padding: float = TRELLIS2_PADDING, max_side: int = 1024
) -> np.ndarray:
    """The part [S, S] of a mask [H, W] uint8 that lies in the picture `crop_to_object` makes of `rgba` [H, W, 4].

    Raises InputError where the two are not of one size.
    """
    if mask.shape != np.asarray(rgba).shape[:2]:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} and the picture {rgba.shape[1]}x{rgba.shape[0]}"
        raise InputError(f"The mask is {sizes}; both must be of one size.")
    scaled, box = _object_box(rgba, padding, max_side)
    small = _pillow().fromarray(mask).resize((scaled.shape[1], scaled.shape[0]), _pillow().Resampling.NEAREST)
    return _crop(np.asarray(small)[..., None], *box)[..., 0]


def _object_box(rgba: np.ndarray, padding: float, max_side: int) -> tuple[np.ndarray, list[int]]:
    """The picture at its working size, and left, top, right, bottom of the square around its object."""
    rgba = np.asarray(rgba)
    if rgba.ndim != 3 or rgba.shape[-1] != 4 or rgba.dtype != np.uint8:
        raise InputError(
            f"The image is {rgba.dtype} {list(rgba.shape)}; it needs an alpha channel, uint8 [H, W, 4]: "
            "remove the background first."
        )
    if (rgba[..., 3] == 255).all():
        raise InputError("The image is opaque everywhere; remove the background or give a mask of the object.")
    image = _pillow().fromarray(rgba)
    scale = min(1, max_side / max(image.size))
    if scale < 1:
        size = [max(1, int(side * scale)) for side in image.size]
        rgba = np.asarray(image.resize(size, _pillow().Resampling.LANCZOS))
    rows, columns = np.nonzero(rgba[..., 3] > OPAQUE)
    if not rows.size:
        raise InputError("The image has no pixel with alpha above 80 %; nothing is selected: check the mask.")
    left, top, right, bottom = columns.min(), rows.min(), columns.max(), rows.max()
    half = int(max(right - left, bottom - top) * padding) // 2
    if half < 1:
        raise InputError(f"The object is {right - left + 1} x {bottom - top + 1} pixels; at least 3 a side are needed.")
    cx, cy = (left + right) / 2, (top + bottom) / 2
    return rgba, [int(round(float(v))) for v in (cx - half, cy - half, cx + half, cy + half)]


def _crop(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The box of an image, transparent where it reaches outside."""
    height, width = image.shape[:2]
    out = np.zeros((bottom - top, right - left, image.shape[2]), dtype=image.dtype)
    x0, x1, y0, y1 = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
    out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


def image_tensor(rgb: np.ndarray, side: int) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, side, side] in [0, 1], resized with Lanczos filtering."""
    rgb = np.asarray(rgb)
    if rgb.ndim != 3 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"The image is {rgb.dtype} {list(rgb.shape)}; uint8 [H, W, 3] would work.")
    pillow = _pillow()
    resized = pillow.fromarray(rgb).resize((side, side), pillow.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized).astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


def squares_on_black(images: Tensor, masks: Tensor | None, name: str) -> Tensor:
    """Pictures [V, 3 or 4, H, W] as Pixal3D wants them: [V, 3, S, S] on black, padded to squares, never cropped.

    Raises InputError for an empty mask and for pictures that show nothing.
    """
    pictures = square(composite(images, masks, 0.0, name), fit="pad", background=0.0)
    if bool((pictures.flatten(1).amax(dim=1) < EMPTY_LEVEL).any()):
        raise InputError(f"{name} is black or transparent everywhere; give a picture of the object on black.")
    return pictures


def cut_outs(images: Tensor, masks: Tensor) -> list[np.ndarray]:
    """Pictures [V, 3 or 4, H, W] in [0, 1] and masks [1 or V, H, W] -> V uint8 [H, W, 4] arrays for `crop_to_object`.

    Raises InputError where a mask has another size or number than the pictures.
    """
    if masks.shape[1:] != images.shape[2:] or len(masks) not in (1, len(images)):
        sizes = f"{masks.shape[2]}x{masks.shape[1]} and the picture {images.shape[3]}x{images.shape[2]}"
        raise InputError(f"`mask` is {sizes} ({len(masks)} for {len(images)}); both must be of one size and number.")
    alpha = masks[:, None].clamp(0, 1).expand(len(images), -1, -1, -1)
    return as_bytes(torch.cat([images[:, :3], alpha], dim=1))


def as_bytes(pictures: Tensor) -> list:
    """Pictures [V, C, H, W] in [0, 1] -> V uint8 [H, W, C] arrays."""
    return list((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def has_background(pictures: Tensor) -> bool:
    """Whether the border of a picture [V, 3, S, S] is mostly not black."""
    rows = torch.cat([pictures[..., 0, :], pictures[..., -1, :], pictures[..., 0], pictures[..., -1]], dim=-1)
    return bool((rows.amax(dim=1).median(dim=1).values > BACKGROUND_LEVEL).any())
