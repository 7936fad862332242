"""One picture of an object to a mesh with colors, with TRELLIS.2.

The picture needs an alpha channel, or a --mask. The mesh stands upright in a canonical pose: Y up, front toward +Z.
The weights are not part of this package: `python -m sightline download trellis2` gets them.

  python -m sightline trellis2 chair.png -o chair.glb
  python -m sightline trellis2 chair.png -o chair.ply --type 512 --seed 3 --shape steps=20,guidance=5
"""

from __future__ import annotations

import argparse
import time

from . import meshes


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "trellis2",
        help="one picture of an object -> mesh (.glb, .ply), with TRELLIS.2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="the picture (not with --resume)")
    meshes.add_common(parser, "trellis2")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare, sample, decode, write."""
    from ..models.trellis2.weights import TRELLIS2_REPO
    from ..pipelines.trellis2 import prepare_picture, sample_latents
    from ..scene.errors import InputError

    meshes.check(args)
    if (args.image is None) != bool(args.resume):
        raise InputError("Give one picture, or --resume with saved latents and no picture.")
    picture = None if args.resume else prepare_picture(meshes.read_picture(args.image, args.mask))
    begin = time.perf_counter()
    cascade = meshes.load(args, "trellis2", TRELLIS2_REPO, projected=False)

    def sample(progress):
        return sample_latents(
            cascade, picture, seed=args.seed, pipeline_type=args.type, samplers=meshes.samplers(args),
            max_num_tokens=args.max_tokens, memory=meshes.memory(args), progress=progress,
        )  # fmt: skip

    latents = meshes.sample_or_resume(args, cascade, "z_up", sample)
    meshes.decode_and_write(args, cascade, latents, "z_up", begin)
    return 0
