"""Where the files of SAM 3D Objects lie."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...models.sam3d.family import SUFFIXES

SAM3D_FOLDER = "sam3d"


def register_sam3d_folder() -> None:
    """Add models/sam3d to the host's model folders."""
    folder_paths.add_model_folder_path(SAM3D_FOLDER, str(Path(folder_paths.models_dir) / SAM3D_FOLDER))
    paths, suffixes = folder_paths.folder_names_and_paths[SAM3D_FOLDER]
    folder_paths.folder_names_and_paths[SAM3D_FOLDER] = (paths, set(suffixes) | {".yaml", *SUFFIXES})


def sam3d_families() -> list[str]:
    """Every pipeline.yaml in the model folder, and the first file of folders that have none."""
    names = [Path(name) for name in folder_paths.get_filename_list(SAM3D_FOLDER)]
    found = [name for name in names if name.name == "pipeline.yaml"]
    described = {name.parent for name in found}
    found += [name for name in names if name.stem == "ss_generator" and name.suffix in SUFFIXES
              and name.parent not in described]  # fmt: skip
    return [name.as_posix() for name in found]
