"""Tools beside `genrecon`: baking a scene's voxels to a GLB, small adapters of the published weights, a test room."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

BAKE = """Scene voxels to a GLB with one textured primitive per chunk; options as in the released chunked_to_glb.py.

FILE is scene_voxels.safetensors, or the released to_glb_inputs.pt (read without executing anything; chunk_inputs.pt
beside it is taken too, and --voxels writes both anew in the safe form).

  python -m sightline genrecon-bake out/scene_voxels.safetensors -o out/large.glb --texture_size 4096
"""
VIEWER_FACES, VIEWER_TEXELS = 100_000, 1024
CONVERT = """A published GenRecon .pt to an adapter of 0.24 GB, after proof that its frozen part is TRELLIS.2's flow.

  python -m sightline genrecon-convert shape_slat.pt -o shape.safetensors \\
      --base models/microsoft/TRELLIS.2-4B/ckpts/slat_flow_img2shape_dit_1_3B_512_bf16
"""

ROOM = """A procedural room as a capture: photos and their COLMAP model, to try `genrecon` and its plan on.

  python -m sightline genrecon-room my_room --seed 3 --views 16
"""


def add_parser(subparsers) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    bake = subparsers.add_parser(
        "genrecon-bake", help="a GenRecon scene's voxels -> textured GLB", description=BAKE, formatter_class=raw
    )
    add = bake.add_argument
    add("file", metavar="FILE")
    add("-o", "--output", required=True, metavar="GLB")
    add("--texture_size", type=int, default=4096, metavar="N", help="texels per chunk; 0: colors at the vertices")
    add("--hole_perim", type=float, default=1.0, metavar="X", help="close holes up to this perimeter, world units")
    add("--skip_fill_holes", action="store_true")
    add("--remesh", action="store_true", help="a new, even mesh around the scene, as released; makes two-sided shells")
    add("--skip_remesh", action="store_true", help="the default here: the decoded mesh stays")
    add("--remesh_res", type=int, metavar="N", help="cells along the longest side, up to 1024 (default: one per voxel)")
    add("--remesh_band", type=float, default=1.0, metavar="X", help="distance of the new mesh, in cells (default: 1)")
    add("--remesh_project", type=float, default=0.9, metavar="X", help="how far it goes back: 0 to 1 (default: 0.9)")
    add("--smooth_iters", type=int, default=0, metavar="N", help="smoothing steps that keep edges (default: 0)")
    add("--smooth_lambda", type=float, default=0.5, metavar="X")
    add("--smooth_mu", type=float, default=-0.53, metavar="X")
    add("--smooth_feature_angle", type=float, default=25.0, metavar="DEG")
    add("--simplify_threshold", type=int, default=0, metavar="N", help="faces per chunk, borders kept (default: all)")
    add("--viewer", action="store_true", help="also a light NAME_viewer.glb: 100,000 faces and 1024 texels a chunk")
    add("--unwrap", choices=("xatlas", "box"), default="xatlas")
    add("--workers", type=int, default=max(1, (os.cpu_count() or 1) // 2), metavar="N", help="chunks at a time")
    add("--voxels", metavar="FILE", help="also write the voxels (.safetensors, .json)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    bake.set_defaults(run=run_bake)
    convert = subparsers.add_parser(
        "genrecon-convert", help="published GenRecon .pt -> adapter", description=CONVERT, formatter_class=raw
    )
    add = convert.add_argument
    add("file", metavar="PT")
    add("-o", "--output", required=True, metavar="FILE")
    add("--base", required=True, metavar="STEM", help="TRELLIS.2's pair (.json and .safetensors) of the same stage")
    add("--allow_different_base", action="store_true", help="write the adapter even where the frozen parts differ")
    add("--overwrite", action="store_true", help="replace an existing file")
    convert.set_defaults(run=run_convert)
    room = subparsers.add_parser(
        "genrecon-room", help="a procedural room -> photos with COLMAP poses", description=ROOM, formatter_class=raw
    )
    add = room.add_argument
    add("folder", metavar="DIR")
    add("--seed", type=int, default=0, help="which room (default: 0)")
    add("--views", type=int, default=16, metavar="N", help="photos (default: 16)")
    add("--size", default="320x240", metavar="WxH", help="pixels of a photo (default: 320x240)")
    add("--points", type=int, default=20000, metavar="N", help="points of the model (default: 20000)")
    add("--plain", action="store_true", help="large furniture and plain walls, as the embedded weights know them")
    add("--turned", action="store_true", help="leave the model in a world of any orientation and scale, as COLMAP does")
    add("--binary", action="store_true", help="write .bin instead of .txt")
    add("--overwrite", action="store_true", help="replace existing files")
    room.set_defaults(run=run_room)


def run_bake(args: argparse.Namespace) -> int:
    """Read, finish, bake, write."""
    from ..models.genrecon.scene_files import import_baker_inputs, load_scene_voxels, save_scene_voxels
    from ..pipelines.genrecon_bake import bake_scene, finish_scene, plain_glb, remesh_cells
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from .genrecon import Bars, check_baking

    if not args.output.lower().endswith(".glb"):
        raise InputError(f"{args.output} does not end in .glb; scenes are written as such.")
    check_baking(args)
    if args.skip_remesh and (args.remesh or args.remesh_res):
        raise InputError("--skip_remesh and --remesh exclude each other; give one of them.")
    with Outputs(args.overwrite) as outputs:
        targets = [(outputs.file(args.output), args.texture_size, args.simplify_threshold)]
        if args.viewer:
            light = Path(args.output).with_name(f"{Path(args.output).stem}_viewer.glb")
            fewer = min(VIEWER_FACES, args.simplify_threshold or VIEWER_FACES)
            targets.append((outputs.file(light), min(VIEWER_TEXELS, args.texture_size), fewer))
        path = Path(args.file)
        if path.suffix == ".pt":
            beside = path.with_name("chunk_inputs.pt")
            scene = import_baker_inputs(path, beside if beside.is_file() else None)
        else:
            scene = load_scene_voxels(path)
        bars = Bars(args.progress)
        try:
            cells = (args.remesh_res or remesh_cells(scene)) if args.remesh or args.remesh_res else 0
            finished = finish_scene(
                scene, hole_perimeter=0.0 if args.skip_fill_holes else args.hole_perim, remesh_cells=cells,
                band=args.remesh_band, project_back=args.remesh_project, smooth_iterations=args.smooth_iters,
                lam=args.smooth_lambda, mu=args.smooth_mu, feature_angle=args.smooth_feature_angle, progress=bars,
            )  # fmt: skip
            for target, size, faces in targets:
                given = dict(target=faces, workers=args.workers, progress=bars)
                glb = bake_scene(finished, size, method=args.unwrap, **given) if size else plain_glb(finished, **given)
                target.write(glb)
                said = f"{target.path.name}: {len(scene.chunk_centers)} chunks, {len(glb)} bytes"
                print(f"{said}, from {len(finished.faces)} faces")
        finally:
            bars.close()
        if args.voxels:
            save_scene_voxels(scene, args.voxels, outputs)
    return 0


def run_convert(args: argparse.Namespace) -> int:
    """Compare, write, say what was found."""
    from ..models.genrecon.checkpoint import convert

    proof = convert(
        args.file, args.base, args.output, allow_different=args.allow_different_base, overwrite=args.overwrite
    )
    print(f"{args.output}: {proof}")
    return 0


def run_room(args: argparse.Namespace) -> int:
    """Furnish, photograph, write."""
    import numpy as np

    from ..scene.errors import InputError
    from ..training.genrecon.data import AIM
    from ..training.procedural_room import make_plain_room, make_room, room_capture, write_room

    try:
        width, height = (int(n) for n in args.size.lower().split("x"))
    except ValueError:
        width = height = 0
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise InputError(f"--size is {args.size!r}; give pixels like 320x240, from 16 to 4096.")
    room = make_plain_room(args.seed) if args.plain else make_room(args.seed)
    world = np.eye(4)
    if args.turned:
        draw = np.random.default_rng([7, args.seed])
        q, r = np.linalg.qr(draw.normal(size=(3, 3)))
        q *= np.sign(np.diag(r))
        world[:3, :3] = q * np.sign(np.linalg.det(q)) * draw.uniform(0.3, 3)
        world[:3, 3] = draw.normal(size=3)
    aim = {"aim": AIM} if args.plain else {}
    capture = room_capture(room, args.views, (width, height), args.points, **aim)
    write_room(room, args.folder, capture, world=world, binary=args.binary, overwrite=args.overwrite)
    print(f"{args.folder}: {args.views} photos of a room of {room.size[0]:.1f} x {room.size[1]:.1f} m")
    return 0
