"""Gaussian splat files: the PLY layout of 3D Gaussian Splatting, and the 32-byte .splat records of web viewers.

Frame: these files have no agreed up axis, but their viewers (SuperSplat, antimatter15/splat, Spark, ComfyUI's 3D
preview and RenderSplat) all show the training frame of 3D Gaussian Splatting: X right, **Y down**, Z away from the
viewer. So the default at both ends is `FRAME`, "y_down_front": what stands upright here stands upright there, and the
side that azimuth 0 sees faces the viewer. "y_down" keeps our +X to the right instead; "y_up", "y_up_front" (glTF axes)
and "z_up" (ours, untouched) are there for tools that expect them; see `scene.frames`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .errors import InputError
from .files import Outputs, read_bytes
from .rotations import SH_C0, sh_degree
from .splats import Splats

FRAME = "y_down_front"
MAX_BYTES = 8 << 30
MAX_HEADER = 64 << 10
MAX_SPLATS = 30_000_000
SUFFIXES = (".ply", ".splat")
_WANTED = "a Gaussian splat file (.ply or .splat)"
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_SPLAT_RECORD = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def read_splats(path: str | os.PathLike, frame: str = FRAME) -> Splats:
    """The splats of a .ply or .splat file in our frame (Z up); `frame` says in which one the file is written.

    Raises InputError for a file that is missing, empty, cut short, too large, or no splat file.
    """
    data = read_bytes(path, MAX_BYTES, _WANTED)
    if data[:4] in (b"ply\n", b"ply\r"):
        return decode_ply(data, frame, str(path))
    if Path(path).suffix.lower() == ".splat":
        return decode_splat(data, frame, str(path))
    raise InputError(f"{path} is no splat file we can read; give {_WANTED}.")


def write_splats(
    path: str | os.PathLike, splats: Splats, frame: str = FRAME, overwrite: bool = False, roots=None
) -> Path:
    """Write splats (Z up) to a .ply or .splat file in `frame`; returns its absolute path. See `scene.files.Outputs`."""
    with Outputs(overwrite, roots) as outputs:
        output = outputs.file(path)
        output.write(encode_splats(splats, path, frame))
    return output.path


def encode_splats(splats: Splats, path: str | os.PathLike, frame: str = FRAME) -> bytes:
    """The bytes of the splat file `path`, by its suffix (.ply or .splat)."""
    suffix = Path(path).suffix.lower()
    if suffix == ".ply":
        return encode_ply(splats, frame)
    if suffix == ".splat":
        return encode_splat(splats, frame)
    raise InputError(f"{path} ends in {suffix or 'no suffix'}; splats are written as .ply or .splat.")


# ---- PLY ------------------------------------------------------------------------------------------------------------


def _ply_names(rest: int) -> list[str]:
    return [
        *"xyz", "nx", "ny", "nz",
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]  # fmt: skip


def encode_ply(splats: Splats, frame: str = FRAME) -> bytes:
    """Splats (Z up) as a 3DGS PLY in `frame`: binary little endian, float32, in the order 3DGS writes.

    f_dc and f_rest = spherical harmonics (rest channel-major), opacity = logit, scale = log, rot = (w, x, y, z).
    """
    splats = _ready(splats, frame)
    opacity = splats.opacities.double().clamp(1e-6, 1 - 1e-6)
    columns = [
        splats.means,
        torch.zeros_like(splats.means),
        splats.sh[:, 0],
        splats.sh[:, 1:].transpose(1, 2).flatten(1),
        (opacity / (1 - opacity)).log()[:, None],
        splats.scales.clamp_min(1e-8).log(),
        splats.quats,
    ]
    table = torch.cat([c.to(torch.float32) for c in columns], dim=1).cpu().numpy().astype("<f4")
    names = _ply_names(3 * (splats.sh.shape[1] - 1))
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(splats)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    return "\n".join(header).encode("ascii") + table.tobytes()


def decode_ply(data: bytes, frame: str = FRAME, name: str = "the file") -> Splats:
    """Splats (Z up) from the bytes of a 3DGS PLY in `frame`.

    Binary (both endians) and text; properties in any order and of any number type, further ones ignored.
    Raises InputError for a damaged header, missing properties, a body that is cut short, or numbers not finite.
    """
    columns = _read_ply_vertices(data, name)
    needed = [*"xyz", "opacity", *(f"{p}_{i}" for p, n in (("f_dc", 3), ("scale", 3), ("rot", 4)) for i in range(n))]
    missing = [n for n in needed if n not in columns]
    if missing:
        raise InputError(f"{name} lacks the properties {', '.join(missing)}; it is no Gaussian splat PLY.")
    rest = sum(n.startswith("f_rest_") for n in columns)
    if any(f"f_rest_{i}" not in columns for i in range(rest)) or rest % 3 or rest // 3 + 1 not in (1, 4, 9, 16, 25):
        raise InputError(f"{name} has {rest} f_rest properties; 0, 9, 24, 45 or 72 in a row make whole degrees.")

    def gather(prefix: str, count: int) -> torch.Tensor:
        table = np.stack([columns[f"{prefix}{i}"].astype(np.float32) for i in range(count)], axis=1)
        return torch.from_numpy(table)

    means = torch.from_numpy(np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1))
    sh = gather("f_dc_", 3)[:, None, :]
    if rest:
        sh = torch.cat([sh, gather("f_rest_", rest).unflatten(1, (3, rest // 3)).transpose(1, 2)], dim=1)
    opacities = torch.from_numpy(columns["opacity"].astype(np.float32)).sigmoid()
    splats = Splats(means, gather("scale_", 3).exp(), _unit(gather("rot_", 4)), opacities, sh.contiguous())
    return _checked(splats, name).turned(frame, "z_up")


def _read_ply_vertices(data: bytes, name: str) -> dict[str, np.ndarray]:
    """The scalar properties of the element `vertex` as arrays [N]."""
    format_, elements, start = _read_ply_header(data, name)
    order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}.get(format_)
    if order is None:
        raise InputError(f"{name} has the PLY format {format_!r}; binary and ascii are read.")
    before = []
    for element, count, properties in elements:
        if element == "vertex":
            break
        before.append((count, properties))
    else:
        raise InputError(f"{name} has no element `vertex`; it is no Gaussian splat PLY.")
    if count > MAX_SPLATS:
        raise InputError(f"{name} announces {count} splats, more than the {MAX_SPLATS} that are accepted.")
    if count == 0:
        raise InputError(f"{name} holds no splats.")
    if any(kind is None for _, other in [*before, (count, properties)] for _, kind in other):
        raise InputError(f"{name} has list properties in or before its vertices; it is no Gaussian splat PLY.")
    names = [p for p, _ in properties]
    if len(set(names)) != len(names):
        raise InputError(f"{name} names a property twice; the header is damaged.")
    if not order:
        return _read_ascii(data[start:], sum(n for n, _ in before), count, names, name)
    dtype = np.dtype([(p, order + kind) for p, kind in properties])
    for other_count, other in before:
        start += other_count * sum(np.dtype(kind).itemsize for _, kind in other)
    held = max(0, len(data) - start) // dtype.itemsize if dtype.itemsize else 0
    if held < count:
        raise InputError(f"{name} is cut short: it announces {count} splats and holds {held}.")
    table = np.frombuffer(data, dtype, count, start)
    return {p: table[p] for p in names}


def _read_ply_header(data: bytes, name: str) -> tuple[str, list, int]:
    """(format, [(element, count, [(property, numpy kind or None for a list)])], offset of the body)."""
    end = data.find(b"end_header", 0, MAX_HEADER)
    line_end = data.find(b"\n", end, end + 64) if end >= 0 else -1
    if line_end < 0:
        raise InputError(f"{name} has no PLY header that ends within {MAX_HEADER} bytes; the file is damaged.")
    format_, elements = "", []
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        try:
            if not words or words[0] in ("comment", "obj_info"):
                continue
            if words[0] == "format":
                format_ = words[1]
            elif words[0] == "element":
                if not words[2].isdecimal():
                    raise ValueError
                elements.append((words[1], int(words[2]), []))
            elif words[0] == "property" and words[1] == "list":
                elements[-1][2].append((words[4], None))
            elif words[0] == "property":
                elements[-1][2].append((words[2], _TYPES[words[1]]))
            else:
                raise ValueError
        except (ValueError, IndexError, KeyError):
            raise InputError(f"{name} has a PLY header line that makes no sense ({line[:60]!r}).") from None
    return format_, elements, line_end + 1


def _read_ascii(body: bytes, skip: int, count: int, names: list[str], name: str) -> dict[str, np.ndarray]:
    lines = [line for line in body.split(b"\n") if line.strip()][skip : skip + count]
    if len(lines) < count:
        raise InputError(f"{name} is cut short: it announces {count} splats and holds {len(lines)}.")
    try:
        table = np.array([line.split() for line in lines], dtype=np.float64)
    except ValueError:
        table = np.empty((0, 0))
    if table.shape != (count, len(names)):
        raise InputError(f"{name} has lines that are not {len(names)} numbers, as its header says they are.")
    return dict(zip(names, table.T))


# ---- .splat ---------------------------------------------------------------------------------------------------------


def encode_splat(splats: Splats, frame: str = FRAME) -> bytes:
    """Splats (Z up) as .splat records in `frame`: float32 center and linear scale, 8-bit rgba and (w, x, y, z).

    View-dependent color is dropped; order is kept.
    """
    splats = _ready(splats, frame)
    records = np.empty(len(splats), _SPLAT_RECORD)
    records["xyz"] = splats.means.cpu().numpy()
    records["scale"] = splats.scales.cpu().numpy()
    rgba = torch.cat([splats.rgb, splats.opacities[:, None]], dim=1)
    records["rgba"] = (rgba * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    records["quat"] = (_unit(splats.quats) * 128 + 128).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return records.tobytes()


def decode_splat(data: bytes, frame: str = FRAME, name: str = "the file") -> Splats:
    """Splats (Z up) from the bytes of a .splat file in `frame`; raises InputError for a damaged one."""
    if not data or len(data) % _SPLAT_RECORD.itemsize:
        raise InputError(f"{name} has {len(data)} bytes, not a whole number of 32-byte records; it is cut short.")
    if len(data) // _SPLAT_RECORD.itemsize > MAX_SPLATS:
        raise InputError(f"{name} holds more than the {MAX_SPLATS} splats that are accepted.")
    records = np.frombuffer(data, _SPLAT_RECORD)
    rgba = torch.from_numpy(records["rgba"].astype(np.float32)) / 255
    splats = Splats(
        torch.from_numpy(records["xyz"].astype(np.float32)),
        torch.from_numpy(records["scale"].astype(np.float32)),
        _unit((torch.from_numpy(records["quat"].astype(np.float32)) - 128) / 128),
        rgba[:, 3].clone(),
        ((rgba[:, :3] - 0.5) / SH_C0)[:, None, :],
    )
    if bool((splats.scales < 0).any()):
        raise InputError(f"{name} has negative scales; it is no .splat file.")
    return _checked(splats, name).turned(frame, "z_up")


# ---- both -----------------------------------------------------------------------------------------------------------


def _ready(splats: Splats, frame: str) -> Splats:
    if not len(splats):
        raise InputError("There are no splats to write; the file would be empty.")
    sh_degree(splats.sh.shape[1])
    return splats.detach().check_finite().turned("z_up", frame)


def _checked(splats: Splats, name: str) -> Splats:
    try:
        return splats.check_finite()
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _unit(quats: torch.Tensor) -> torch.Tensor:
    """Normalized quaternions; a zero one (some trainers leave them on dead Gaussians) becomes the identity."""
    length = quats.norm(dim=-1, keepdim=True)
    identity = quats.new_tensor([1.0, 0.0, 0.0, 0.0]).expand_as(quats)
    return torch.where(length > 1e-12, quats / length.clamp_min(1e-12), identity)
