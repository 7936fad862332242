"""Train SparseGen, or draw what it is trained on.

python -m sightline train sparsegen --config tiny --data views --prepare     draw the procedural views
python -m sightline train sparsegen --config tiny --data views --out run     train (again: continue)
torchrun --nproc-per-node 2 -m sightline train sparsegen ...                 with two processes
python -m sightline train sparsegen --config tiny --data views --out run --evaluate
python -m sightline train sparsegen --config tiny --out run --export sparsegen-tiny.safetensors
python -m sightline train sparsegen --pictures folder                        draw the workflow's input pictures
"""

from __future__ import annotations

import argparse


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "train",
        help="train a model, or draw its training data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("system", choices=["sparsegen"], help="what to train")
    add("--config", default="tiny", metavar="NAME|FILE", help="recipe: tiny, spgen, or a YAML file (default: tiny)")
    add("--data", default=None, metavar="DIR", help="folder of the drawn views, or of the SRN dataset")
    add(
        "--out",
        default=None,
        metavar="DIR",
        help="folder of the run: checkpoint, log, curve; continued where it exists",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="change an option of the recipe, e.g. optimizer.lr=1e-4",
    )
    add("--minutes", type=float, default=None, help="stop after this time (default: when the recipe's steps are done)")
    add("--threads", type=int, default=None, help="threads a process (default: torch's)")
    add("--prepare", action="store_true", help="draw the procedural views into --data and stop")
    add("--part", default="0/1", metavar="K/N", help="with --prepare: every N-th shard from the K-th, for N processes")
    add("--evaluate", action="store_true", help="measure the run's weights on held-out objects and stop")
    add("--export", default=None, metavar="FILE", help="write the run's averaged weights as safetensors and stop")
    add("--pictures", default=None, metavar="DIR", help="draw the input pictures of the workflow and stop")
    add("--overwrite", action="store_true", help="replace an existing --export file")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Hand over to training."""
    from ..training.sparsegen import commands
    from .progress import Progress

    args.progress_bar = Progress
    return commands.run(args)
