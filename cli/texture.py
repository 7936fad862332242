"""A new material for an existing mesh, from one picture, with TRELLIS.2.

The mesh stays as it is, its texture coordinates included; a mesh without any is unwrapped. The picture needs an alpha
channel, or a --mask. The mesh stands upright, its front toward +Z. The weights: `download trellis2`, and the encoders
with `download trellis2-encoders`.

  python -m sightline texture vase.glb clay.png -o vase-clay.glb
  python -m sightline texture vase.glb clay.png -o vase-clay.glb --texture-size 4096 --seed 3
"""

from __future__ import annotations

import argparse
import time

from . import meshes

PIPELINE = "texturing_pipeline.json"


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "texture",
        help="a new material for a mesh from a picture, with TRELLIS.2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("mesh", metavar="MESH", help="the mesh: .glb, .gltf, .obj, .ply, .stl")
    add("image", metavar="IMAGE", help="the picture its material should look like")
    add("-o", "--output", required=True, metavar="FILE", help="mesh to write: .glb")
    add("--weights", metavar="DIR", help=f"folder with {PIPELINE} (default: where `download trellis2` puts it)")
    add("--search", action="append", default=[], metavar="DIR", help="further folder with weights; repeatable")
    add("--dinov3", metavar="PATH", help="DINOv3: folder, or .safetensors (default: beside the weights)")
    add("--resolution", choices=("512", "1024"), default="1024", help="of the voxels (default: 1024)")
    add("--texture-size", type=int, default=2048, metavar="N", help="texels a side (default: 2048)")
    add("--seed", type=int, default=42, help="seed of the noise (default: 42)")
    add("--texture", metavar="KEY=VALUE,...", help=f"sampler (default: {meshes.DEFAULTS['texture']})")
    add("--mask", metavar="FILE", help="picture whose light parts are the object, where the image has no alpha")
    add("--memory", default="auto", metavar="GB", help="limit: auto, a number of GB, or off (default: auto)")
    add("--low-vram", action="store_true", help="each network visits the device only for its stage")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the networks' torso (default: as published)")
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, paint, write."""
    from pathlib import Path

    from ..models.download import default_folder
    from ..models.trellis2.cascade import load_cascade
    from ..models.trellis2.family import find_encoder
    from ..models.trellis2.weights import TRELLIS2_REPO
    from ..pipelines.texturing import texture_mesh, textured_part
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from ..scene.gltf import encode_glb
    from ..scene.mesh_read import read_mesh
    from ..scene.surfaces import Surface
    from .sparsegen import choose_device

    if not args.output.lower().endswith(".glb"):
        raise InputError(f"{args.output} does not end in .glb; textured meshes are written as such.")
    changes = {meshes.STAGES["texture"]: meshes.parse_sampler(args.texture, "texture")} if args.texture else None
    memory, begin = meshes.memory(args), time.perf_counter()
    with Outputs(args.overwrite) as outputs:
        target = outputs.file(args.output)
        part = read_mesh(args.mesh)
        picture = meshes.read_picture(args.image, args.mask)
        root = default_folder()
        path = Path(args.weights) if args.weights else root / TRELLIS2_REPO
        path = path / PIPELINE if path.is_dir() else path
        folders = [path.parent, *map(Path, args.search), root, path.parent.parent.parent]
        cascade = load_cascade(
            path, search=folders, device=choose_device(args.device), dtype=args.dtype, low_vram=args.low_vram
        )
        cascade.image_encoder, _ = find_encoder(folders, False, args.dinov3)
        stages = meshes.Stages(args.progress)
        try:
            painted = texture_mesh(
                cascade, Surface(part.vertices, part.faces), picture, seed=args.seed, samplers=changes, memory=memory,
                resolution=cascade.config.lr_resolution * (1 + (args.resolution == "1024")), progress=stages,
            )  # fmt: skip
            made, text = textured_part(painted, part, args.texture_size)
        finally:
            stages.close()
        target.write(encode_glb([made]))
    print(f"{args.output}: {len(made.faces)} faces, {text}, {time.perf_counter() - begin:.1f} s ({cascade.device})")
    return 0
