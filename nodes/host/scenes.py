"""Types of scene reconstruction, and where captures and unfinished scenes lie."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...scene.errors import InputError
from ...scene.files import inside
from .base import io

GENRECON_FOLDER = "genrecon"

GenReconModels = io.Custom("SIGHTLINE_GENRECON")
ScenePhotosType = io.Custom("SIGHTLINE_SCENE_PHOTOS")
ScenePlanType = io.Custom("SIGHTLINE_SCENE_PLAN")
SceneConditionType = io.Custom("SIGHTLINE_SCENE_CONDITION")
SceneLatentsType = io.Custom("SIGHTLINE_SCENE_LATENTS")
SceneType = io.Custom("SIGHTLINE_SCENE_MESH")


def register_genrecon_folder() -> None:
    """Add models/genrecon to the host's model folders."""
    folder_paths.add_model_folder_path(GENRECON_FOLDER, str(Path(folder_paths.models_dir) / GENRECON_FOLDER))
    paths, suffixes = folder_paths.folder_names_and_paths[GENRECON_FOLDER]
    wanted = {".json", ".pt", ".safetensors"}
    folder_paths.folder_names_and_paths[GENRECON_FOLDER] = (paths, set(suffixes) | wanted)


def genrecon_families() -> list[str]:
    """Every genrecon.json in the model folder, and "published files" where .pt files lie there."""
    names = folder_paths.get_filename_list(GENRECON_FOLDER)
    found = [name for name in names if Path(name).name == "genrecon.json"]
    return found + (["published files"] if any(name.endswith(".pt") for name in names) else [])


def genrecon_path(name: str) -> Path:
    """The folder or file of a family the user chose."""
    if name == "published files":
        names = folder_paths.get_filename_list(GENRECON_FOLDER)
        first = next((name for name in names if name.endswith(".pt")), None)
        found = None if first is None else folder_paths.get_full_path(GENRECON_FOLDER, first)
        if found is not None:
            place = Path(found).parent
            return place.parent.parent if place.name == "ckpts" else place  # STAGE/ckpts/FILE is how it is released
        return Path(folder_paths.get_folder_paths(GENRECON_FOLDER)[0])
    path = folder_paths.get_full_path(GENRECON_FOLDER, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(GENRECON_FOLDER))
        raise InputError(f"There are no GenRecon models {name!r} in {places}; put the published files there.")
    return Path(path)


def capture_folder(name: str) -> Path:
    """A folder in the host's input folder; InputError for anything else."""
    root = Path(folder_paths.get_input_directory())
    folder = inside(root / name, [root])
    if not folder.exists():
        raise InputError(f"There is no folder {name!r} in {root}; put the capture there and give its name.")
    return folder


def resume_folder(name: str) -> str | None:
    """Where an unfinished scene is kept, None for an empty name; InputError for a name that is no plain word."""
    if not name.strip():
        return None
    if Path(name).name != name or name.startswith("."):
        raise InputError(f"`resume_as` is {name!r}; give a plain name without slashes, or leave it empty.")
    return str(Path(folder_paths.get_output_directory()) / "sightline_scenes" / name)
