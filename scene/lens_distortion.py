"""Distorted lenses: COLMAP's camera models, the pinhole that replaces one, and the map that undistorts a picture.

Coordinates named (a, b) are normalized: pixel = focal * (a, b) + center. Undistorted, they are the slopes (x/z, y/z)
of a ray in OpenCV camera axes (x right, y down, z forward). Pixel centers lie at whole numbers here, as OpenCV has it
for its maps; a lens read from COLMAP is used as it stands, which is what the released code does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .colmap import ColmapCamera
from .errors import InputError

FISHEYES = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE",
            "RAD_TAN_THIN_PRISM_FISHEYE", "FOV")  # fmt: skip
WIDEST = math.tan(math.radians(60))  # what an undistorted fisheye keeps to each side: 120 degrees
SUBPIXEL = 32  # OpenCV's maps have this many steps per pixel
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")


@dataclass(frozen=True)
class Lens:
    """focal (fx, fy) and center (cx, cy) in pixels of a picture of width x height; model and its coefficients."""

    model: str
    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    coefficients: tuple[float, ...] = ()

    @classmethod
    def of(cls, camera: ColmapCamera) -> Lens:
        """The lens of a COLMAP camera."""
        params = camera.params
        if camera.model in _ONE_FOCAL:
            focal, rest = (params[0], params[0]), params[1:]
        else:
            focal, rest = (params[0], params[1]), params[2:]
        return cls(camera.model, camera.width, camera.height, focal, (rest[0], rest[1]), tuple(rest[2:]))

    @classmethod
    def pinhole(cls, width: int, height: int, focal: tuple[float, float], center: tuple[float, float]) -> Lens:
        return cls("PINHOLE", width, height, focal, center)

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight; a fisheye with zeros is one no more than any other fisheye."""
        return self.model not in FISHEYES and not any(self.coefficients)

    @property
    def normalized(self) -> np.ndarray:
        """[3, 3] float64 intrinsics with width and height as units."""
        (fx, fy), (cx, cy) = self.focal, self.center
        w, h = self.width, self.height
        return np.array([[fx / w, 0, cx / w], [0, fy / h, cy / h], [0, 0, 1]])

    def resized(self, width: int, height: int) -> Lens:
        """The same lens for the picture resampled to another size."""
        x, y = width / self.width, height / self.height
        focal, center = (self.focal[0] * x, self.focal[1] * y), (self.center[0] * x, self.center[1] * y)
        return replace(self, width=width, height=height, focal=focal, center=center)

    def cropped(self, left: int, top: int, width: int, height: int) -> Lens:
        """The lens of a crop."""
        return replace(self, width=width, height=height, center=(self.center[0] - left, self.center[1] - top))

    def distort(self, points: np.ndarray) -> np.ndarray:
        """Slopes [..., 2] to distorted normalized coordinates [..., 2], float64."""
        if self.model in FISHEYES:
            radius = np.sqrt((points**2).sum(-1, keepdims=True))
            angle = np.arctan(radius)
            bent = points * np.where(radius > 1e-9, angle / np.maximum(radius, 1e-9), 1.0)
            return points * _fov_factor(radius, self.coefficients[0]) if self.model == "FOV" else self._bend(bent)
        return self._bend(points)

    def undistort(self, points: np.ndarray, iterations: int = 5) -> np.ndarray:
        """The inverse of `distort`.

        Perspective models by OpenCV's fixed-point iteration with its 5 rounds; fisheyes by Newton's method, angles
        limited to 89 degrees.
        """
        if self.model == "FOV":
            omega = self.coefficients[0]
            radius = np.sqrt((points**2).sum(-1, keepdims=True))
            slope = (
                np.tan(np.minimum(radius * omega, math.radians(89))) / (2 * math.tan(omega / 2)) if omega else radius
            )
            return points * np.where(radius > 1e-9, slope / np.maximum(radius, 1e-9), 1.0)
        if self.model in FISHEYES:
            bent = _newton(self._bend, points)
            angle = np.sqrt((bent**2).sum(-1, keepdims=True))
            slope = np.tan(np.clip(angle, 0, math.radians(89)))
            return bent * np.where(angle > 1e-9, slope / np.maximum(angle, 1e-9), 1.0)
        found = points
        for _ in range(iterations):
            radial, shift = self._radial(found)
            found = (points - shift) / radial
        return found

    def _bend(self, points: np.ndarray) -> np.ndarray:
        radial, shift = self._radial(points)
        return points * radial + shift

    def _radial(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factor and the offset of the model's polynomial at normalized points (angles for fisheyes)."""
        k = self.coefficients
        x, y = points[..., :1], points[..., 1:]
        r2 = x * x + y * y
        zero = np.zeros_like(points)
        if not k:
            return np.ones_like(r2), zero
        if self.model in ("SIMPLE_RADIAL", "SIMPLE_RADIAL_FISHEYE"):
            return 1 + k[0] * r2, zero
        if self.model in ("RADIAL", "RADIAL_FISHEYE"):
            return 1 + r2 * (k[0] + r2 * k[1]), zero
        if self.model == "OPENCV_FISHEYE":
            return 1 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * k[3]))), zero
        if self.model == "RAD_TAN_THIN_PRISM_FISHEYE":
            radial = 1 + r2 * (k[0] + r2 * (k[1] + r2 * (k[2] + r2 * (k[3] + r2 * (k[4] + r2 * k[5])))))
            u, v = x * radial, y * radial
            q2 = u * u + v * v
            shift = [(2 * u * u + q2) * k[6] + 2 * u * v * k[7] + k[8] * q2 + k[9] * q2 * q2,
                     (2 * v * v + q2) * k[7] + 2 * u * v * k[6] + k[10] * q2 + k[11] * q2 * q2]  # fmt: skip
            return radial, np.concatenate(shift, -1)
        if self.model == "THIN_PRISM_FISHEYE":
            k1, k2, p1, p2, k3, k4, sx, sy = k
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
            return radial, np.concatenate([_tangential(x, y, r2, p1, p2), _tangential(y, x, r2, p2, p1)], -1) + (
                np.concatenate([sx * r2, sy * r2], -1)
            )
        k1, k2, p1, p2, *more = k
        k3, k4, k5, k6 = more or (0.0,) * 4
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        return radial, np.concatenate([_tangential(x, y, r2, p1, p2), _tangential(y, x, r2, p2, p1)], -1)


def _tangential(x, y, r2, p, q):
    return 2 * p * x * y + q * (r2 + 2 * x * x)


def _fov_factor(radius: np.ndarray, omega: float) -> np.ndarray:
    if abs(omega) < 1e-9:
        return np.ones_like(radius)
    bent = np.arctan(2 * radius * math.tan(omega / 2)) / omega
    return np.where(radius > 1e-9, bent / np.maximum(radius, 1e-9), 2 * math.tan(omega / 2) / omega)


def _newton(function, target: np.ndarray, rounds: int = 20, step: float = 1e-6) -> np.ndarray:
    """Points at which `function` of [..., 2] gives `target`; the Jacobian by differences."""
    found = target.copy()
    for _ in range(rounds):
        value = function(found)
        dx = (function(found + [step, 0.0]) - value) / step
        dy = (function(found + [0.0, step]) - value) / step
        det = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
        det = np.where(np.abs(det) < 1e-9, 1e-9, det)
        miss = target - value
        move = np.stack([(miss[..., 0] * dy[..., 1] - miss[..., 1] * dy[..., 0]) / det,
                         (miss[..., 1] * dx[..., 0] - miss[..., 0] * dx[..., 1]) / det], -1)  # fmt: skip
        found = found + np.clip(move, -0.5, 0.5)
    return found


def _inner_rectangle(lens: Lens, focal=(1.0, 1.0), center=(0.0, 0.0)) -> tuple[float, float, float, float]:
    """The largest upright rectangle (left, top, right, bottom) whose undistorted border lies inside the picture."""
    count = 9
    across = np.arange(count) * (lens.width - 1) / (count - 1)
    down = np.arange(count) * (lens.height - 1) / (count - 1)
    pixels = np.stack(np.meshgrid(across, down), -1).astype(np.float32).astype(np.float64)
    points = lens.undistort((pixels - lens.center) / lens.focal)
    if lens.model in FISHEYES:
        points = np.clip(points, -WIDEST, WIDEST)
    points = (points * focal + center).astype(np.float32)
    return (
        float(points[:, 0, 0].max()), float(points[0, :, 1].max()),
        float(points[:, -1, 0].min()), float(points[-1, :, 1].min()),
    )  # fmt: skip


@dataclass(frozen=True)
class Undistortion:
    """How a picture of `source` becomes one of the pinhole `target`: resampled at the source's size, then cropped.

    focal, center: of the resampled picture; crop (left, top, width, height) in it.
    """

    source: Lens
    focal: tuple[float, float]
    center: tuple[float, float]
    crop: tuple[int, int, int, int]

    @property
    def target(self) -> Lens:
        left, top, width, height = self.crop
        center = self.center[0] - left, self.center[1] - top
        return Lens.pinhole(width, height, self.focal, center)


def undistortion(lens: Lens) -> Undistortion | None:
    """The undistortion that keeps no pixel without a source (OpenCV's alpha 0), None for a pinhole.

    Raises InputError where the distortion leaves nothing. Source: OpenCV, getOptimalNewCameraMatrix.
    """
    if lens.is_pinhole:
        return None
    w, h = lens.width, lens.height
    left, top, right, bottom = _inner_rectangle(lens)
    if not (right > left and bottom > top):
        raise InputError(f"The {lens.model} lens leaves no upright part of a {w}x{h} picture; check its parameters.")
    focal = (w - 1) / (right - left), (h - 1) / (bottom - top)
    center = -focal[0] * left, -focal[1] * top
    left, top, right, bottom = _inner_rectangle(lens, focal, center)
    x, y = round(left), round(top)
    width, height = min(x + round(right - left), w) - max(x, 0), min(y + round(bottom - top), h) - max(y, 0)
    if width < 2 or height < 2:
        raise InputError(f"The {lens.model} lens leaves no upright part of a {w}x{h} picture; check its parameters.")
    return Undistortion(lens, focal, center, (max(x, 0), max(y, 0), width, height))


def undistort_picture(picture: np.ndarray, plan: Undistortion) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [h, w, C]: bilinear, positions in 32nds of a pixel, black outside.

    Raises InputError where the picture has not the size of the lens. Source: OpenCV, remap with fixed-point maps.
    """
    lens = plan.source
    if picture.shape[:2] != (lens.height, lens.width):
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise InputError(f"The picture is {size}; its lens is for {lens.width}x{lens.height}.")
    left, top, width, height = plan.crop
    pixels = np.stack(np.meshgrid(np.arange(left, left + width), np.arange(top, top + height)), -1)
    at = lens.distort((pixels - plan.center) / plan.focal) * lens.focal + lens.center
    fixed = np.rint(np.clip(at, -4, [lens.width + 4, lens.height + 4]) * SUBPIXEL).astype(np.int64)
    base, part = fixed // SUBPIXEL, fixed % SUBPIXEL
    padded = np.pad(picture, ((6, 6), (6, 6), (0, 0))).astype(np.int64)
    x, y = base[..., 0] + 6, base[..., 1] + 6
    fx, fy = part[..., :1], part[..., 1:]
    total = (
        padded[y, x] * (SUBPIXEL - fx) * (SUBPIXEL - fy) + padded[y, x + 1] * fx * (SUBPIXEL - fy)
        + padded[y + 1, x] * (SUBPIXEL - fx) * fy + padded[y + 1, x + 1] * fx * fy
    )  # fmt: skip
    half = SUBPIXEL * SUBPIXEL // 2
    return ((total + half) // (SUBPIXEL * SUBPIXEL)).astype(np.uint8)
