"""The horizontal field of view of a picture: from a number, from its metadata, from a matrix of intrinsics.

All functions return degrees. A field of view belongs to the whole width of a picture: after cropping it is another one,
see `fov_of_crop`.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import InputError
from .files import read_bytes

MAX_BYTES = 256 << 20
FULL_FRAME = 36.0, 24.0  # millimeters; 35 mm equivalents compare diagonals (CIPA DCG-001)
# EXIF tags
_EXIF, _ORIENTATION = 0x8769, 0x0112
_FOCAL, _FOCAL_35 = 0x920A, 0xA405
_PLANE_X, _PLANE_Y, _PLANE_UNIT, _RECORDED = 0xA20E, 0xA20F, 0xA210, 0xA002
_MILLIMETERS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # of FocalPlaneResolutionUnit


def horizontal_fov(degrees: float | None = None, *, radians: float | None = None) -> float:
    """A field of view in degrees, given in degrees, or in radians by that name.

    Raises InputError unless exactly one is given and it lies between 0 and 180 degrees, both excluded.
    """
    if (degrees is None) == (radians is None):
        raise InputError("Give the field of view either in degrees or in radians, not both and not neither.")
    value = float(degrees) if degrees is not None else math.degrees(float(radians))
    if not 0 < value < 180:
        raise InputError(f"The field of view is {value:.6g} degrees; it must lie between 0 and 180, both excluded.")
    return value


def fov_of_crop(fov: float, width: float, crop_width: float) -> float:
    """The field of view in degrees of a crop `crop_width` wide out of a picture `width` wide with `fov` degrees.

    The crop's middle is taken for its principal point, exact for a crop around the picture's middle.
    """
    if width <= 0 or crop_width <= 0:
        raise InputError(f"The widths are {width} and {crop_width} pixels; both must be above 0.")
    return math.degrees(2 * math.atan(math.tan(math.radians(horizontal_fov(fov)) / 2) * crop_width / width))


def fov_from_intrinsics(intrinsics: Tensor | Sequence[Sequence[float]], width: float = 1.0) -> float:
    """The field of view in degrees of a [3, 3] (or [1, 3, 3]) matrix: 2 atan(width / (2 fx)).

    width: of the picture in the units of fx; 1 for normalized intrinsics such as MoGe's, pixels otherwise.
    """
    matrix = torch.as_tensor(intrinsics, dtype=torch.float64)
    if matrix.shape == (1, 3, 3):
        matrix = matrix[0]
    if matrix.shape != (3, 3):
        raise InputError(f"The intrinsics have shape {list(matrix.shape)}; one [3, 3] matrix is needed.")
    fx = float(matrix[0, 0])
    if not (math.isfinite(fx) and fx > 0 and width > 0):
        raise InputError(f"The focal length is {fx:.6g} for a width of {width:g}; both must be above 0.")
    if width == 1 and fx > 20:
        raise InputError(f"The focal length is {fx:.6g} widths, which looks like pixels; give the picture's width too.")
    return horizontal_fov(radians=2 * math.atan(width / (2 * fx)))


def fov_from_exif(path: str | os.PathLike) -> float:
    """The horizontal field of view in degrees of an upright, uncropped photo, from its EXIF data.

    Uses the focal length and the resolution of the focal plane where both are there, else the 35 mm equivalent focal
    length. Raises InputError for a file that is no picture or says neither.
    """
    from PIL import Image

    data = read_bytes(path, MAX_BYTES, "a photo")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            top = picture.getexif()
            exif = {**dict(top), **dict(top.get_ifd(_EXIF))}
    except Exception as error:  # Pillow raises many kinds
        raise InputError(f"{path} cannot be read as a photo ({error}); give the field of view as a number.") from None
    upright = (height, width) if top.get(_ORIENTATION) in (5, 6, 7, 8) else (width, height)
    focal, equivalent = _positive(exif.get(_FOCAL)), _positive(exif.get(_FOCAL_35))
    unit = _MILLIMETERS.get(exif.get(_PLANE_UNIT, 2))
    along_x, along_y = _positive(exif.get(_PLANE_X)), _positive(exif.get(_PLANE_Y))
    if focal and along_x and unit:
        turned = upright != (width, height)
        resized = width / (_positive(exif.get(_RECORDED)) or width)  # since the camera wrote the resolution
        pixels = focal / unit * (along_y or along_x if turned else along_x) * resized
    elif equivalent:
        pixels = equivalent * math.hypot(width, height) / math.hypot(*FULL_FRAME)
    else:
        raise InputError(
            f"{path} does not say with which focal length it was taken; give the field of view as a number."
        )
    return horizontal_fov(radians=2 * math.atan(upright[0] / (2 * pixels)))


def _positive(value: object) -> float | None:
    """A metadata entry as a positive number, None where it is absent or unusable."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
