"""What an interrupted run leaves behind, so that the next one goes on: finished stages, and the step a stage was at.

Files are written under a temporary name and renamed; each carries the fingerprint of everything that decides the
result (photos, layout, settings, weights), so that the stages of another run are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...scene.errors import InputError
from ...scene.files import writing
from ..trellis2.safetensors_file import SafetensorsFile

FORMAT = "sightline-genrecon-stage"


def fingerprint(settings: Mapping[str, Any], tensors: Sequence[Tensor] = ()) -> str:
    """A hash of settings (JSON) and tensors."""
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for tensor in tensors:
        sha.update(str(list(tensor.shape)).encode())
        sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:32]


class StageFiles:
    """The stages of one run in a folder; None keeps nothing.

    restart: forget what is there. Raises InputError where the folder holds the stages of another run.
    """

    def __init__(self, folder: str | os.PathLike | None, name: str, restart: bool = False, suffix: str = ""):
        self.folder = None if folder is None else Path(folder)
        self.name, self.suffix = name, suffix
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.folder.glob("*.safetensors"):
            if file.name.startswith("."):  # cut off in the middle of writing
                if f"{self.suffix}." in file.name:
                    file.unlink(missing_ok=True)
            elif restart:
                file.unlink(missing_ok=True)
            elif self._open(file) is None:
                raise InputError(
                    f"{file} is of another run (other photos, settings or weights); choose another folder, or start "
                    "anew (--restart)."
                )

    def _open(self, path: Path) -> SafetensorsFile | None:
        file = SafetensorsFile(path)
        fits = file.metadata.get("format") == FORMAT and file.metadata.get("fingerprint") == self.name
        return file if fits else None

    def load(self, stage: str) -> dict[str, Tensor] | None:
        """The tensors of a finished stage, None where it is not there."""
        if self.folder is None or not (path := self.folder / f"{stage}.safetensors").is_file():
            return None
        file = self._open(path)
        return None if file is None else {key: file[key].clone() for key in file}

    def save(self, stage: str, tensors: Mapping[str, Tensor]) -> None:
        """A finished stage; the steps of it are removed."""
        if self.folder is None:
            return
        self._write(self.folder / f"{stage}.safetensors", tensors, {})
        for file in self.folder.glob(f"{stage}-step*.safetensors"):
            file.unlink(missing_ok=True)

    def load_step(self, stage: str) -> tuple[int, list[Tensor]] | None:
        """Steps done and latents of an interrupted stage."""
        if self.folder is None or not (path := self._step(stage)).is_file():
            return None
        file = self._open(path)
        if file is None:
            return None
        return int(file.metadata["step"]), [file[f"x{i}"].clone() for i in range(len(file))]

    def save_step(self, stage: str, step: int, xs: Sequence[Tensor]) -> None:
        """The latents after `step` steps of a stage."""
        if self.folder is not None:
            self._write(self._step(stage), {f"x{i}": x for i, x in enumerate(xs)}, {"step": str(step)})

    def _step(self, stage: str) -> Path:
        return self.folder / f"{stage}-step{self.suffix}.safetensors"

    def _write(self, path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
        from safetensors.torch import save_file

        plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        with writing(path, overwrite=True) as temporary:
            save_file(plain, temporary, {"format": FORMAT, "fingerprint": self.name, **metadata})
