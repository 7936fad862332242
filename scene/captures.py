"""Reading a capture from its folder: COLMAP, ScanNet++ (DSLR and iPhone), nerfstudio and Blender transforms.json.

| layout | points | cameras | pictures |
|---|---|---|---|
| scannet_dslr | dslr/colmap | dslr/nerfstudio/transforms_undistorted.json | dslr/resized_undistorted_images |
| scannet_iphone | iphone/colmap | the same | iphone/rgb |
| colmap | a folder with cameras, images, points3D (.txt or .bin) | the same | images, rgb, or as given |
| transforms | none, or a `ply_file_path` | transforms.json | beside it |

No picture outside the capture's folder is ever named: a path that leaves it is an error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .camera_files import read_json, read_matrix, read_number
from .colmap import ColmapModel, ColmapPoints, has_colmap, read_colmap, read_points
from .errors import InputError
from .files import inside
from .lens_distortion import Lens
from .rotations import matrix_from_quaternion
from .scene_photos import BLENDER, Photo, ScenePhotos, check_pose

LAYOUTS = ("auto", "colmap", "scannet_dslr", "scannet_iphone", "transforms")
MODEL_FOLDERS = ("", "sparse/0", "sparse", "colmap", "colmap/sparse/0", "colmap_mast3r")
PICTURE_FOLDERS = ("images", "rgb", "rgb_undistorted", "")
SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".webp")
# ScanNet++ stores its nerfstudio poses in a world with x and y swapped and z down
SCANNET_SWAP = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])


class NoPoses(InputError):
    """A folder without any poses, perhaps with photos."""


@dataclass(frozen=True)
class PointFilter:
    """Which points of a model are believed: reprojection error in pixels at most, observations at least; then outliers
    by distance (see `scene.point_filters`), radius in world units. clean: whether these last two are applied."""

    max_error: float = math.inf
    min_track: int = 0
    clean: bool = True
    std_ratio: float = 2.0
    radius_points: int = 10
    radius: float = 0.1

    def apply(self, points: ColmapPoints) -> np.ndarray:
        """Ascending indices of the points kept."""
        from .point_filters import radius_inliers, statistical_inliers

        kept = np.flatnonzero((points.error <= self.max_error) & (points.track >= self.min_track))
        if self.clean:
            kept = kept[statistical_inliers(points.xyz[kept], 20, self.std_ratio)]
            kept = kept[radius_inliers(points.xyz[kept], self.radius_points, self.radius)]
        return kept


FILTERS = {  # defaults of the reference's input modes
    "scannet_dslr": PointFilter(2.0, 4),
    "scannet_iphone": PointFilter(2.0, 0),
    "colmap": PointFilter(),
    "transforms": PointFilter(),
}


def find_layout(folder: str | os.PathLike) -> str:
    """Which of `LAYOUTS` a folder has; raises InputError, saying what was looked for, where it has none."""
    folder = Path(folder)
    if folder.is_file() and folder.suffix == ".json":
        return "transforms"
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder of a capture (COLMAP, ScanNet++, transforms.json).")
    if (folder / "dslr" / "nerfstudio" / "transforms_undistorted.json").is_file():
        return "scannet_dslr"
    if has_colmap(folder / "iphone" / "colmap"):
        return "scannet_iphone"
    if any(has_colmap(folder / place) for place in MODEL_FOLDERS):
        return "colmap"
    if (folder / "transforms.json").is_file():
        return "transforms"
    looked = ", ".join(place or "the folder itself" for place in MODEL_FOLDERS)
    raise NoPoses(
        f"{folder} holds no poses: neither a COLMAP model (looked in {looked}) nor a transforms.json; run COLMAP "
        "on its photos, or `sightline genrecon --plan_only`, which does so with pycolmap."
    )


def read_capture(
    folder: str | os.PathLike,
    layout: str = "auto",
    *,
    model: str | None = None,
    pictures: str | None = None,
    exclude: Iterable[str] = (),
) -> ScenePhotos:
    """The photos and points of a capture.

    layout: one of `LAYOUTS`. model, pictures: folders inside the capture, where they are not at the usual places.
    exclude: names of pictures to leave out. Pictures themselves are read later. Raises InputError for folders without
    poses or pictures, poses without pictures (all of them; single missing ones are left out), and paths that leave the
    folder. Source: GenRecon, specification 7.
    """
    folder = Path(folder)
    found = find_layout(folder) if layout == "auto" else layout
    if found not in LAYOUTS:
        raise InputError(f"The layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
    names = set(exclude)
    if found == "scannet_dslr":
        base = folder / "dslr"
        cameras = base / "nerfstudio" / "transforms_undistorted.json"
        photos = _transforms(cameras, base / (pictures or "resized_undistorted_images"), names, SCANNET_SWAP)
        points = read_points(base / (model or "colmap"))
        return ScenePhotos(photos, points)
    if found == "scannet_iphone":
        base = folder / "iphone"
        parsed = read_colmap(base / (model or "colmap"))
        return ScenePhotos(_colmap_photos(parsed, [inside(base / (pictures or "rgb"), [base])], names), parsed.points)
    if found == "transforms":
        path = folder if folder.is_file() else folder / (model or "transforms.json")
        return ScenePhotos(_transforms(path, path.parent / (pictures or ""), names), _transforms_points(path))
    places = [folder / place for place in ([model] if model else MODEL_FOLDERS)]
    place = next((p for p in places if has_colmap(p)), None)
    if place is None:
        raise InputError(f"{folder} has no COLMAP model in {', '.join(str(p) for p in places)}.")
    parsed = read_colmap(place)
    rooms = [folder / p for p in ([pictures] if pictures else PICTURE_FOLDERS)]
    rooms = [room for room in rooms if room.is_dir()]
    if not rooms:
        raise InputError(f"{folder} has no folder with the pictures ({', '.join(p for p in PICTURE_FOLDERS if p)}).")
    return ScenePhotos(_colmap_photos(parsed, rooms, names), parsed.points)


def _colmap_photos(model: ColmapModel, rooms: list[Path], exclude: set[str]) -> tuple[Photo, ...]:
    photos, missing = [], []
    for image in model.images:
        base = Path(image.name.replace("\\", "/")).name
        if base in exclude or image.name in exclude:
            continue
        path = _picture(image.name, base, rooms)
        if path is None:
            missing.append(image.name)
            continue
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3] = matrix_from_quaternion(_quaternion(image.rotation)).numpy()
        world_to_camera[:3, 3] = image.translation
        pose = check_pose(np.linalg.inv(world_to_camera) @ BLENDER, image.name)
        photos.append(Photo(base, path, pose, Lens.of(model.cameras[image.camera])))
    return _some(photos, missing, rooms)


def _quaternion(values):
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _picture(name: str, base: str, rooms: list[Path]) -> Path | None:
    parts = Path(name.replace("\\", "/")).parts
    if Path(name).is_absolute() or ".." in parts or not base:
        raise InputError(
            f"The model names the picture {name!r}, which lies outside its folder; names must stay inside."
        )
    for room in rooms:
        for candidate in (room / name, room / base):
            if candidate.is_file():
                return inside(candidate, [room])
    return None


def _some(photos: list[Photo], missing: list[str], rooms: list[Path]) -> tuple[Photo, ...]:
    if not photos:
        if not missing:
            raise InputError("All pictures were left out; keep at least one.")
        where, first = ", ".join(str(room) for room in rooms), missing[0]
        raise InputError(f"None of the {len(missing)} posed pictures is in {where} (the first: {first!r}); add them.")
    return tuple(photos)


def _transforms(path: Path, room: Path, exclude: set[str], turn: np.ndarray | None = None) -> tuple[Photo, ...]:
    document = read_json(path)
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(
            f"{path}: `frames` is missing or empty; it must hold one entry with `transform_matrix` a photo."
        )
    photos, missing = [], []
    for i, frame in enumerate(frames):
        try:
            name = frame.get("file_path") if isinstance(frame, dict) else None
            if not isinstance(name, str) or not name:
                raise InputError("it names no picture; add `file_path`.")
            if Path(name).name in exclude:
                continue
            found = _frame_picture(room, name)
            if found is None:
                missing.append(name)
                continue
            pose = read_matrix(frame.get("transform_matrix"), "`transform_matrix`")[0].numpy()
            pose = check_pose(pose if turn is None else turn @ pose, name)
            photos.append(Photo(Path(name).name, found, pose, _frame_lens({**document, **frame}, found)))
        except InputError as error:
            raise InputError(f"{path}: frame {i}: {error}") from None
    return _some(photos, missing, [room])


def _frame_picture(room: Path, name: str) -> Path | None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"the picture {name!r} lies outside its folder; names must stay inside.")
    for candidate in (room / name, *((room / (name + s)) for s in SUFFIXES)):
        if candidate.is_file():
            return inside(candidate, [room])
    return None


def _frame_lens(values: dict, picture: Path) -> Lens:
    width, height = values.get("w"), values.get("h")
    if width is None or height is None:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(picture) as opened:
                width, height = opened.size
        except (OSError, UnidentifiedImageError):
            raise InputError(f"{picture} is no readable picture.") from None
    width, height = round(read_number(width, "`w`")), round(read_number(height, "`h`"))
    if width < 1 or height < 1:
        raise InputError(f"its size is {width}x{height}; both must be at least 1.")
    if values.get("fl_x") is not None:
        fx = read_number(values["fl_x"], "`fl_x`")
    elif values.get("camera_angle_x") is not None:
        angle = read_number(values["camera_angle_x"], "`camera_angle_x`")
        if not 0 < angle < math.pi:
            raise InputError(f"`camera_angle_x` is {angle:g} radians; it must lie between 0 and pi.")
        fx = width / (2 * math.tan(angle / 2))
    else:
        raise InputError("it has neither `camera_angle_x` nor `fl_x`; one of them gives the field of view.")
    fy = read_number(values.get("fl_y", fx), "`fl_y`")
    if not (fx > 0 and fy > 0):
        raise InputError(f"its focal length is {min(fx, fy):g}; it must be above 0.")
    center = read_number(values.get("cx", width / 2), "`cx`"), read_number(values.get("cy", height / 2), "`cy`")
    k = [read_number(values.get(n) or 0.0, f"`{n}`") for n in ("k1", "k2", "p1", "p2", "k3", "k4")]
    if values.get("camera_model") in ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"):
        return Lens("OPENCV_FISHEYE", width, height, (fx, fy), center, (k[0], k[1], k[4], k[5]))
    if any(k):
        coefficients = (*k[:4], k[4], 0.0, 0.0, 0.0)
        return Lens("FULL_OPENCV", width, height, (fx, fy), center, coefficients)
    return Lens.pinhole(width, height, (fx, fy), center)


def _transforms_points(path: Path) -> ColmapPoints | None:
    """The points of a `ply_file_path` beside a transforms.json (x, y, z first, float), None without one."""
    document = read_json(path)
    name = document.get("ply_file_path") if isinstance(document, dict) else None
    if not isinstance(name, str) or not name:
        return None
    from .ply_points import read_ply_points

    xyz, rgb = read_ply_points(inside(path.parent / name, [path.parent]))
    return ColmapPoints(xyz, rgb, np.zeros(len(xyz)), np.full(len(xyz), 1 << 20, dtype=np.int64))
