"""A scene of boxes and words: its control picture, masks and prompt; checks and other file formats.

The scene is a .json of the 3D Layout Editor, SeeThrough3D's .pkl (nothing in it is run), a .glb, a .csv table, a folder
with a COLMAP model (its cameras; turned upright and to meters), or the name of an example: backyard, dining-table,
mars, desk, verandah.

  python -m sightline layout mars -o control.png --masks masks.png --prompt
  python -m sightline layout scene.json -o control.png --visibility who.png --depth depth.npy --size 512
  python -m sightline layout scene.pkl --convert scene.json
  python -m sightline layout colmap/sparse/0 --convert scene.json --up 0,-1,0 --scale 0.8
  python -m sightline layout scene.json --check
"""

from __future__ import annotations

import argparse
import json
import sys


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "layout",
        help="a scene of boxes and words -> control picture, masks, prompt (SeeThrough3D)",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", metavar="SCENE", help="a scene file, or the name of an example")
    parser.add_argument("-o", "--output", metavar="PNG", help="write the control picture")
    parser.add_argument("--masks", metavar="PNG", help="write the whole silhouettes, one below the other")
    parser.add_argument("--visibility", metavar="PNG", help="write where each object is seen, one below the other")
    parser.add_argument("--depth", metavar="NPY", help="write the depth in scene units, infinite where nothing is")
    parser.add_argument("--convert", metavar="FILE", help="write the scene as .json, .pkl, .glb or .csv")
    parser.add_argument("--prompt", action="store_true", help="print the prompt")
    parser.add_argument("--check", action="store_true", help="print errors and warnings as JSON; exit code 1 on errors")
    parser.add_argument("--size", type=int, default=1024, metavar="N", help="pixels of the longer side (1024)")
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="samples per side of a pixel at edges (4)")
    parser.add_argument("--lights-seed", type=int, metavar="N", help="draw the lights as the reference does")
    parser.add_argument("--renderer", choices=("torch", "bpy"), default="torch", help="bpy: Blender's Cycles, minutes")
    parser.add_argument("--match-reference-jpeg", action="store_true", help="pass the picture through the two JPEGs")
    parser.add_argument("--up", metavar="X,Y,Z", help="what is up in a COLMAP model (default: found from its points)")
    parser.add_argument("--scale", type=float, metavar="X", help="meters per unit of a COLMAP model (default: found)")
    parser.add_argument("--camera-height", type=float, default=1.5, metavar="M", help="of its photos, for the scale")
    parser.add_argument("--no-align", action="store_true", help="leave the world of a COLMAP model as it is")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, check, draw, write."""
    import dataclasses
    from pathlib import Path

    from ..pipelines.layout_render import layout_warnings, render_layout
    from ..scene.document.convert import alignment_options, read_colmap_scene, read_scene_file, write_scene_bytes
    from ..scene.document.examples import EXAMPLES, load_example
    from ..scene.document.words import prompt_parts, run_problems
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from .progress import Progress

    drawn = any((args.output, args.masks, args.visibility, args.depth))
    if not (drawn or args.convert or args.prompt or args.check):
        raise InputError("Say what to do: -o, --masks, --visibility, --depth, --convert, --prompt or --check.")
    if not 1 <= args.samples <= 8:
        raise InputError(f"--samples is {args.samples}; give 1 to 8.")
    if args.scene in EXAMPLES:
        document, notes = load_example(args.scene), []
    elif Path(args.scene).is_dir():
        document, notes = read_colmap_scene(
            args.scene, None if args.no_align else alignment_options(args.up or "", args.scale, args.camera_height)
        )
    else:
        document, notes = read_scene_file(args.scene)
    for note in notes:
        print(note, file=sys.stderr)
    render = document.output.render
    if args.lights_seed is not None:
        if not 0 <= args.lights_seed < 2**32:
            raise InputError(f"--lights-seed is {args.lights_seed}; give 0 to 4294967295.")
        render = dataclasses.replace(render, lights_seed=args.lights_seed, light_positions=None)
    if args.match_reference_jpeg:
        render = dataclasses.replace(render, match_reference_jpeg=True)
    document = document.replace(output=dataclasses.replace(document.output, render=render))
    if args.check:
        errors = run_problems(document)
        found = errors if errors else layout_warnings(document)
        print(json.dumps([problem.to_json() for problem in found], ensure_ascii=False, indent=1))
        if errors:
            return 1
    if args.prompt:
        print(prompt_parts(document).text)
    with Outputs(overwrite=args.overwrite) as outputs:
        files = {
            name: outputs.file(path)
            for name in ("output", "masks", "visibility", "depth", "convert")
            if (path := getattr(args, name))
        }
        if args.convert:
            files["convert"].write(write_scene_bytes(document, Path(args.convert).suffix.lower()))
        if drawn:
            with Progress("draw") as progress:
                made = render_layout(
                    document, args.size, samples=args.samples, backend=args.renderer, progress=progress
                )  # fmt: skip
            for problem in made.problems:
                print(problem.text, file=sys.stderr)
            _write(files, made)
    for name in files:
        print(getattr(args, name))
    return 0


def _write(files: dict, made) -> None:
    """Encode what was asked for."""
    import io

    import numpy as np
    from PIL import Image

    def png(pixels) -> bytes:
        room = io.BytesIO()
        Image.fromarray(pixels).save(room, "PNG")
        return room.getvalue()

    def stacked(masks) -> bytes:
        return png(masks.reshape(-1, masks.shape[-1]).numpy() * np.uint8(255))

    if "output" in files:
        files["output"].write(png((made.image[0].clamp(0, 1) * 255).round().byte().numpy()))
    if "masks" in files:
        files["masks"].write(stacked(made.masks))
    if "visibility" in files:
        files["visibility"].write(stacked(made.visibility))
    if "depth" in files:
        room = io.BytesIO()
        np.save(room, made.depth.float().numpy(), allow_pickle=False)
        files["depth"].write(room.getvalue())
