"""Poses of plain photos by COLMAP, through pycolmap where it is installed: features, matches, incremental mapping."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .captures import PICTURE_FOLDERS, SUFFIXES
from .errors import InputError, MissingDependency

LEAST, MOST = 3, 2000  # photos
EXHAUSTIVE = 150  # up to so many photos every pair is matched, beyond it neighbors in the order of their names
FORMATS = tuple({suffix.lower() for suffix in SUFFIXES})

Progress = Callable[[int, int], None]


def plain_photos(folder: str | os.PathLike) -> tuple[Path, list[str]] | None:
    """The folder of a capture that holds its photos, and their names in order; None where there are none."""
    for place in (*PICTURE_FOLDERS, "."):
        room = Path(folder) / place
        if place and room.is_dir():
            names = sorted(p.name for p in room.iterdir() if p.suffix.lower() in FORMATS and p.is_file())
            if names:
                return room, names
    return None


def pose_photos(
    photos: str | os.PathLike, names: list[str], target: str | os.PathLike, progress: Progress | None = None
) -> str:
    """Writes a COLMAP model of photos to the folder `target`; returns what was found, in words.

    photos: folder of the pictures; names: those in it, in the order they were taken where there are many. progress:
    (done, total) steps. A model that is there already is kept where it is of the same photos. Raises InputError for
    too few or too many photos, and where no poses can be found; MissingDependency without pycolmap.
    """
    photos, target = Path(photos).resolve(), Path(target)
    if not LEAST <= len(names) <= MOST:
        raise InputError(f"{photos} has {len(names)} photos; from {LEAST} to {MOST} of them can be posed.")
    listed = target / "photos.txt"
    if listed.is_file() and listed.read_text("utf-8") == "\n".join(names) and (target / "images.bin").is_file():
        return f"the poses in {target}"
    try:
        import pycolmap
    except ImportError:
        raise MissingDependency(
            f"{photos} holds {len(names)} photos without poses; `pip install pycolmap` to have them found, or run "
            "COLMAP on them."
        ) from None
    tell = progress or (lambda done, total: None)
    pycolmap.logging.minloglevel = 3  # what goes wrong is said below
    sizes = _sizes(photos, names)
    fresh = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        count = _reconstruct(pycolmap, photos, names, target, len(sizes) == 1, tell)
    except BaseException:
        if fresh:
            shutil.rmtree(target.parent, ignore_errors=True)
        raise
    return f"COLMAP posed {count} of {len(names)} photos"


def _reconstruct(pycolmap, photos: Path, names: list[str], target: Path, one_lens: bool, tell: Progress) -> int:
    """Writes the largest model that is found; how many photos it has."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as room:
        room = Path(room)
        database, device = room / "database.db", pycolmap.Device.auto
        mode = pycolmap.CameraMode.SINGLE if one_lens else pycolmap.CameraMode.AUTO
        tell(0, 3)
        pycolmap.extract_features(database, photos, image_names=names, camera_mode=mode, device=device)
        tell(1, 3)
        match = pycolmap.match_exhaustive if len(names) <= EXHAUSTIVE else pycolmap.match_sequential
        match(database, device=device)
        tell(2, 3)
        found = pycolmap.incremental_mapping(database, photos, room)
        best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
        count = 0 if best is None else best.num_reg_images()
        if count < LEAST:
            raise InputError(
                f"COLMAP finds no common poses for the {len(names)} photos in {photos}; photos that overlap by more "
                "than half, from several places, with texture on what they show, would work."
            )
        made = room / "model"
        made.mkdir()
        best.write(str(made))
        (made / "photos.txt").write_text("\n".join(names), "utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(made, target)
    tell(3, 3)
    return count


def _sizes(photos: Path, names: list[str]) -> set[tuple[int, int]]:
    """The sizes of the pictures; raises InputError for one that is none."""
    from PIL import Image, UnidentifiedImageError

    sizes = set()
    for name in names:
        try:
            with Image.open(photos / name) as picture:
                sizes.add(picture.size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            raise InputError(f"{photos / name} is no readable picture; take it away, or mend it.") from None
    return sizes
