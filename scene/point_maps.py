"""Point maps: for every pixel of a picture the point it shows, from a depth estimator or a renderer, or from a file.

Ours: [3, H, W] float32 in PyTorch3D camera axes (x left, y up, z in), not finite where nothing is known.
"""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .exr import read_exr
from .files import read_bytes

# x right, y down, z in (MoGe, COLMAP); x right, y up, z out (Blender, NeRF); x left, y up, z in
AXES = {"opencv": (-1.0, -1.0, 1.0), "opengl": (-1.0, 1.0, -1.0), "pytorch3d": (1.0, 1.0, 1.0)}
LIMIT = 1 << 30


def point_map(values: Tensor | np.ndarray, axes: str = "opencv") -> Tensor:
    """Points [H, W, 3] or [3, H, W] in the camera axes `axes` (a key of `AXES`) as a point map of ours.

    Raises InputError for other shapes, axes that are not known, and maps that know no point at all.
    """
    if axes not in AXES:
        raise InputError(f"The axes {axes!r} are unknown; {', '.join(AXES)} would work.")
    points = torch.as_tensor(np.asarray(values) if isinstance(values, np.ndarray) else values)
    points = points.detach().to("cpu", torch.float32)
    points = points[0] if points.ndim == 4 and len(points) == 1 else points
    if points.ndim == 3 and points.shape[0] != 3 and points.shape[-1] >= 3:
        points = points[..., :3].permute(2, 0, 1)
    if points.ndim != 3 or points.shape[0] != 3 or 0 in points.shape:
        raise InputError(f"A point map is [height, width, 3]; this one is {list(points.shape)}.")
    points = points * torch.tensor(AXES[axes])[:, None, None]
    if not bool(points.isfinite().all(0).any()):
        raise InputError("The point map knows no point: all its values are NaN or infinite.")
    return points.contiguous()


def check_point_map(points: Tensor, selected: Tensor) -> Tensor:
    """A point map [3, h, w] that fits the picture of the mask `selected` [H, W] and knows something of its object.

    Raises InputError for another aspect and where every point on the object is unknown.
    """
    if points.ndim != 3 or points.shape[0] != 3:
        raise InputError(f"The point map is {list(points.shape)}; [3, height, width] would work.")
    height, width = selected.shape
    h, w = points.shape[1:]
    if abs(h * width - w * height) > max(h + w, height + width):  # more than a pixel of either off
        raise InputError(
            f"The point map is {w} x {h}, the picture {width} x {height}: it belongs to another one; give one of "
            "the same picture, with its size or its proportions."
        )
    chosen = F.interpolate(selected[None, None].float(), size=(h, w), mode="nearest")[0, 0] > 0.5
    if not bool(points.isfinite().all(0)[chosen].any()):
        raise InputError("The point map knows no point of the object: all its values there are NaN or infinite.")
    return points.float()


def read_point_map(path: str | os.PathLike, axes: str = "opencv") -> Tensor:
    """A point map from a file: .npy, .npz (an array `points` or the only one) or .exr (channels X, Y, Z or R, G, B).

    axes: as `point_map`. Raises InputError naming what is wrong with the file.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".npy", ".npz", ".exr"):
        raise InputError(f"{path} is no point map; a .npy, .npz or .exr file would work.")
    data = read_bytes(path, LIMIT, "a point map")
    try:
        if suffix == ".exr":
            channels = read_exr(data)
            names = next((n for n in (("X", "Y", "Z"), ("R", "G", "B")) if set(n) <= set(channels)), None)
            if names is None:
                raise InputError(f"it has the channels {', '.join(channels)}; X, Y, Z or R, G, B are needed")
            return point_map(np.stack([channels[name] for name in names], -1), axes)
        found = np.load(io.BytesIO(data), allow_pickle=False)
        if suffix == ".npz":
            if "points" not in found.files and len(found.files) != 1:
                raise InputError(f"it has the arrays {', '.join(found.files)}; one called `points` is needed")
            found = found["points" if "points" in found.files else found.files[0]]
        if found.dtype.kind not in "fiu":
            raise InputError(f"it holds {found.dtype}, not numbers")
        return point_map(found.astype(np.float32), axes)
    except InputError as error:
        raise InputError(f"{path}: {error}.".replace("..", ".")) from None
    except (ValueError, EOFError, OSError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a point map ({str(error).splitlines()[0][:120]}).") from None
