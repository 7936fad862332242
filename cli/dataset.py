"""A folder of meshes to a data set for `train trellis2`: pictures, dual grids, PBR voxels, latents, records.

Every object is turned into views and voxelized as it stands in them, as Pixal3D is trained. Run it again to go on; run
it several times at once with --part for more speed.

  python -m sightline dataset my-meshes -o my-data
  python -m sightline dataset my-meshes -o my-data --views 4 --part 0/2 & python -m sightline dataset ... --part 1/2
  python -m sightline dataset my-meshes --examples rocket:10           procedural meshes to try it on
  python -m sightline train trellis2 --config pixal3d-tiny-shape --data my-data --out run
"""

from __future__ import annotations

import argparse


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "dataset",
        help="a folder of meshes -> pictures, grids and latents to train on",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("meshes", metavar="DIR", help="folder with meshes (.glb, .obj, .ply, .stl, .off), searched below too")
    add("-o", "--output", metavar="DIR", help="folder of the data set; continued where it exists")
    add(
        "--family",
        default="embedded",
        metavar="DIR",
        help="whose encoders make the latents: embedded (default), a folder with pipeline.json, or none",
    )
    add("--resolution", type=int, default=64, help="voxels per axis (default: 64, the embedded family's)")
    add("--image-size", type=int, default=256, metavar="N", help="pixels a side (default: 256)")
    add("--views", type=int, default=2, metavar="N", help="views of each object (default: 2)")
    add("--azimuth", type=float, default=70.0, metavar="DEG", help="views lie so far to either side of the front")
    add("--part", default="0/1", metavar="K/N", help="every N-th file from the K-th, for N processes at once")
    add("--examples", metavar="KIND:N", help="write N procedural meshes of a kind into the folder and stop")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Make the data set, naming what was left out."""
    import sys

    from ..models.trellis2.cascade import load_cascade
    from ..models.trellis2.family import embedded_family
    from ..scene.errors import InputError
    from ..training.toolkit.build import BuildOptions, build
    from ..training.toolkit.examples import write_examples
    from .progress import Progress

    if args.examples:
        kind, _, number = args.examples.partition(":")
        if not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise InputError(f"--examples is {args.examples!r}; write KIND:N, such as rocket:10.")
        print(f"{args.meshes}: {len(write_examples(args.meshes, kind, int(number)))} meshes")
        return 0
    if not args.output:
        raise InputError("-o is missing; give the folder of the data set.")
    first, _, count = args.part.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise InputError(f"--part is {args.part!r}; write K/N with K from 0 to N - 1.")
    family = None
    if args.family == "embedded":
        family = embedded_family()
    elif args.family != "none":
        family = load_cascade(args.family)
    options = BuildOptions(args.resolution, args.image_size, args.views, args.azimuth)
    with Progress("meshes", args.progress) as progress:
        counts = build(
            args.meshes, args.output, options, family=family, part=(int(first), int(count)), progress=progress,
            tell=lambda text: print(f"note: {text}", file=sys.stderr),
        )  # fmt: skip
    print(f"{args.output}: {counts['made']} made, {counts['known']} there already, {counts['skipped']} skipped")
    return 0
