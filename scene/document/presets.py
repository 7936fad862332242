"""The 46 published preset sizes, and harmonising the sizes of several objects."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from .model import Document

FILE = Path(__file__).with_name("presets.json")


@dataclass(frozen=True)
class Preset:
    """One kind of object: full extents (width, depth, height) in scene units, and its true relative scale."""

    name: str
    size: tuple[float, float, float]
    scale: float
    category: str


def _load() -> dict[str, Preset]:
    table = json.loads(FILE.read_text(encoding="utf-8"))["presets"]
    return {name: Preset(name, tuple(v["size"]), v["scale"], v["category"]) for name, v in table.items()}


PRESETS: dict[str, Preset] = _load()


def harmonise(
    document: Document,
    *,
    keep_z: bool = True,
    include_edited: bool = False,
    keep_overall: bool = True,
    as_reference: bool = False,
) -> Document:
    """Give the objects with presets their true sizes relative to each other.

    keep_z: leave the heights above the floor. include_edited: also objects whose size is no longer the preset's, or a
    uniform multiple of it. keep_overall: multiply all so that the largest keeps its longest side. as_reference: exactly
    SeeThrough3D's rule, new size = preset size x scale / largest scale, z = 0, hand-made sizes overwritten (source:
    spec section 2).
    """
    if as_reference:
        keep_z, include_edited, keep_overall = False, True, False
    chosen = [o for o in document.objects if o.preset in PRESETS and (include_edited or _is_uniform(o.size, o.preset))]
    if not chosen:
        return document
    largest = max(chosen, key=lambda o: PRESETS[o.preset].scale)
    top = PRESETS[largest.preset].scale
    factor = max(largest.size) / max(PRESETS[largest.preset].size) if keep_overall else 1.0
    ids = {o.id for o in chosen}

    def change(o):
        if o.id not in ids:
            return o
        preset = PRESETS[o.preset]
        size = tuple(max(s * preset.scale / top * factor, 0.001) for s in preset.size)
        position = o.position if keep_z else (*o.position[:2], 0.0)
        return dataclasses.replace(o, size=size, position=position)

    return document.replace(objects=tuple(change(o) for o in document.objects))


def _is_uniform(size: tuple[float, ...], preset: str) -> bool:
    ratios = [a / b for a, b in zip(size, PRESETS[preset].size)]
    return max(ratios) <= min(ratios) * 1.001
