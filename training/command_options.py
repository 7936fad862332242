"""What the training commands make of options they share."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

from ..scene.errors import InputError


def progress_bar(args: argparse.Namespace, label: str) -> AbstractContextManager:
    """A context that gives callback(done, total): the command line's bar, or one that shows nothing."""
    maker = getattr(args, "progress_bar", None)
    return maker(label, args.progress) if maker else nullcontext(lambda done, total: None)


def part_of(text: str) -> tuple[int, int]:
    """K and N of --part K/N; raises InputError for any other text."""
    try:
        part, parts = (int(x) for x in text.split("/"))
    except ValueError:
        raise InputError(f"--part is {text!r}; write K/N, e.g. 0/2.") from None
    if not 0 <= part < parts:
        raise InputError(f"--part is {text!r}; K must lie in 0..N-1.")
    return part, parts
