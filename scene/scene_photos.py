"""Photos of a scene with their cameras and, where known, its sparse points: what a reconstruction starts from.

World frame: right-handed, Z up. Poses are camera -> world with Blender axes (x right, y up, z back), the convention of
the files GenRecon writes; `SceneCameras` holds world -> camera in OpenCV axes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .colmap import ColmapPoints
from .errors import InputError
from .files import read_bytes
from .lens_distortion import Lens, Undistortion, undistort_picture, undistortion

MAX_BYTES = 256 << 20
MAX_PIXELS = 64_000_000
BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenCV camera axes <-> Blender camera axes
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")


@dataclass(frozen=True, eq=False)
class Photo:
    """One posed photo.

    name: for messages and cameras.json; picture: its file, or uint8 [H, W, 3 or 4]; pose: [4, 4] float64 camera
    (Blender axes) -> world; lens: of the picture as it is, distortion included.
    """

    name: str
    picture: Path | np.ndarray
    pose: np.ndarray
    lens: Lens

    @property
    def straight(self) -> Lens:
        """The pinhole of the picture once it is undistorted."""
        plan = self.plan
        return self.lens if plan is None else plan.target

    @property
    def plan(self) -> Undistortion | None:
        return undistortion(self.lens)

    def read(self) -> np.ndarray:
        """uint8 [H, W, 3 or 4], undistorted, of the size of `straight`.

        A file of another size but the lens's proportions is resampled. Raises InputError for an unreadable picture.
        """
        picture = self.picture if isinstance(self.picture, np.ndarray) else read_picture(self.picture)
        height, width = picture.shape[:2]
        lens = self.lens
        if (width, height) != (lens.width, lens.height):
            if abs(width / height * lens.height / lens.width - 1) > 0.02:
                raise InputError(
                    f"{self.name} is {width}x{height}, but its camera is for {lens.width}x{lens.height}; use the "
                    "pictures the poses were made from."
                )
            from PIL import Image

            picture = np.asarray(Image.fromarray(picture).resize((lens.width, lens.height), Image.Resampling.LANCZOS))
        plan = self.plan
        return picture if plan is None else undistort_picture(picture, plan)


@dataclass(frozen=True, eq=False)
class ScenePhotos:
    """Photos in the order of their capture, and the points of the model, None without one.

    note: what was done to the world on the way (alignment), for the reader.
    """

    photos: tuple[Photo, ...]
    points: ColmapPoints | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.photos:
            raise InputError("There is no photo; a view set needs at least one picture with its pose.")

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def poses(self) -> np.ndarray:
        """[N, 4, 4] float64 camera (Blender axes) -> world."""
        return np.stack([photo.pose for photo in self.photos])

    @property
    def intrinsics(self) -> np.ndarray:
        """[N, 3, 3] float64 of the undistorted photos, width and height as units."""
        return np.stack([photo.straight.normalized for photo in self.photos])

    def transformed(self, matrix: np.ndarray, note: str = "") -> ScenePhotos:
        """The scene in another world; matrix [4, 4]: old world -> new, a rotation, a scale above 0 and a shift."""
        scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
        if not scale > 0:
            raise InputError("The alignment is no rotation with a scale above 0.")
        photos = []
        for photo in self.photos:
            pose = matrix @ photo.pose
            pose[:3, :3] /= scale
            photos.append(replace(photo, pose=pose))
        points = self.points
        if points is not None:
            points = replace(points, xyz=points.xyz @ matrix[:3, :3].T + matrix[:3, 3])
        return ScenePhotos(tuple(photos), points, note or self.note)


def read_picture(path: Path) -> np.ndarray:
    """A photo as uint8 [H, W, 3], or [H, W, 4] where it has alpha; not turned upright: poses are of stored pixels.

    Raises InputError for anything else than a picture of a usual format and size.
    """
    from PIL import Image, UnidentifiedImageError

    data = read_bytes(path, MAX_BYTES, "a photo")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise InputError(f"{path} has {picture.width}x{picture.height} pixels, more than {MAX_PIXELS}; resize it.")
        has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        return np.array(picture.convert("RGBA" if has_alpha else "RGB"))
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(f"{path} is no readable picture; give PNG, JPEG, WebP, BMP or TIFF.") from None


def check_pose(pose: np.ndarray, name: str) -> np.ndarray:
    """[4, 4] float64; raises InputError unless it is a rotation and a translation."""
    pose = np.asarray(pose, dtype=np.float64)
    good = pose.shape == (4, 4) and np.isfinite(pose).all() and np.allclose(pose[3], [0, 0, 0, 1], atol=1e-4)
    if not good or np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-2 or np.linalg.det(pose[:3, :3]) < 0:
        raise InputError(f"The pose of {name} is no rotation with a translation; every camera needs a rigid 4x4 pose.")
    return pose


def photos_from_cameras(
    pictures: Sequence[np.ndarray], world_to_camera: np.ndarray, intrinsics: np.ndarray, names: Sequence[str] = ()
) -> ScenePhotos:
    """Photos from pictures uint8 [H, W, 3] and pinhole cameras in the world Z up.

    world_to_camera: [N, 4, 4] (OpenCV axes); intrinsics: [N, 3, 3] in pixels. Raises InputError where counts differ.
    """
    if len(pictures) != len(world_to_camera) or len(pictures) != len(intrinsics):
        raise InputError(
            f"There are {len(pictures)} pictures and {len(world_to_camera)} cameras; each needs the other."
        )
    photos = []
    for i, picture in enumerate(pictures):
        k = intrinsics[i]
        lens = Lens.pinhole(picture.shape[1], picture.shape[0], (k[0][0], k[1][1]), (k[0][2], k[1][2]))
        name = names[i] if i < len(names) else f"view {i}"
        pose = np.linalg.inv(np.asarray(world_to_camera[i], dtype=np.float64)) @ BLENDER
        photos.append(Photo(name, picture, check_pose(pose, name), lens))
    return ScenePhotos(tuple(photos))
