"""Scenes in the host's input folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...scene.document.convert import READABLE, colmap_place
from ...scene.document.examples import EXAMPLES
from ...scene.errors import InputError
from .folders import file_state

EXAMPLE, COLMAP = "example: ", "COLMAP: "


def scene_names() -> list[str]:
    """The bundled examples, then the files and COLMAP models of the input folder, and of its folder scenes."""
    root = Path(folder_paths.get_input_directory())
    found = [*root.glob("*"), *(root / "scenes").rglob("*")] if root.is_dir() else []
    files = sorted(f.relative_to(root).as_posix() for f in found if f.suffix.lower() in READABLE)
    places = {f for f in found if f.is_dir() and colmap_place(f)}
    models = sorted(f.relative_to(root).as_posix() for f in places if not places.intersection(f.parents))
    return [*(EXAMPLE + name for name in EXAMPLES), *files, *(COLMAP + name for name in models)]


def scene_path(name: str) -> Path:
    """The place of a file of the input folder. Raises InputError where there is none."""
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"`file` {name!r} is not in the input folder; choose another or put it there.")
    return Path(folder_paths.get_annotated_filepath(name))


def model_path(name: str) -> Path:
    """The folder of a COLMAP model in the input folder. Raises InputError where there is none."""
    root = Path(folder_paths.get_input_directory()).resolve()
    place = (root / name.removeprefix(COLMAP)).resolve()
    if not place.is_relative_to(root) or not colmap_place(place):
        raise InputError(f"`file` {name!r} is no COLMAP model in the input folder; choose another or put it there.")
    return place


def scene_state(name: str) -> str:
    """Changes whenever the file does."""
    if name.startswith(COLMAP):
        return "|".join(file_state(path) for path in sorted(colmap_place(model_path(name)).iterdir()) if path.is_file())
    return name if name.startswith(EXAMPLE) else file_state(scene_path(name))
