"""What ``python -m sightline train cascade`` does with its options."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from ...scene.errors import InputError
from ..command_options import part_of, progress_bar
from .data import KINDS, SPLITS, object_of, prepare

UNKNOWN = ("snowman", "vase", "car")  # kinds no stage has seen
HELD_OUT = 250  # objects drawn for validation and for the test, each


def run(args: argparse.Namespace) -> int:
    """Draw, train, evaluate, export or picture; returns the exit code. Raises InputError for unusable options."""
    if args.threads is not None:
        import torch

        torch.set_num_threads(max(1, args.threads))
    if args.objects is not None and args.objects < 1:
        raise InputError(f"--objects is {args.objects}; it must be at least 1.")
    if args.noises < 1:
        raise InputError(f"--noises is {args.noises}; it must be at least 1.")
    if args.pictures:
        from .gallery import write_pictures

        for path in write_pictures(args.pictures):
            print(path)
        return 0
    if args.evaluate:
        return _evaluate(args)
    if not args.data:
        raise InputError("--data is not given; name the folder of the drawn objects.")
    if args.prepare:
        return _prepare(args)
    if not args.out:
        raise InputError("--out is not given; name the folder of the runs.")
    return _export(args) if args.export else _train(args)


def _prepare(args: argparse.Namespace) -> int:
    from .derived import derive
    from .texture_code import derive_textures

    part, count = part_of(args.part), args.objects or 8000
    with progress_bar(args, "drawing") as bar:
        for split in SPLITS:
            wanted = count if split == "train" else min(count, HELD_OUT)
            for done in prepare(args.data, wanted, split, part):
                bar(done, wanted)
    for split in ("train", "validation", "test"):
        _exhaust(derive(args.data, split, part))
        if part[0] == 0:
            _exhaust(derive_textures(args.data, split))
    print(args.data)
    return 0


def _exhaust(steps: Iterator[int]) -> None:
    for _ in steps:
        pass


def _train(args: argparse.Namespace) -> int:
    from .figures import FIGURES
    from .stages import STAGES, Bench, start

    bench = Bench(Path(args.data), Path(args.out))
    for name in STAGES if args.stage == "all" else [args.stage]:
        stage = start(name, bench, steps=args.steps)
        figures = FIGURES.get(name)
        with progress_bar(args, name) as bar:
            stage.run(
                minutes=args.minutes,
                evaluate=figures and (lambda module, f=figures: f(bench, module)),
                evaluate_every=max(1, stage.total // 10),
                callback=bar,
            )
        print(bench.runs / name)
    return 0


def _export(args: argparse.Namespace) -> int:
    from .export import export_runs
    from .stages import Bench

    if (Path(args.export) / "pipeline.json").exists() and not args.overwrite:
        raise InputError(f"{args.export} holds a family already; add --overwrite to replace it.")
    size = export_runs(Bench(Path(args.data), Path(args.out)), args.export)
    print(f"{args.export}: {size / 1e6:.1f} MB")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from ...models.trellis2.family import EMBEDDED_FOLDER, load_family
    from .evaluate import measure_all, summary
    from .export import CODE_FILE
    from .latents import LinearCode

    folder = Path(args.weights) if args.weights else EMBEDDED_FOLDER
    cascade = load_family(folder, "pixal3d", projected=True)
    indices = [object_of(i, "test") for i in range(args.objects or 50)]
    indices += [(kind, SPLITS["test"] + k) for kind in UNKNOWN for k in range(len(indices) // 10)]
    with progress_bar(args, "measuring") as bar:
        rows = list(measure_all(cascade, indices, LinearCode.read(folder / CODE_FILE), bar, args.noises))
    for kind in ("all", *KINDS, *UNKNOWN):
        chosen = [row for row in rows if kind == row["kind"] or (kind == "all" and row["kind"] in KINDS)]
        if chosen:
            figures = {k: [round(mean, 4), round(error, 4)] for k, (mean, error, _) in summary(chosen).items()}
            print(json.dumps({"kind": kind, "rows": len(chosen)} | figures))
    return 0
