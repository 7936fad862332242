"""Reading SeeThrough3D's training data: JSON lines of control image, target, silhouettes, words and their tokens.

| key | what it holds |
|---|---|
| oscr, target | paths of the control image and of the picture, relative to the file's folder |
| cuboids_segmasks | paths of the amodal silhouettes, one per subject and in their order |
| PLACEHOLDER_prompts | the prompt, with PLACEHOLDER where the subjects go, joined by "and" |
| subjects | the descriptions |
| call_ids | the T5 tokens of each description in the prompt |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError

KEYS = ("oscr", "target", "cuboids_segmasks", "PLACEHOLDER_prompts", "subjects", "call_ids")
PLACEHOLDER, JOINER, RAW = "PLACEHOLDER", " and ", "main.jpg"


@dataclass(frozen=True)
class Row:
    """One picture: paths, the prompt, and the tokens of each object."""

    oscr: Path
    target: Path
    masks: tuple[Path, ...]
    prompt: str
    call_ids: tuple[tuple[int, ...], ...]


def read_rows(path: str | Path, drop_raw: bool = False) -> list[Row]:
    """The rows of a JSON lines file; drop_raw leaves out targets named main.jpg.

    Paths must stay below the file's folder. Raises InputError naming the line for whatever is missing or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"`data` {path} is not a file; give SeeThrough3D's JSON lines.")
    rows = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
            missing = [key for key in KEYS if key not in values]
        except (ValueError, TypeError):
            raise InputError(f"Line {number} of {path} is no JSON object.") from None
        if missing:
            raise InputError(f"Line {number} of {path} has no {', '.join(missing)}.")
        counts = {len(values[key]) for key in ("cuboids_segmasks", "subjects", "call_ids")}
        if len(counts) != 1:
            raise InputError(f"Line {number} of {path} has other numbers of silhouettes, subjects and call_ids.")
        if drop_raw and Path(values["target"]).name == RAW:
            continue
        rows.append(
            Row(
                inside(path.parent, values["oscr"], number), inside(path.parent, values["target"], number),
                tuple(inside(path.parent, mask, number) for mask in values["cuboids_segmasks"]),
                values["PLACEHOLDER_prompts"].replace(PLACEHOLDER, JOINER.join(values["subjects"])),
                tuple(tuple(int(i) for i in ids) for ids in values["call_ids"]),
            )
        )  # fmt: skip
    if not rows:
        raise InputError(f"`data` {path} has no rows" + (" whose target is not main.jpg." if drop_raw else "."))
    return rows


def inside(folder: Path, name: str, number: int) -> Path:
    """A path below `folder`; raises InputError for any other."""
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"Line {number} names {name}, which is outside of the data's folder.")
    return path


def read_pixels(path: Path, longest: int) -> Tensor:
    """A picture as [3, H, W] in [-1, 1], its longest side `longest`, both sides multiples of 16 (Lanczos)."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise InputError(f"{path} cannot be read as a picture ({error}).") from None
    scale = longest / max(image.size)
    size = [max(16, int(side * scale) // 16 * 16) for side in image.size]
    pixels = np.array(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


def read_masks(paths: tuple[Path, ...]) -> Tensor:
    """Silhouettes [K, H, W] in [0, 1]; raises InputError for sizes that differ."""
    from PIL import Image

    masks = []
    for path in paths:
        try:
            with Image.open(path) as file:
                masks.append(torch.from_numpy(np.array(file.convert("L"), dtype=np.float32) / 255))
        except OSError as error:
            raise InputError(f"{path} cannot be read as a picture ({error}).") from None
    if len({mask.shape for mask in masks}) > 1:
        raise InputError(f"The silhouettes beside {paths[0]} have several sizes; they must have one.")
    return torch.stack(masks) if masks else torch.zeros(0, 32, 32)
