"""The five published layouts of SeeThrough3D as scene documents: positions, sizes and words are the authors'."""

from __future__ import annotations

from pathlib import Path

from .model import Document
from .problems import refuse
from .text import parse_document

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = {
    "backyard": "example0",
    "dining-table": "example1",
    "mars": "example2",
    "desk": "example3",
    "verandah": "example4",
}  # name -> the reference's file


def load_example(name: str) -> Document:
    """One of `EXAMPLES`; raises SceneError for any other name."""
    if name not in EXAMPLES:
        raise refuse("E100", "", f"There is no example scene {name!r}; choose one of {', '.join(EXAMPLES)}.")
    return parse_document((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
