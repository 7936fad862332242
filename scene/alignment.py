"""Gravity, walls and scale of a scene from its points and cameras, so that any COLMAP model can be used.

GenRecon's networks want a world that is Z up, the floor horizontal, in meters (roughly). COLMAP's own world is
arbitrary. Up is first guessed from how the cameras were held, then refined by the horizontal surfaces among the points;
the walls turn the room about the vertical so that most of them run along x and y; the scale comes from the height at
which photos are usually taken, unless it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .errors import InputError
from .scene_photos import ScenePhotos

CAMERA_HEIGHT = 1.5  # meters above the floor, at which hand-held photos are taken
_MOST = 40_000  # points that are looked at
_NEIGHBORS = 16
_CONE = 30.0  # degrees around the first guess in which horizontal surfaces are looked for


@dataclass(frozen=True, eq=False)
class Alignment:
    """matrix [4, 4]: given world -> Z up, floor at z = 0, walls along x and y, scaled.

    tilt: degrees by which the first guess of up was corrected; turn: degrees about the vertical; scale; floor_share:
    part of the points that lies on the floor.
    """

    matrix: np.ndarray
    tilt: float
    turn: float
    scale: float
    floor_share: float

    def __str__(self) -> str:
        return (
            f"up corrected by {self.tilt:.1f} degrees, walls turned by {self.turn:.1f} degrees, "
            f"scale {self.scale:.4g}, {100 * self.floor_share:.0f} % of the points on the floor"
        )


def point_normals(points: np.ndarray, neighbors: int = _NEIGHBORS) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals [P, 3] (sign arbitrary) and flatness [P] in 0..1 of points [P, 3], from their nearest neighbors."""
    _, index = cKDTree(points).query(points, k=min(neighbors, len(points)))
    local = points[index] - points[index].mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("pni,pnj->pij", local, local))
    return vectors[:, :, 0], 1 - values[:, 0] / np.maximum(values[:, 1], 1e-12)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    if not length > 1e-9:
        raise InputError("The cameras give no common up; say which way is up (gravity) instead of auto.")
    return vector / length


def refine_up(up: np.ndarray, normals: np.ndarray, flatness: np.ndarray) -> np.ndarray:
    """The direction [3] near `up` that most horizontal surfaces share, by a mean shift over narrowing cones."""
    for degrees in (_CONE, 15.0, 7.0, 3.0, 3.0, 3.0):
        along = normals @ up
        near = np.abs(along) >= np.cos(np.radians(degrees))
        if near.sum() < 20:
            break
        weighted = normals[near] * (np.sign(along[near]) * flatness[near] ** 2)[:, None]
        up = _unit(weighted.sum(0))
    return up


def wall_turn(normals: np.ndarray, flatness: np.ndarray) -> float:
    """Radians about Z, within 45 degrees, that bring most walls to x and y; normals [P, 3] in the world Z up."""
    flat = np.abs(normals[:, 2]) < np.sin(np.radians(10))
    if flat.sum() < 20:
        return 0.0
    angle = np.arctan2(normals[flat, 1], normals[flat, 0])
    weight = flatness[flat] ** 2
    bins = np.mod(angle, np.pi / 2) / (np.pi / 2) * 90
    histogram = np.bincount(bins.astype(int) % 90, weight, 90)
    smooth = sum(np.roll(histogram, s) for s in (-1, 0, 1))
    peak = (int(smooth.argmax()) + 0.5) * np.pi / 180
    near = np.abs(np.mod(angle - peak + np.pi / 4, np.pi / 2) - np.pi / 4) < np.radians(5)
    offset = np.mod(angle[near] - peak + np.pi / 4, np.pi / 2) - np.pi / 4
    turn = peak + np.average(offset, weights=weight[near]) if near.any() else peak
    return float(-(np.mod(turn + np.pi / 4, np.pi / 2) - np.pi / 4))


def floor_height(z: np.ndarray, cameras: np.ndarray) -> tuple[float, float]:
    """Height of the floor and the share of points on it: the lowest of the strong peaks of z [P] below the cameras."""
    low, high = np.percentile(z, [0.5, 99.5])
    top = min(high, float(np.median(cameras)))
    if not top > low:
        low, top = float(z.min()), float(z.max()) + 1e-9
    bins = max(40, min(400, len(z) // 50))
    counts, edges = np.histogram(z[(z >= low) & (z <= top)], bins=bins, range=(low, top))
    smooth = np.convolve(counts, np.ones(3), "same")
    strong = np.flatnonzero(smooth >= 0.4 * smooth.max())
    first = int(strong[0])
    while first + 1 < len(smooth) and smooth[first + 1] > smooth[first]:
        first += 1
    middle = (edges[first] + edges[first + 1]) / 2
    width = 1.5 * (edges[1] - edges[0])
    near = np.abs(z - middle) <= width
    return float(np.median(z[near])), float(near.mean())


def estimate_alignment(
    scene: ScenePhotos,
    *,
    up: tuple[float, float, float] | None = None,
    walls: bool = True,
    scale: float | None = None,
    camera_height: float = CAMERA_HEIGHT,
) -> Alignment:
    """How a scene must be turned, shifted and scaled; see `align_world`."""
    points = None if scene.points is None else scene.points.xyz
    return align_world(points, scene.poses, up=up, walls=walls, scale=scale, camera_height=camera_height)


def align_world(
    points: np.ndarray | None,
    poses: np.ndarray,
    *,
    up: tuple[float, float, float] | None = None,
    walls: bool = True,
    scale: float | None = None,
    camera_height: float = CAMERA_HEIGHT,
) -> Alignment:
    """How a world of points [P, 3] and cameras [N, 4, 4] (Blender axes -> world) must be turned, shifted and scaled.

    up: given direction in the scene's world; None finds it. walls: whether to turn the walls to x and y. scale: world
    units to meters, where it is known; None takes the median camera to be `camera_height` meters above the floor.
    With both given no points are needed: the floor is then `camera_height` meters below the median camera. Raises
    InputError for a scene without enough points.
    """
    if points is None or len(points) < 100:
        if up is not None and scale is not None and scale > 0:
            return _by_cameras(poses, _unit(np.asarray(up, dtype=np.float64)), scale, camera_height)
        found = 0 if points is None else len(points)
        raise InputError(
            f"The model has {found} points; aligning it needs at least 100: give a model with points, or up and scale, "
            "or turn the alignment off for a world that is Z up and in meters."
        )
    if len(points) > _MOST:
        points = points[np.random.default_rng(0).permutation(len(points))[:_MOST]]
    normals, flatness = point_normals(points)
    guess = _unit(np.asarray(up, dtype=np.float64)) if up is not None else _unit(poses[:, :3, 1].sum(0))
    direction = guess if up is not None else refine_up(guess, normals, flatness)
    rotation = _rotation_to_z(direction)
    turn = wall_turn(normals @ rotation.T, flatness) if walls else 0.0
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ rotation
    placed = points @ rotation.T
    cameras = poses[:, :3, 3] @ rotation.T
    floor, share = floor_height(placed[:, 2], cameras[:, 2])
    if scale is None:
        height = float(np.median(cameras[:, 2])) - floor
        if not height > 1e-9:
            raise InputError("The cameras are not above the floor that was found; give up and scale yourself.")
        scale = camera_height / height
    if not scale > 0:
        raise InputError(f"The scale is {scale:g}; it must be above 0.")
    middle = np.median(placed[:, :2], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = -scale * np.array([middle[0], middle[1], floor])
    tilt = float(np.degrees(np.arccos(np.clip(guess @ direction, -1, 1))))
    return Alignment(matrix, tilt, float(np.degrees(turn)), float(scale), share)


def _by_cameras(poses: np.ndarray, up: np.ndarray, scale: float, camera_height: float) -> Alignment:
    """The world turned to a known up and scaled, the median camera above the origin at `camera_height` meters."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * _rotation_to_z(up)
    middle = np.median(poses[:, :3, 3] @ matrix[:3, :3].T, axis=0)
    matrix[:3, 3] = [-middle[0], -middle[1], camera_height - middle[2]]
    return Alignment(matrix, 0.0, 0.0, float(scale), 0.0)


def align_scene(scene: ScenePhotos, **options) -> ScenePhotos:
    """The scene in the world `estimate_alignment` finds; the note says what was done."""
    found = estimate_alignment(scene, **options)
    return scene.transformed(found.matrix, str(found))


def _rotation_to_z(direction: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] that takes a unit direction to +Z along the shortest way."""
    z = np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(direction, z), float(direction @ z)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + cosine)
