"""Scenes in the host's input folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...scene.document.convert import READABLE
from ...scene.document.examples import EXAMPLES
from ...scene.errors import InputError
from .folders import file_state

EXAMPLE = "example: "


def scene_names() -> list[str]:
    """The bundled examples, then the files of the input folder, and of its folder scenes, that may hold a scene."""
    root = Path(folder_paths.get_input_directory())
    found = [*root.glob("*"), *(root / "scenes").rglob("*")] if root.is_dir() else []
    files = sorted(f.relative_to(root).as_posix() for f in found if f.suffix.lower() in READABLE)
    return [*(EXAMPLE + name for name in EXAMPLES), *files]


def scene_path(name: str) -> Path:
    """The place of a file of the input folder. Raises InputError where there is none."""
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"`file` {name!r} is not in the input folder; choose another or put it there.")
    return Path(folder_paths.get_annotated_filepath(name))


def scene_state(name: str) -> str:
    """Changes whenever the file does."""
    return name if name.startswith(EXAMPLE) else file_state(scene_path(name))
