"""A mesh and its colors to a finished, textured file: unwrap, bake, write.

The colors come from PBR voxels (--voxels, O-Voxel's .npz), or from another mesh (--reference, default: the mesh
itself), from its texture or its vertex colors. With --faces the mesh is repaired and decimated first, and the
given one becomes the reference: its finer shape goes into a normal map.

  python -m sightline bake scan.ply -o scan.glb --faces 100000 --size 2048
  python -m sightline bake low.glb --reference high.ply --voxels colors.npz -o low_textured.glb --occlusion
  python -m sightline bake vase.glb -o vase.obj --render vase.png
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

SUFFIXES = (".glb", ".obj", ".ply", ".usdz")


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "bake",
        help="any mesh, and voxels or a finer mesh -> textured .glb, .obj, .ply, .usdz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("mesh", metavar="MESH", help="the mesh: .glb, .obj, .ply, .stl or .off, Y up")
    add("-o", "--output", required=True, metavar="FILE", help="to write: .glb, .obj (with .mtl, .png), .ply or .usdz")
    add("--voxels", metavar="FILE", help="PBR voxels (.npz with coord, base_color, metallic, roughness, alpha)")
    add("--voxel-frame", choices=("z_up", "y_up"), default="z_up", help="of the voxels (default: z_up, as published)")
    add("--resolution", type=int, metavar="N", help="of the voxels (default: as the file says, or a power of two)")
    add("--reference", metavar="FILE", help="the mesh before it was simplified")
    add("--faces", type=int, metavar="N", help="repair the mesh and decimate it to so many faces first")
    add("--size", type=int, default=2048, metavar="N", help="texels along a side of the textures (default: 2048)")
    add("--padding", type=float, default=4, metavar="N", help="texels between charts (default: 4)")
    add("--unwrap", choices=("missing", "xatlas", "box"), default="missing",
        help="missing keeps texture coordinates there are (default), the others make new ones")  # fmt: skip
    add("--no-normal-map", action="store_true", help="leave the normal map out")
    add("--occlusion", action="store_true", help="bake ambient occlusion too")
    add("--alpha", choices=("auto", "OPAQUE", "MASK", "BLEND"), default="auto", help="how opacity is drawn")
    add("--textures", choices=("png", "jpeg"), default="png", help="format of the textures (default: png)")
    add("--license", default="", metavar="TEXT", help="written into the GLB, such as CC0-1.0")
    add("--render", metavar="FILE", help="also draw the result, turned, as a picture (.png, .jpg)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, repair, unwrap, bake, write."""
    from ..pipelines.mesh_bake import Voxels, bake_part, unwrap_part
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from ..scene.gltf import encode_glb
    from ..scene.mesh_files import encode_mesh, encode_obj, part_vertex_colors
    from ..scene.mesh_read import read_mesh
    from ..scene.usdz import encode_usdz
    from ..scene.voxel_files import read_voxels
    from .progress import Progress

    output = Path(args.output)
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{args.output} does not end in {', '.join(SUFFIXES)}; choose one of these.")
    if args.render and not args.render.lower().endswith((".png", ".jpg")):
        raise InputError(f"{args.render} does not end in .png or .jpg; pictures are written as one of these.")
    begin = time.perf_counter()
    with Outputs(args.overwrite) as outputs:
        names = [output.name]
        if output.suffix.lower() == ".obj":
            names = [output.stem + suffix for suffix in (".obj", ".mtl", ".png")]
        targets = {name: outputs.file(output.with_name(name)) for name in names}
        picture = outputs.file(args.render) if args.render else None
        part = given = read_mesh(args.mesh)
        high = read_mesh(args.reference) if args.reference else None
        voxels = None
        if args.voxels:
            voxels = Voxels(*read_voxels(args.voxels, args.resolution, args.voxel_frame))
        if args.faces is not None:
            part, text = _finish(part, args.faces, args.progress)
            print(text)
            high = high or given
        if part.uv is None or args.unwrap != "missing":
            method = "xatlas" if args.unwrap == "missing" else args.unwrap
            with Progress("unwrapping", args.progress) as progress:
                part, text = unwrap_part(part, args.size, args.padding, method=method, progress=progress)
            print(text)
        reference = None if high is None else (high.vertices, high.faces)
        with Progress("baking", args.progress) as progress:
            made = bake_part(
                part, voxels or high or given, args.size, reference=reference, normal_map=not args.no_normal_map,
                occlusion=args.occlusion, alpha=args.alpha, progress=progress,
            )  # fmt: skip
        part = made.part
        if output.suffix.lower() == ".glb":
            extras = {"license": args.license} if args.license else None
            files = {output.name: encode_glb([part], image_format=args.textures, extras=extras)}
        elif output.suffix.lower() == ".ply":
            files = {output.name: encode_mesh(part.vertices, part.faces, part_vertex_colors(part), output)}
        elif output.suffix.lower() == ".usdz":
            files = {output.name: encode_usdz([part])}
        else:
            files = encode_obj(part, output.stem)
        for name, data in files.items():
            targets[name].write(data)
        if picture is not None:
            picture.write(turned(part, "PNG" if args.render.lower().endswith(".png") else "JPEG"))
    seconds = time.perf_counter() - begin
    material = part.material
    print(f"{args.output}: {len(part.faces):,} faces, {args.size} px, {material.alpha_mode}, {seconds:.1f} s")
    return 0


def _finish(part, faces: int, shown: bool | None):
    from ..pipelines.mesh_finish import FinishOptions, finish_mesh
    from .progress import Progress

    with Progress("finishing", shown) as progress:
        clean, report = finish_mesh(part, FinishOptions(faces=faces, keep_uv=False), progress=progress)
    return clean, report.text()


def turned(part, kind: str = "PNG", side: int = 384, views: int = 4) -> bytes:
    """A picture of the part from `views` sides, as the bytes of a PNG or JPEG."""
    import io

    import torch

    from ..kernels.mesh_render import render_mesh
    from ..scene.cameras import turntable
    from ..scene.frames import turn_points
    from ..scene.images import to_pillow

    place = turn_points(part.vertices, "y_up", "z_up")
    middle = (place.amin(0) + place.amax(0)) / 2
    radius = float((place - middle).norm(dim=1).max())
    cameras = turntable(views, 20.0, 3.2 * max(radius, 1e-9), 40.0, side, side, start=-60.0, target=middle.tolist())
    uv = None if part.uv is None else torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    texture = part.material.base_color
    normals = None if part.normals is None else turn_points(part.normals, "y_up", "z_up")
    shown = render_mesh(place, part.faces, cameras, uv=uv, texture=texture, normals=normals, samples=2)
    stream = io.BytesIO()
    to_pillow(torch.cat(list(shown.rgb), 1).movedim(-1, 0)).save(stream, kind)
    return stream.getvalue()
