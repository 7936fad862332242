"""COLMAP models, as text and as binary files: cameras, posed pictures, points.

World frame: as the file has it (COLMAP's gravity is arbitrary; see `scene.alignment`). Poses are world -> camera in
OpenCV axes (x right, y down, z forward), quaternions (w, x, y, z). Pixels: (0, 0) is the top-left corner.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import InputError
from .files import read_bytes

MAX_BYTES = 2 << 30
MAX_CAMERAS = 100_000
MAX_IMAGES = 100_000
MAX_POINTS = 50_000_000
MAX_OBSERVATIONS = 1_000_000
# name -> (number in binary files, how many parameters); the first three or four are f or fx, fy, then cx, cy
CAMERA_MODELS: dict[str, tuple[int, int]] = {
    "SIMPLE_PINHOLE": (0, 3),
    "PINHOLE": (1, 4),
    "SIMPLE_RADIAL": (2, 4),
    "RADIAL": (3, 5),
    "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8),
    "FULL_OPENCV": (6, 12),
    "FOV": (7, 5),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
    "THIN_PRISM_FISHEYE": (10, 12),
    "RAD_TAN_THIN_PRISM_FISHEYE": (11, 16),
}
_BY_NUMBER = {number: name for name, (number, _) in CAMERA_MODELS.items()}
FILES = ("cameras", "images", "points3D")


@dataclass(frozen=True)
class ColmapCamera:
    """One lens: model (a name of `CAMERA_MODELS`), picture size in pixels, parameters in the order of COLMAP."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """One posed picture: world -> camera rotation (w, x, y, z) and translation, the number of its camera, its name."""

    id: int
    rotation: tuple[float, float, float, float]
    translation: tuple[float, float, float]
    camera: int
    name: str


@dataclass(frozen=True, eq=False)
class ColmapPoints:
    """P points: xyz [P, 3] float64, rgb [P, 3] uint8, error [P] float64 in pixels, track [P] int64 observations."""

    xyz: np.ndarray
    rgb: np.ndarray
    error: np.ndarray
    track: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """cameras by number; images in the order of the file; points, None where the folder has no such file."""

    cameras: dict[int, ColmapCamera]
    images: list[ColmapImage]
    points: ColmapPoints | None


def read_colmap(folder: str | os.PathLike, points: bool = True) -> ColmapModel:
    """The model in a folder with cameras, images and points3D, each `.txt` (taken first) or `.bin`.

    points: whether to read the points too. Raises InputError, naming file and line or entry, for what is missing,
    damaged, too large, not finite, or an image whose camera is not there.
    """
    folder = Path(folder)
    cameras = _read(folder, "cameras", _cameras_text, _cameras_binary)
    images = _read(folder, "images", _images_text, _images_binary)
    if not images:
        raise InputError(f"{folder} lists no image; a model with posed pictures would work.")
    for image in images:
        if image.camera not in cameras:
            raise InputError(f"{folder}: the image {image.name!r} names camera {image.camera}, which is not there.")
    return ColmapModel(cameras, images, read_points(folder) if points and _find(folder, "points3D") else None)


def read_points(path: str | os.PathLike) -> ColmapPoints:
    """The points of a folder, or of a points3D file; errors as `read_colmap`."""
    path = Path(path)
    if path.is_dir():
        return _read(path, "points3D", _points_text, _points_binary)
    return _parse(path, _points_binary if path.suffix == ".bin" else _points_text)


def _find(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / f"{name}.txt", folder / f"{name}.bin") if p.is_file()), None)


def has_colmap(folder: str | os.PathLike) -> bool:
    """Whether a folder holds cameras and images of a COLMAP model."""
    return all(_find(Path(folder), name) for name in FILES[:2])


def _read(folder: Path, name: str, text, binary):
    path = _find(folder, name)
    if path is None:
        raise InputError(f"{folder} has neither {name}.txt nor {name}.bin; give a folder with a COLMAP model.")
    return _parse(path, binary if path.suffix == ".bin" else text)


def _parse(path: Path, parser):
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of a COLMAP model.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); give a complete COLMAP model.")
    data = read_bytes(path, MAX_BYTES, "a file of a COLMAP model")
    try:
        return parser(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (struct.error, IndexError):
        raise InputError(f"{path} is cut short or no COLMAP file.") from None


# ---- text -----------------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> list[str]:
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise InputError("it is not text; binary models end in .bin.") from None


def _rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_lines(data), 1):
        if (line := line.strip()) and not line.startswith("#"):
            yield number, line.split()


def _numbers(words: list[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{where} holds {' '.join(words)[:40]!r} where numbers belong.") from None
    if not all(math.isfinite(v) for v in values):
        raise InputError(f"{where} holds a number that is not finite; every entry must be a number.")
    return values


def _whole(word: str, where: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise InputError(f"{where} holds {word[:40]!r} where a whole number belongs.") from None


def _camera(model: str, width: int, height: int, params: list[float], where: str) -> ColmapCamera:
    if model not in CAMERA_MODELS:
        raise InputError(f"{where} has the camera model {model[:40]!r}; known are {', '.join(CAMERA_MODELS)}.")
    count = CAMERA_MODELS[model][1]
    if len(params) != count:
        raise InputError(f"{where} has {len(params)} parameters; {model} has {count}.")
    if not (0 < width <= 1 << 20 and 0 < height <= 1 << 20):
        raise InputError(f"{where} has the picture size {width}x{height}; both must be at least 1.")
    if not all(math.isfinite(p) for p in params) or min(params[: 1 if model.startswith("SIMPLE") else 2]) <= 0:
        raise InputError(f"{where} has a focal length that is not above 0 or a parameter that is not finite.")
    return ColmapCamera(model, width, height, tuple(params))


def _cameras_text(data: bytes) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, words in _rows(data):
        where = f"line {number}"
        if len(words) < 5:
            raise InputError(f"{where} has {len(words)} fields; a camera is CAMERA_ID MODEL WIDTH HEIGHT PARAMS.")
        if len(cameras) >= MAX_CAMERAS:
            raise InputError(f"it has more than {MAX_CAMERAS} cameras.")
        size = [_whole(w, where) for w in words[2:4]]
        cameras[_whole(words[0], where)] = _camera(words[1], *size, _numbers(words[4:], where), where)
    return cameras


def _image(id_: int, values: list[float], camera: int, name: str, where: str) -> ColmapImage:
    if not all(math.isfinite(v) for v in values) or sum(v * v for v in values[:4]) < 1e-12:
        raise InputError(f"{where} ({name!r}) has a pose that is not finite or a rotation of length 0.")
    if not name or "\0" in name:
        raise InputError(f"{where} names no picture.")
    return ColmapImage(id_, tuple(values[:4]), tuple(values[4:7]), camera, name)


def _images_text(data: bytes) -> list[ColmapImage]:
    images, lines, at = [], _lines(data), 0
    while at < len(lines):
        line = lines[at].strip()
        if not line or line.startswith("#"):
            at += 1
            continue
        where, words = f"line {at + 1}", line.split(None, 9)
        if len(words) < 10:
            raise InputError(
                f"{where} has {len(words)} fields; an image is ID, QW QX QY QZ, TX TY TZ, CAMERA_ID, NAME."
            )
        if len(images) >= MAX_IMAGES:
            raise InputError(f"it has more than {MAX_IMAGES} images.")
        pose = _numbers(words[1:8], where)
        images.append(_image(_whole(words[0], where), pose, _whole(words[8], where), words[9].strip(), where))
        at += 2  # the line behind it holds the observations, and may be blank
    return images


def _points_text(data: bytes) -> ColmapPoints:
    values, colors, tracks = [], [], []
    for number, words in _rows(data):
        where = f"line {number}"
        if len(words) < 8:
            raise InputError(f"{where} has {len(words)} fields; a point is ID, X Y Z, R G B, ERROR, track.")
        if len(values) >= MAX_POINTS:
            raise InputError(f"it has more than {MAX_POINTS} points.")
        values.append([*_numbers(words[1:4], where), *_numbers(words[7:8], where)])
        colors.append([_whole(w, where) & 255 for w in words[4:7]])
        tracks.append((len(words) - 8) // 2)
    return _points(values, colors, tracks)


def _points(values, colors, tracks) -> ColmapPoints:
    rows = np.asarray(values, dtype=np.float64).reshape(-1, 4)
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        raise InputError(f"{int(bad.sum())} of {len(rows)} points are not finite numbers; remove or mend them.")
    rgb = np.asarray(colors, dtype=np.uint8).reshape(-1, 3)
    return ColmapPoints(rows[:, :3].copy(), rgb, rows[:, 3].copy(), np.asarray(tracks, dtype=np.int64))


# ---- binary ---------------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __call__(self, layout: str) -> tuple:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def count(self, limit: int, what: str) -> int:
        (found,) = self("Q")
        if found > limit:
            raise InputError(f"it announces {found} {what}; at most {limit} are read.")
        return found

    def skip(self, count: int, size: int) -> None:
        if self.at + count * size > len(self.data):
            raise InputError("it is cut short.")
        self.at += count * size

    def text(self) -> str:
        end = self.data.index(b"\0", self.at, self.at + 4096) if b"\0" in self.data[self.at : self.at + 4096] else -1
        if end < 0:
            raise InputError("it has a picture name without an end.")
        name, self.at = self.data[self.at : end], end + 1
        return name.decode("utf-8", "replace")


def _cameras_binary(data: bytes) -> dict[int, ColmapCamera]:
    read, cameras = _Reader(data), {}
    for i in range(read.count(MAX_CAMERAS, "cameras")):
        id_, number, width, height = read("iiQQ")
        if number not in _BY_NUMBER:
            raise InputError(f"camera {i} has the model number {number}; known are 0..{max(_BY_NUMBER)}.")
        model = _BY_NUMBER[number]
        params = list(read(f"{CAMERA_MODELS[model][1]}d"))
        cameras[id_] = _camera(model, width, height, params, f"camera {i}")
    return cameras


def _images_binary(data: bytes) -> list[ColmapImage]:
    read, images = _Reader(data), []
    for i in range(read.count(MAX_IMAGES, "images")):
        id_, *pose, camera = read("i7di")
        name = read.text()
        read.skip(read.count(MAX_OBSERVATIONS, "observations of one image"), 24)
        images.append(_image(id_, pose, camera, name, f"image {i}"))
    return images


def _points_binary(data: bytes) -> ColmapPoints:
    read, values, colors, tracks = _Reader(data), [], [], []
    for _ in range(read.count(MAX_POINTS, "points")):
        _, x, y, z, r, g, b, error = read("Q3d3Bd")
        length = read.count(MAX_OBSERVATIONS, "observations of one point")
        read.skip(length, 8)
        values.append([x, y, z, error])
        colors.append([r, g, b])
        tracks.append(length)
    return _points(values, colors, tracks)


# ---- writing --------------------------------------------------------------------------------------------------------


def encode_colmap(model: ColmapModel, binary: bool = False) -> dict[str, bytes]:
    """File name -> bytes of a model: cameras, images, points3D, as `.txt` or `.bin`.

    Observations are not kept: images have none, and every point has a track of its length with zeros.
    """
    points = model.points or ColmapPoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0), np.zeros(0, int))
    encode = _encode_binary if binary else _encode_text
    suffix = ".bin" if binary else ".txt"
    return {f"{name}{suffix}": data for name, data in zip(FILES, encode(model, points))}


def _encode_text(model: ColmapModel, points: ColmapPoints) -> tuple[bytes, bytes, bytes]:
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for id_, camera in model.cameras.items():
        numbers = " ".join(repr(float(p)) for p in camera.params)
        cameras.append(f"{id_} {camera.model} {camera.width} {camera.height} {numbers}")
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
    for image in model.images:
        numbers = " ".join(repr(float(v)) for v in (*image.rotation, *image.translation))
        images += [f"{image.id} {numbers} {image.camera} {image.name}", ""]
    rows = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    for i in range(len(points)):
        x, y, z = (repr(float(v)) for v in points.xyz[i])
        r, g, b = (int(v) for v in points.rgb[i])
        track = " 0 0" * int(points.track[i])
        rows.append(f"{i + 1} {x} {y} {z} {r} {g} {b} {float(points.error[i])!r}{track}")
    return tuple(("\n".join(lines) + "\n").encode() for lines in (cameras, images, rows))


def _encode_binary(model: ColmapModel, points: ColmapPoints) -> tuple[bytes, bytes, bytes]:
    cameras = [struct.pack("<Q", len(model.cameras))]
    for id_, c in model.cameras.items():
        number, count = CAMERA_MODELS[c.model]
        cameras.append(struct.pack(f"<iiQQ{count}d", id_, number, c.width, c.height, *c.params))
    images = [struct.pack("<Q", len(model.images))]
    for i in model.images:
        images.append(struct.pack("<i7di", i.id, *i.rotation, *i.translation, i.camera) + i.name.encode() + b"\0")
        images.append(struct.pack("<Q", 0))
    rows = [struct.pack("<Q", len(points))]
    for i in range(len(points)):
        length = int(points.track[i])
        color, error = (int(v) for v in points.rgb[i]), float(points.error[i])
        rows.append(struct.pack("<Q3d3BdQ", i + 1, *points.xyz[i], *color, error, length) + bytes(8 * length))
    return b"".join(cameras), b"".join(images), b"".join(rows)
