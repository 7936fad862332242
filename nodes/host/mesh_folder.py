"""Meshes in the host's input folder, and those that come with this pack."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...scene.errors import InputError
from ...scene.mesh_read import READABLE
from .folders import file_state

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "inputs"
MARK = " (example)"  # behind the names of this pack's own files


def mesh_names() -> list[str]:
    """The files in the input folder, and in its folder 3d, that can be read as meshes; then this pack's own."""
    root = Path(folder_paths.get_input_directory())
    found = [*root.glob("*"), *(root / "3d").rglob("*")] if root.is_dir() else []
    names = sorted(f.relative_to(root).as_posix() for f in found if f.suffix.lstrip(".").lower() in READABLE)
    return names + sorted(f.name + MARK for f in EXAMPLES.glob("*.glb"))


def mesh_path(name: str) -> Path:
    """The place of a file of `mesh_names`, or of another in the input folder. Raises InputError where there is none."""
    if name.endswith(MARK) and name in mesh_names():
        return EXAMPLES / name.removesuffix(MARK)
    if not folder_paths.exists_annotated_filepath(name):
        raise InputError(f"`file` {name!r} is not in the input folder; choose another or upload it again.")
    return Path(folder_paths.get_annotated_filepath(name))


def mesh_state(name: str) -> str:
    """Changes whenever the file does."""
    return file_state(mesh_path(name))
