"""`python -m sightline train trellis2`: a run, a trial of two steps, or what a recipe says."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...models.trellis2.family import EMBEDDED_FOLDER
from ...scene.errors import InputError


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; returns the exit code."""
    from .fit import fit, try_run
    from .networks import write_family
    from .recipe import CONFIGS, read_recipe

    if args.list:
        print("\n".join(sorted(path.stem for path in CONFIGS.glob("*.yaml"))))
        return 0
    recipe = read_recipe(args.config, args.set)
    if args.export:
        base = Path(args.weights) if args.weights else EMBEDDED_FOLDER
        pipeline = write_family(Path(args.export), Path(args.out or ""), recipe, base)
        print(f"{pipeline}: the family with this flow in it")
        return 0
    if not args.data:
        raise InputError("--data is missing; give a folder with dataset.json, or the roots as JSON.")
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    search = [Path(folder) for folder in args.search]
    if args.tryrun:
        values = try_run(recipe, args.data, search=search)
        print("two steps went well: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        return 0
    if not args.out:
        raise InputError("--out is missing; give the folder of the run.")
    bar = args.progress_bar("steps", args.progress)
    try:
        out = fit(recipe, args.data, args.out, search=search, minutes=args.minutes, callback=bar, tell=print)
    finally:
        bar.close()
    print(f"{out}: state.pth, log.jsonl, curve.png, ckpts")
    return 0
