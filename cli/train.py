"""Train SparseGen, or draw what it is trained on.

python -m sightline train sparsegen --config tiny --data views --prepare     draw the procedural views
python -m sightline train sparsegen --config tiny --data views --out run     train (again: continue)
torchrun --nproc-per-node 2 -m sightline train sparsegen ...                 with two processes
python -m sightline train sparsegen --config tiny --data views --out run --evaluate
python -m sightline train sparsegen --config tiny --out run --export sparsegen-tiny.safetensors
python -m sightline train sparsegen --pictures folder                        draw the workflow's input pictures

python -m sightline train cascade --data drawn --prepare --objects 8000      draw objects for the small Pixal3D family
python -m sightline train cascade --data drawn --out runs                    train its stages in order (again: continue)
python -m sightline train cascade --data drawn --out runs --stage shape_flow --minutes 30
python -m sightline train cascade --data drawn --out runs --export family    write the family
python -m sightline train cascade --evaluate --objects 50                    measure the embedded family

python -m sightline train genrecon --data rooms --prepare --objects 600      draw rooms for the small GenRecon family
python -m sightline train genrecon --data rooms --out runs                   train its stages in order (again: continue)
python -m sightline train genrecon --data rooms --out runs --export family   write the family
python -m sightline train genrecon --evaluate --objects 8                    reconstruct and measure unseen rooms
python -m sightline train genrecon --meshes rooms --data chunks --weights TRELLIS.2-4B   cut your own rooms
python -m sightline train genrecon --config genrecon-shape --data chunks --weights TRELLIS.2-4B --out run   adapters

python -m sightline train trellis2 --list                                    the recipes of TRELLIS.2 and Pixal3D
python -m sightline train trellis2 --config NAME --data SET --tryrun         two steps, nothing written
torchrun --nproc-per-node 8 -m sightline train trellis2 --config NAME --data SET --out run
python -m sightline train trellis2 --config pixal3d-tiny-shape --out run --export DIR   the family with that flow

python -m sightline train seethrough3d --config stage1 --data train.jsonl --flux FLUX.1-dev --out run --cache
torchrun --nproc-per-node 2 -m sightline train seethrough3d --config stage1 --data train.jsonl --flux ... --out run
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
    add("system", choices=["sparsegen", "cascade", "genrecon", "trellis2", "seethrough3d"], help="what to train")
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
    add("--meshes", default=None, metavar="DIR", help="genrecon: cut the rooms of this folder into chunks and stop")
    add("--part", default="0/1", metavar="K/N", help="with --prepare: every N-th shard from the K-th, for N processes")
    add("--evaluate", action="store_true", help="measure the run's weights on held-out objects and stop")
    add("--export", default=None, metavar="FILE", help="write the run's averaged weights as safetensors and stop")
    add("--pictures", default=None, metavar="DIR", help="draw the input pictures of the workflow and stop")
    add("--stage", default="all", help="cascade: one stage, or all in order (default)")
    add("--steps", type=int, default=None, help="cascade: steps of the stage's schedule (default: the stage's own)")
    add("--objects", type=int, default=None, metavar="N", help="cascade: how many to draw, measure or picture")
    add("--noises", type=int, default=1, metavar="N", help="cascade: measure every object from N noises (default: 1)")
    add("--weights", default=None, metavar="DIR", help="family to measure (cascade) or export from (trellis2)")
    add("--list", action="store_true", help="trellis2, seethrough3d: name the recipes and stop")
    add("--flux", default=None, metavar="DIR", help="seethrough3d: a local FLUX.1-dev in diffusers' layout")
    add("--cache", action="store_true", help="seethrough3d: encode the prompts of --data and stop")
    add("--tryrun", action="store_true", help="trellis2: two steps that write nothing")
    add("--search", action="append", default=[], metavar="DIR", help="trellis2: folder with DINOv3 and NAF; repeatable")
    add("--overwrite", action="store_true", help="replace an existing --export file")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Hand over to training."""
    from ..pipelines.seethrough3d import load_flux
    from ..training.cascade import commands as cascade
    from ..training.genrecon import commands as genrecon
    from ..training.seethrough3d import commands as seethrough3d
    from ..training.sparsegen import commands as sparsegen
    from ..training.trellis2 import commands as trellis2
    from .progress import Progress

    args.progress_bar = Progress
    if args.system == "seethrough3d":
        return seethrough3d.run(args, load_flux)
    if args.system == "genrecon":
        from .genrecon_measure import draw_rooms, measure_rooms

        return genrecon.run(args, measure_rooms, draw_rooms)
    return {"sparsegen": sparsegen, "cascade": cascade, "trellis2": trellis2}[args.system].run(args)
