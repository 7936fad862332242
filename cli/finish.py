"""Finish a mesh: weld, repair, close small holes, wind outward, decimate, and say what changed.

    sightline finish raw.glb -o clean.glb --faces 200000

Reads GLB, OBJ, PLY, STL and OFF; writes GLB, or PLY with vertex colors. Lengths are in the units of the mesh.
"""

from __future__ import annotations

import argparse
import os
import time

WRITTEN = (".glb", ".ply")


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "finish", help="repair, close, orient and decimate a mesh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("mesh", help="mesh to finish: .glb, .obj, .ply, .stl or .off")
    add("-o", "--output", required=True, metavar="FILE", help="finished mesh: .glb or .ply")
    add("--faces", type=int, default=0, metavar="N", help="faces to keep at most (default: 0, all)")
    add("--holes", type=float, default=0.03, metavar="LENGTH", help="close holes up to this perimeter (default: 0.03)")
    add("--dust", type=float, default=1e-4, metavar="PART",
        help="drop components below this part of the largest one's area (default: 0.0001)")  # fmt: skip
    add("--shells", action="store_true", help="drop components that cannot be seen from outside")
    add("--remesh", type=int, default=0, metavar="CELLS", help="make a new surface of so many cells along its side")
    add("--project-back", type=float, default=0.9, metavar="PART",
        help="how far a remesh goes back onto the old surface (default: 0.9)")  # fmt: skip
    add("--weld", type=float, default=1e-5, metavar="PART",
        help="weld vertices nearer than this part of the longest side (default: 0.00001)")  # fmt: skip
    add("--drop-uv", action="store_true", help="forget texture coordinates and textures, and weld across their seams")
    add("--keep-orientation", action="store_true", help="do not turn components outward")
    add("--no-normals", action="store_true", help="write no smooth normals")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, finish, write, report."""
    from ..pipelines.mesh_finish import FinishOptions, finish_mesh
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from ..scene.gltf import encode_glb
    from ..scene.mesh_files import encode_mesh, part_vertex_colors
    from ..scene.mesh_read import read_mesh
    from .progress import Progress

    suffix = os.path.splitext(args.output)[1].lower()
    if suffix not in WRITTEN:
        raise InputError(f"{args.output} does not end in {' or '.join(WRITTEN)}; finished meshes are written as these.")
    options = FinishOptions(
        faces=args.faces, weld=args.weld, holes=args.holes, dust=args.dust, shells=args.shells, remesh=args.remesh,
        project_back=args.project_back, keep_uv=not args.drop_uv, outward=not args.keep_orientation,
        normals=not args.no_normals,
    )  # fmt: skip
    with Outputs(args.overwrite) as outputs:
        target = outputs.file(args.output)
        part = read_mesh(args.mesh)
        begin = time.perf_counter()
        with Progress("finish", args.progress) as progress:
            finished, report = finish_mesh(part, options, progress=progress)
        seconds = time.perf_counter() - begin
        if suffix == ".glb":
            target.write(encode_glb([finished]))
        else:
            target.write(encode_mesh(finished.vertices, finished.faces, part_vertex_colors(finished), args.output))
    print(report.text())
    print(f"{args.output}: {len(finished.faces)} faces in {seconds:.1f} s")
