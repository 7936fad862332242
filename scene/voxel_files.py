"""Reading PBR voxels from O-Voxel's .npz files (`o_voxel.io`): coordinates and one array for each attribute."""

from __future__ import annotations

import io
import os

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .files import read_bytes

LIMIT = 8 << 30
ATTRIBUTES = (("base_color", 3), ("metallic", 1), ("roughness", 1), ("alpha", 1))


def read_voxels(
    path: str | os.PathLike, resolution: int | None = None, frame: str = "z_up"
) -> tuple[Tensor, Tensor, int]:
    """Coordinates [N, 3] int64, attributes [N, 6] in [0, 1] (base color, metallic, roughness, alpha) and the resolution
    of a file, turned to Y up.

    The file holds `coord` [N, 3] and `base_color` [N, 3], and may hold `metallic`, `roughness`, `alpha` [N, 1]: uint8,
    or float in [0, 1]; what is missing is 0, 1, 1. resolution: of the grid; None takes the file's `resolution`, else
    the least power of two that holds the coordinates. frame: "z_up", as published, or "y_up". Raises InputError for
    files that are none of these. Nothing in the file is executed.
    """
    if frame not in ("z_up", "y_up"):
        raise InputError(f"`frame` is {frame!r}; voxels are z_up (as published) or y_up.")
    data = read_bytes(path, LIMIT, "voxels as .npz")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except Exception as error:  # whatever a broken archive raises
        raise InputError(f"{path} is no .npz of voxels ({type(error).__name__}); export it again.") from None
    coord = arrays.get("coord", arrays.get("coords"))
    if coord is None or coord.ndim != 2 or coord.shape[1] not in (3, 4) or "base_color" not in arrays:
        found = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path} holds {found}; voxels need `coord` [N, 3] and `base_color` [N, 3].")
    coords = torch.from_numpy(coord[:, -3:].astype(np.int64))
    columns = []
    for (name, width), default in zip(ATTRIBUTES, (1.0, 0.0, 1.0, 1.0)):
        value = arrays.get(name)
        if value is None:
            columns.append(torch.full((len(coords), width), default))
            continue
        value = value.reshape(len(value), -1)
        if value.shape != (len(coords), width):
            raise InputError(f"`{name}` in {path} has shape {list(value.shape)}; [{len(coords)}, {width}] would fit.")
        scale = 255.0 if value.dtype == np.uint8 else 1.0
        columns.append(torch.from_numpy(value.astype(np.float32) / scale))
    if resolution is None:
        known = arrays.get("resolution")
        most = int(coords.max()) + 1 if len(coords) else 1
        resolution = int(known) if known is not None and known.size == 1 else 1 << (most - 1).bit_length()
    if frame == "z_up":
        coords = torch.stack([coords[:, 0], coords[:, 2], resolution - 1 - coords[:, 1]], 1)
    return coords, torch.cat(columns, 1), resolution
