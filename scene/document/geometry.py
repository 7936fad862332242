"""Where the boxes of a scene are and where the cameras see them, in plain numpy.

World: right-handed, Z up. Camera axes: columns right, up, back. Pixels: (0, 0) top left, centers at +0.5, y down.
Corners of a box are ordered by local x, then y, then z, minus before plus (z fastest).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from .fields import wrap_degrees
from .model import Document, Free, Orbit, SceneCamera, SceneObject

REFERENCE_DISTANCE = 6.0  # the control model's camera stands 6 units from the origin it looks at
CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


@dataclass(frozen=True, eq=False)
class Pose:
    """A camera in the world: center [3] and rotation [3, 3] with columns right, up, back; float64."""

    center: np.ndarray
    rotation: np.ndarray


def box_rotation(one: SceneObject) -> np.ndarray:
    """Local axes of a box as columns in the world, [3, 3]: Rz(yaw) Ry(pitch) Rx(roll)."""
    pitch, roll = one.tilt
    return _turn(2, one.yaw_deg) @ _turn(1, pitch) @ _turn(0, roll)


def box_center(one: SceneObject) -> np.ndarray:
    """Center of a box in the world, [3]; a box is turned about it, so `position` is its foot before any tilt."""
    x, y, z = one.position
    return np.array([x, y, z + one.size[2] / 2])


def box_corners(one: SceneObject, inflate: float = 1.0) -> np.ndarray:
    """The 8 corners of a box in the world, [8, 3], scaled about its center by `inflate`."""
    local = CORNERS * np.asarray(one.size) * inflate
    return local @ box_rotation(one).T + box_center(one)


def camera_pose(camera: SceneCamera) -> Pose:
    """Where a camera stands and how it is turned."""
    if camera.mode == "free":
        free = camera.free or Free()
        return Pose(np.asarray(free.position, float), quaternion_matrix(free.rotation))
    orbit = camera.orbit or Orbit()
    a, e = math.radians(orbit.azimuth_deg), math.radians(orbit.elevation_deg)
    ca, sa, ce, se = math.cos(a), math.sin(a), math.cos(e), math.sin(e)
    back = np.array([ce * ca, ce * sa, se])
    right = np.array([-sa, ca, 0.0])
    up = np.array([-se * ca, -se * sa, ce])
    center = np.asarray(orbit.target, float) + orbit.distance * back
    return Pose(center, np.stack([right, up, back], axis=1))


def intrinsics(camera: SceneCamera, width: int, height: int) -> np.ndarray:
    """[3, 3] in pixels of a width x height picture; the sensor spans the longer side."""
    longest = max(width, height)
    focal = camera.lens_mm / camera.sensor_mm * longest
    cx, cy = width / 2 + camera.shift[0] * longest, height / 2 - camera.shift[1] * longest
    return np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])


def to_camera(camera: SceneCamera, points: np.ndarray) -> np.ndarray:
    """World points [..., 3] in camera axes x right, y down, z forward."""
    pose = camera_pose(camera)
    return (points - pose.center) @ pose.rotation * (1.0, -1.0, -1.0)


def project(camera: SceneCamera, width: int, height: int, points: np.ndarray) -> np.ndarray:
    """World points [..., 3] to (x, y) in pixels and depth along the view axis, [..., 3]."""
    seen = to_camera(camera, points)
    k = intrinsics(camera, width, height)
    depth = seen[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = seen[..., :2] / depth * (k[0, 0], k[1, 1]) + (k[0, 2], k[1, 2])
    return np.concatenate([pixels, depth], axis=-1)


def silhouette(camera: SceneCamera, width: int, height: int, one: SceneObject, inflate: float = 1.0) -> np.ndarray:
    """The outline of a box in pixels, a convex polygon [M, 2] counter-clockwise in y-down pixels; [0, 2] if unseen.

    The box is cut at the camera's near plane first.
    """
    points = near_clipped(to_camera(camera, box_corners(one, inflate)), camera.near)
    if not len(points):
        return np.zeros((0, 2))
    k = intrinsics(camera, width, height)
    return convex_hull(points[:, :2] / points[:, 2:] * (k[0, 0], k[1, 1]) + (k[0, 2], k[1, 2]))


def near_clipped(corners: np.ndarray, near: float) -> np.ndarray:
    """The corner points [M, 3] of what of a box (8 camera-space corners, z forward) lies beyond the near plane."""
    z = corners[:, 2]
    points = [corners[z >= near]]
    for face in FACES:
        for a, b in zip(face, (*face[1:], face[0])):
            if (z[a] - near) * (z[b] - near) < 0:
                t = (near - z[a]) / (z[b] - z[a])
                points.append((corners[a] + t * (corners[b] - corners[a]))[None])
    return np.concatenate(points)


def convex_hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull of [N, 2] points in order, [M, 2] (Andrew's monotone chain)."""
    unique = sorted(set(map(tuple, points.tolist())))
    if len(unique) < 3:
        return np.asarray(unique, float).reshape(-1, 2)

    def chain(row):
        found: list[tuple[float, float]] = []
        for p in row:
            while len(found) > 1 and _cross(found[-2], found[-1], p) <= 0:
                found.pop()
            found.append(p)
        return found[:-1]

    return np.asarray(chain(unique) + chain(unique[::-1]), float)


def polygon_area(polygon: np.ndarray) -> float:
    """Area of a polygon [M, 2]; 0 for fewer than three corners."""
    if len(polygon) < 3:
        return 0.0
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def clip_polygon(polygon: np.ndarray, width: float, height: float) -> np.ndarray:
    """The part of a convex polygon [M, 2] inside the picture (Sutherland-Hodgman)."""
    for axis, limit, sign in ((0, 0.0, 1.0), (0, width, -1.0), (1, 0.0, 1.0), (1, height, -1.0)):
        if not len(polygon):
            break
        inside = (polygon[:, axis] - limit) * sign
        found = []
        for i in range(len(polygon)):
            j = (i + 1) % len(polygon)
            if inside[i] >= 0:
                found.append(polygon[i])
            if inside[i] * inside[j] < 0:
                t = inside[i] / (inside[i] - inside[j])
                found.append(polygon[i] + t * (polygon[j] - polygon[i]))
        polygon = np.asarray(found, float).reshape(-1, 2)
    return polygon


# ---- the control model's own camera ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Canonical:
    """A scene in the control model's frame, or why it cannot be brought there (`reason`, then the scene is as given).

    distance, azimuth_deg, foot: the similarity p' = (6 / distance) Rz(-azimuth) (p - foot).
    """

    document: Document
    reason: str | None = None
    distance: float = REFERENCE_DISTANCE
    azimuth_deg: float = 0.0
    foot: tuple[float, float, float] = (0.0, 0.0, 0.0)


def canonical(document: Document) -> Canonical:
    """The scene moved so that its active camera looks at the origin from distance 6 at azimuth 0; same picture.

    Exact for every camera without roll that stands above the floor and looks below the horizon. Source: the scene
    document's specification, A6.
    """
    camera = document.camera
    pose = camera_pose(camera)
    right, back = pose.rotation[:, 0], pose.rotation[:, 2]
    reason = None
    if abs(right[2]) > 1e-6 or pose.rotation[2, 1] < -1e-9:
        reason = "is rolled"
    elif any(camera.shift):
        reason = "has a shifted lens"
    elif pose.center[2] <= 1e-9:
        reason = "stands below the floor"
    elif back[2] <= 1e-9:
        reason = "looks level or upward"
    if reason:
        return Canonical(document, reason)
    distance = float(pose.center[2] / back[2])
    foot = pose.center - distance * back
    azimuth = math.degrees(math.atan2(-right[0], right[1]))  # also right straight from above
    elevation = math.degrees(math.atan2(back[2], math.hypot(back[0], back[1])))
    home = abs(distance - REFERENCE_DISTANCE) < 1e-12 and azimuth == 0 and not np.abs(foot).max() > 1e-12
    if home and camera.mode == "orbit":
        return Canonical(document)
    ratio, turn = REFERENCE_DISTANCE / distance, _turn(2, -azimuth)

    def moved(one: SceneObject) -> SceneObject:
        position = ratio * (turn @ (np.asarray(one.position) - foot))
        size = tuple(ratio * s for s in one.size)
        yaw = wrap_degrees(one.yaw_deg - azimuth)
        return dataclasses.replace(one, position=tuple(position.tolist()), size=size, yaw_deg=yaw)

    orbit = Orbit(elevation_deg=elevation)
    home_camera = dataclasses.replace(
        camera, mode="orbit", orbit=orbit, free=None, near=camera.near * ratio, far=camera.far * ratio
    )
    cameras = tuple(home_camera if c.id == camera.id else c for c in document.cameras)
    changed = document.replace(cameras=cameras, objects=tuple(moved(one) for one in document.objects))
    return Canonical(changed, None, distance, azimuth, tuple(foot.tolist()))


def _cross(o, a, b) -> float:
    return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0])


def _turn(axis: int, degrees: float) -> np.ndarray:
    """Rotation about a world axis, acting on columns."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    found = np.eye(3)
    found[i, i], found[i, j], found[j, i], found[j, j] = c, -s, s, c
    return found


def quaternion_matrix(q) -> np.ndarray:
    """The rotation matrix [3, 3] of a quaternion (w, x, y, z) of any length above 0."""
    w, x, y, z = np.asarray(q, float) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_matrix(r: np.ndarray) -> tuple[float, float, float, float]:
    """(w, x, y, z) of a rotation matrix, with the largest component positive."""
    values = np.array([
        [r[0, 0] + r[1, 1] + r[2, 2], 0, 0, 0],
        [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0, 0],
        [r[0, 2] - r[2, 0], r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0],
        [r[1, 0] - r[0, 1], r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1]],
    ])  # fmt: skip
    q = np.linalg.eigh(values / 3.0, UPLO="L")[1][:, -1]
    q = q if q[np.abs(q).argmax()] > 0 else -q
    return tuple(q.tolist())
