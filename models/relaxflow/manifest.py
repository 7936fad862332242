"""Lists of objects to complete: JSON or JSON lines, with the fields of the released data sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...scene.errors import InputError

MAX_BYTES = 64 << 20
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Sample:
    """One object: its picture, its mask (None: the picture's alpha), prior pictures with masks, and what is true of it:
    a mesh, pictures from around it. point_map: of the picture, for SAM 3D.

    name: usable as a folder. All paths lie inside the folder of the data.
    """

    name: str
    image: Path
    mask: Path | None
    priors: tuple[Path, ...]
    prior_masks: tuple[Path | None, ...]
    prior_text: str = ""
    gt_mesh: Path | None = None
    gt_images: tuple[Path, ...] = ()
    point_map: Path | None = None


def read_manifest(path: str | os.PathLike, root: str | os.PathLike | None = None) -> list[Sample]:
    """The samples of a manifest: a list, {"samples": [...]}, or one JSON object a line.

    root: the folder of the data, default that of the manifest. Fields: id, image, mask, prior_images, prior_masks (one
    or as many), prior_text, gt_mesh, gt_images or gt_render_dir (a folder of pictures), and point_map, ours. Raises
    InputError naming the sample and what is wrong with it, among others for a path outside the folder and a name given
    twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no manifest {path}.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MB; that is no manifest.")
    text = path.read_text(encoding="utf-8")
    try:
        data = [json.loads(line) for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else None
        data = json.loads(text) if data is None else data
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}).") from None
    data = data.get("samples") if isinstance(data, dict) else data
    if not isinstance(data, list) or not data:
        raise InputError(f"{path} lists no samples.")
    base = Path(root) if root else path.parent
    samples = [_sample(entry, index, base) for index, entry in enumerate(data)]
    names = [sample.name for sample in samples]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"The manifest names {twice[0]!r} twice; every sample needs an id of its own.")
    return samples


def _sample(entry: Any, index: int, base: Path) -> Sample:
    if not isinstance(entry, dict):
        raise InputError(f"Sample {index + 1} of the manifest is no object with fields.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", str(entry.get("id", index))).strip(".") or f"sample{index}"

    def place(value: Any, what: str) -> Path:
        if not isinstance(value, str) or not value:
            raise InputError(f"Sample {name!r}: {what} is {value!r}; a path would work.")
        found = (base / value).resolve()
        if not found.is_relative_to(base.resolve()):
            raise InputError(f"Sample {name!r}: {what} {value!r} lies outside {base}.")
        if not found.is_file():
            raise InputError(f"Sample {name!r}: there is no {what} {found}.")
        return found

    def several(key: str) -> list:
        value = entry.get(key) or []
        return [value] if isinstance(value, str) else list(value)

    def rendered() -> list[str]:
        given = entry.get("gt_render_dir")
        if not given:
            return []
        folder = (base / str(given)).resolve()
        if not folder.is_relative_to(base.resolve()) or not folder.is_dir():
            raise InputError(f"Sample {name!r}: `gt_render_dir` {given!r} is no folder inside {base}.")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
        return [path.relative_to(base.resolve()).as_posix() for path in found]

    priors = tuple(place(one, "prior") for one in several("prior_images"))
    masks: Sequence[Path | None] = [place(one, "prior mask") for one in several("prior_masks")] or [None]
    masks = masks * len(priors) if len(masks) == 1 else masks
    if len(masks) != len(priors):
        raise InputError(f"Sample {name!r} has {len(priors)} priors and {len(masks)} masks; one, or one each.")
    return Sample(
        name,
        place(entry.get("image"), "image"),
        place(entry["mask"], "mask") if entry.get("mask") else None,
        priors,
        tuple(masks),
        str(entry.get("prior_text") or ""),
        place(entry["gt_mesh"], "true mesh") if entry.get("gt_mesh") else None,
        tuple(place(one, "true picture") for one in several("gt_images") or rendered()),
        place(entry["point_map"], "point map") if entry.get("point_map") else None,
    )
