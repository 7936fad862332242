"""Encoded prompts, kept in files, so that training needs no text encoders on the device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ...scene.errors import InputError

EMPTY = " "  # what a dropped caption reads
Encode = Callable[[str], tuple[Tensor, Tensor]]  # prompt -> T5 states [1, T, E] and pooled CLIP state [1, P]


class PromptCache:
    """T5 states [T, E] and pooled CLIP states [P] by prompt, one file each, named by the prompt's sha256."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def path(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()}.safetensors"

    def fill(self, prompts: Iterable[str], encode: Encode, progress: Callable[[int, int], None] | None = None) -> int:
        """Encode what is not there yet, the empty caption included; returns how many were."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = sorted({EMPTY, *prompts})
        missing = [prompt for prompt in wanted if not self.path(prompt).is_file()]
        for number, prompt in enumerate(missing):
            states, pooled = encode(prompt)
            partial = self.path(prompt).with_suffix(".part")
            tensors = {"t5": states[0].cpu().contiguous(), "clip": pooled[0].cpu().contiguous()}
            save_file(tensors, str(partial), {"prompt": prompt})
            os.replace(partial, self.path(prompt))
            if progress is not None:
                progress(number + 1, len(missing))
        return len(missing)

    def __getitem__(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Raises InputError for a prompt that was never encoded (it is never replaced by zeros)."""
        if not self.path(prompt).is_file():
            raise InputError(f"The prompt {prompt[:60]!r} is not in {self.folder}; fill the cache with --cache first.")
        tensors = load_file(str(self.path(prompt)))
        return tensors["t5"], tensors["clip"]
