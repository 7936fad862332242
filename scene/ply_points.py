"""Reading the points of a PLY file, text or little-endian binary, without trusting it."""

from __future__ import annotations

import os

import numpy as np

from .errors import InputError
from .files import read_bytes

MAX_BYTES = 2 << 30
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2", "ushort": "<u2",
    "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4", "float": "<f4", "float32": "<f4",
    "double": "<f8", "float64": "<f8",
}  # fmt: skip


def read_ply_points(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 3] float64 and colors [P, 3] uint8 (gray where the file has none); the frame is that of the file.

    Reads the first element, which must be `vertex`. Raises InputError for anything else, and for values that are not
    finite.
    """
    data = read_bytes(path, MAX_BYTES, "a PLY file with points")
    end = data.find(b"end_header\n")
    if not data.startswith(b"ply") or end < 0:
        raise InputError(f"{path} is no PLY file.")
    form, count, fields, element = "", 0, [], ""
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            form = words[1]
        elif words[:1] == ["element"] and len(words) == 3:
            element = element or words[1]
            if words[1] == "vertex" and element == "vertex" and words[2].isdecimal():
                count = int(words[2])
            current = words[1]
        elif words[:1] == ["property"] and len(words) == 3 and current == "vertex":
            if words[1] not in _TYPES:
                raise InputError(f"{path} has the property type {words[1]!r}, which is unknown.")
            fields.append((words[2], _TYPES[words[1]]))
    names = [name for name, _ in fields]
    if element != "vertex" or not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise InputError(f"{path} has no points (an element `vertex` with x, y, z first).")
    body = data[end + len(b"end_header\n") :]
    try:
        if form == "ascii":
            rows = np.array([line.split()[: len(fields)] for line in body.decode("ascii").splitlines()[:count]], float)
            columns = {name: rows[:, i] for i, name in enumerate(names)}
        elif form == "binary_little_endian":
            rows = np.frombuffer(body, dtype=np.dtype(fields), count=count)
            columns = {name: rows[name] for name in names}
        else:
            raise InputError(f"{path} is in the format {form!r}; ascii and binary_little_endian are read.")
    except InputError:
        raise
    except (ValueError, IndexError, UnicodeDecodeError):
        raise InputError(f"{path} is cut short or damaged.") from None
    xyz = np.stack([np.asarray(columns[a], dtype=np.float64) for a in "xyz"], 1).reshape(-1, 3)
    if not np.isfinite(xyz).all():
        raise InputError(f"{path} has points that are not finite numbers; remove or mend them.")
    rgb = [columns[c] for c in ("red", "green", "blue") if c in columns]
    colors = np.stack(rgb, 1).astype(np.uint8) if len(rgb) == 3 else np.full((len(xyz), 3), 128, np.uint8)
    return xyz, colors
