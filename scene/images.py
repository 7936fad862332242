"""Pictures in and out: files to tensors [3, H, W] in [0, 1] and back."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .files import read_bytes
from .views import composite

MAX_BYTES = 256 << 20
MAX_PIXELS = 64_000_000
# Formats that Pillow decodes itself; others (EPS among them) start foreign programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_WANTED = "a picture (PNG, JPEG, WebP, BMP, TIFF, GIF, PPM or a .npy array)"

COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "gray": (0.5, 0.5, 0.5)}


def color(name: str) -> tuple[float, float, float]:
    """The rgb in [0, 1] of "white", "black", "gray" or "#rrggbb"."""
    text = name.strip().lower()
    if text in COLORS:
        return COLORS[text]
    digits = text.removeprefix("#")
    if len(digits) == 6 and all(c in "0123456789abcdef" for c in digits):
        return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    raise InputError(f"The color {name!r} is unknown; use {', '.join(COLORS)} or #rrggbb.")


def read_rgba(path: str | os.PathLike) -> Tensor:
    """A picture file as [4, H, W] float32 in [0, 1], straight alpha (1 where the file has none), turned upright.

    Reads PNG, JPEG, WebP, BMP, TIFF (8, 16 bit and float), GIF (first frame), PPM, and .npy arrays [H, W], [H, W, 3]
    or [H, W, 4] (integers by their range, floats in [0, 1]).
    Raises InputError for an empty, damaged or too large file and for pixels that are not finite or out of range.
    """
    data = read_bytes(path, MAX_BYTES, _WANTED)
    if data[:6] == b"\x93NUMPY":
        array = _read_npy(path, data)
    else:
        array = _read_pillow(path, data)
    if array.ndim == 2:
        array = array[..., None]
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float32) / np.iinfo(array.dtype).max
    picture = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(2, 0, 1)
    check_image(picture, str(path))
    if picture.shape[0] in (1, 2):  # gray, gray and alpha
        picture = torch.cat([picture[:1].expand(3, -1, -1), picture[1:]])
    if picture.shape[0] == 3:
        picture = torch.cat([picture, torch.ones_like(picture[:1])])
    return picture.contiguous()


def read_image(path: str | os.PathLike, background: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """A picture file as [3, H, W] float32 in [0, 1], laid over `background` where it is transparent."""
    return composite(read_rgba(path)[None], background=background)[0]


def check_image(image: Tensor, name: str) -> None:
    """Raise InputError unless `image` is [..., C, H, W] with at least one pixel and finite values in [0, 1]."""
    if image.ndim < 3 or 0 in image.shape:
        raise InputError(f"{name} has shape {list(image.shape)}; channels, height and width must be at least 1.")
    bad = int((~torch.isfinite(image)).sum())
    if bad:
        raise InputError(f"{name} has {bad} values that are not finite numbers; every value must lie in [0, 1].")
    low, high = float(image.min()), float(image.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(f"{name} has values from {low:.4g} to {high:.4g}; they must lie in [0, 1].")


def encode_png(image: Tensor) -> bytes:
    """A picture [1, 3 or 4, H, W] in [0, 1] (clamped) as the bytes of an 8-bit PNG."""
    stream = io.BytesIO()
    to_pillow(image).save(stream, format="PNG", optimize=False, compress_level=6)
    return stream.getvalue()


def to_pillow(image: Tensor):
    """A picture [1, 3 or 4, H, W] in [0, 1] (clamped) as a Pillow image, 8 bits a channel, rounded."""
    from PIL import Image

    check_channels(image)
    array = (image.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def check_channels(image: Tensor) -> None:
    """Raise InputError unless `image` is [C, H, W] with 1, 3 or 4 channels and finite values."""
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise InputError(f"A picture to be saved has shape {list(image.shape)}; it must be [1, 3 or 4, H, W].")
    if not bool(torch.isfinite(image).all()):
        raise InputError("A picture to be saved has values that are not finite numbers.")


def _read_npy(path, data: bytes) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)  # an object array would run code
    except (ValueError, EOFError, OSError):
        raise InputError(f"{path} is a damaged or unsafe .npy file; save a plain array of numbers.") from None
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 2, 3, 4))
    if not shape_fits or 0 in array.shape or array.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds an array of shape {list(array.shape)} and type {array.dtype}; "
            "it must be numbers of shape [H, W], [H, W, 3] or [H, W, 4]."
        )
    if array.dtype.kind == "i":
        raise InputError(f"{path} holds signed integers ({array.dtype}); use unsigned integers or floats in [0, 1].")
    return array


def _read_pillow(path, data: bytes) -> np.ndarray:
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{path} has {picture.width}x{picture.height} pixels, more than the {MAX_PIXELS} that are "
                    "accepted; make it smaller."
                )
            picture.load()
            picture = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture we can read; give {_WANTED}.") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than the {MAX_PIXELS} pixels that are accepted; make it smaller.") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged or cut short; give {_WANTED}.") from None
    if picture.mode == "F":
        return np.array(picture, dtype=np.float32)
    if picture.mode.startswith("I"):  # 16 bits a pixel; "I" holds the same numbers in 32
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info
    return np.array(picture.convert("RGBA" if has_alpha else "RGB"))
