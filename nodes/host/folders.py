"""The host's model folders."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ...scene.errors import InputError
from .base import SPARSEGEN_FOLDER, TRELLIS1_FOLDER, TRELLIS2_FOLDER, WEIGHT_SUFFIXES
from .sam3d_folder import register_sam3d_folder
from .scenes import register_genrecon_folder


def register_folders() -> None:
    """Add this pack's folders in models/ to the host's model folders (extra_model_paths.yaml may name more)."""
    trellis1 = {".json", *WEIGHT_SUFFIXES}
    for name, wanted in (
        (SPARSEGEN_FOLDER, WEIGHT_SUFFIXES), (TRELLIS2_FOLDER, {".json"}), (TRELLIS1_FOLDER, trellis1)
    ):  # fmt: skip
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(suffixes) | wanted)
    register_genrecon_folder()
    register_sam3d_folder()


def weight_files(folder: str) -> list[str]:
    """The names of the weights in a model folder."""
    return folder_paths.get_filename_list(folder)


def weight_path(folder: str, name: str) -> Path:
    """The path of a weights file the user chose; InputError where it is not (or no longer) there."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(folder))
        raise InputError(f"The weights {name!r} are not in {places}; put the file there or choose another.")
    return Path(path)


def file_state(path: Path) -> str:
    """What changes when a file changes."""
    stat = path.stat()
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
