"""What ``python -m sightline train genrecon`` does with its options."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...scene.errors import InputError
from ..command_options import part_of, progress_bar

EMBEDDED = ("tiny", "embedded")  # the first is the command's default
HELD_OUT = 40  # rooms drawn for validation


def run(args: argparse.Namespace, measure=None, draw=None) -> int:
    """Draw or cut rooms, train, measure or export; returns the exit code.

    measure(weights, rooms, bar): yields the rows of --evaluate; draw(folder, weights, rooms, bar): --pictures. Raises
    InputError for unusable options.
    """
    if args.threads is not None:
        import torch

        torch.set_num_threads(max(1, args.threads))
    if args.list:
        from .adapter_config import CONFIGS

        print("\n".join(["embedded", *sorted(path.stem for path in CONFIGS.glob("*.yaml"))]))
        return 0
    if args.objects is not None and args.objects < 1:
        raise InputError(f"--objects is {args.objects}; it must be at least 1.")
    if args.pictures:
        with progress_bar(args, "drawing") as bar:
            print(draw(args.pictures, args.weights, args.objects or 4, bar))
        return 0
    if args.evaluate:
        return _evaluate(args, measure)
    if not args.data:
        raise InputError("--data is not given; name the folder of the rooms.")
    if args.meshes:
        return _cut(args)
    if args.config not in EMBEDDED:
        from .adapter_run import run_adapter

        return run_adapter(args)
    if args.prepare:
        return _prepare(args)
    if not args.out:
        raise InputError("--out is not given; name the folder of the runs.")
    return _export(args) if args.export else _train(args)


def _prepare(args: argparse.Namespace) -> int:
    from .data import prepare
    from .embedded import read_codes

    count, codes = args.objects or 500, read_codes(args.data)
    with progress_bar(args, "drawing") as bar:
        for split, wanted in (("validation", min(count, HELD_OUT)), ("train", count)):
            for done in prepare(args.data, wanted, codes, split, part_of(args.part)):
                bar(done, wanted)
    print(args.data)
    return 0


def _train(args: argparse.Namespace) -> int:
    from .embedded import STAGES, RoomBench, start

    bench = RoomBench(Path(args.data), Path(args.out))
    for name in STAGES if args.stage == "all" else [args.stage]:
        stage = start(name, bench, steps=args.steps)
        figures = STAGES[name].figures
        with progress_bar(args, name) as bar:
            stage.run(
                minutes=args.minutes,
                log_every=25,
                save_every=100,
                evaluate=figures and (lambda module, f=figures: f(bench, module)),
                evaluate_every=max(1, stage.total // 8),
                callback=bar,
            )
        print(bench.runs / name)
    return 0


def _export(args: argparse.Namespace) -> int:
    from ...models.genrecon.family import CONFIG
    from .embedded import RoomBench, export_family

    if (Path(args.export) / CONFIG).exists() and not args.overwrite:
        raise InputError(f"{args.export} holds a family already; add --overwrite to replace it.")
    size = export_family(RoomBench(Path(args.data), Path(args.out)), args.export)
    print(f"{args.export}: {size / 1e6:.1f} MB")
    return 0


def _evaluate(args: argparse.Namespace, measure) -> int:
    with progress_bar(args, "measuring") as bar:
        for row in measure(args.weights, args.objects or 8, bar):
            print(json.dumps(row), flush=True)
    return 0


def _cut(args: argparse.Namespace) -> int:
    from .cutting import cut_rooms

    with progress_bar(args, "cutting") as bar:
        count = cut_rooms(args.meshes, args.data, family=args.weights, progress=bar, tell=print)
    print(f"{args.data}: {count} chunks")
    return 0
