"""What ``python -m sightline train sparsegen`` does with its options."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from ...scene.errors import InputError
from .recipe import Recipe, read_recipe


def run(args: argparse.Namespace) -> int:
    """Draw, train, evaluate or export; returns the exit code. Raises InputError for unusable options."""
    if args.threads is not None:
        import torch

        torch.set_num_threads(max(1, args.threads))
    if args.pictures:
        from ..procedural.pictures import write_input_pictures

        for path in write_input_pictures(args.pictures):
            print(path)
        return 0
    overrides = list(args.set) + ([f"data.folder={json.dumps(args.data)}"] if args.data else [])
    recipe = read_recipe(args.config, overrides)
    if args.prepare:
        return _prepare(recipe, args)
    if not args.out:
        raise InputError("`--out` is not given; name the folder of the run.")
    checkpoint = Path(args.out) / "state.pth"
    if args.export or args.evaluate:
        if not checkpoint.is_file():
            raise InputError(f"`--out` {args.out} holds no state.pth; train there first.")
        return _export(recipe, args, checkpoint) if args.export else _evaluate(recipe, checkpoint)
    from .trainer import train

    first = os.environ.get("RANK", "0") == "0"  # of the processes torchrun starts, one speaks
    with _progress(args, "training") if first else _Silent() as bar:
        path = train(recipe, args.out, minutes=args.minutes, callback=bar)
    if first:
        print(path)
    return 0


def _progress(args: argparse.Namespace, label: str):
    """The command line's bar, which is above this package: handed in, or none."""
    maker = getattr(args, "progress_bar", None)
    return maker(label, args.progress) if maker else _Silent()


class _Silent:
    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        pass

    def __call__(self, done: int, total: int) -> None:
        pass


def _prepare(recipe: Recipe, args: argparse.Namespace) -> int:
    from .procedural_data import prepare

    data = recipe.data
    if data.source != "procedural" or not data.folder:
        raise InputError(
            "`--prepare` draws procedural views: it needs --data and a recipe with `data.source: procedural`."
        )
    try:
        part, parts = (int(x) for x in args.part.split("/"))
    except ValueError:
        raise InputError(f"`--part` is {args.part!r}; write K/N, e.g. 0/2.") from None
    if not 0 <= part < parts:
        raise InputError(f"`--part` is {args.part!r}; K must lie in 0..N-1.")
    with _progress(args, "drawing") as bar:
        for done, total in prepare(data.folder, data.objects, data.views, data.size, data.held_out, part=(part, parts)):
            bar(done, total)
    print(data.folder)
    return 0


def _export(recipe: Recipe, args: argparse.Namespace, checkpoint: Path) -> int:
    from .export import export_weights

    print(export_weights(recipe, checkpoint, args.export, overwrite=args.overwrite))
    return 0


def _evaluate(recipe: Recipe, checkpoint: Path) -> int:
    from .evaluate import held_out_table

    for name, report in held_out_table(recipe, checkpoint).items():
        print(json.dumps({"set": name} | asdict(report) | {"gain": report.gain}))
    return 0
