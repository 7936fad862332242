"""Example scenes: the five published layouts of SeeThrough3D (positions, sizes, words: the authors'), and ours."""

from __future__ import annotations

from pathlib import Path

from .model import Document
from .problems import refuse
from .text import parse_document

FOLDER = Path(__file__).parent / "examples"
PUBLISHED = {
    "backyard": "example0",
    "dining-table": "example1",
    "mars": "example2",
    "desk": "example3",
    "verandah": "example4",
}  # name -> the reference's file
OWN = (
    "still-life", "street", "crowd", "kitchen", "museum", "living-room", "savannah", "garage", "stage", "picnic",
)  # fmt: skip
EXAMPLES = (*PUBLISHED, *OWN)


def load_example(name: str) -> Document:
    """One of `EXAMPLES`; raises SceneError for any other name."""
    if name not in EXAMPLES:
        raise refuse("E100", "", f"There is no example scene {name!r}; choose one of {', '.join(EXAMPLES)}.")
    return parse_document((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
