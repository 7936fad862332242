"""An object of a picture with SAM 3D Objects: Gaussians, mesh and pose; completed by priors with RelaxFlow.

The picture is whole, with its background; --mask selects what is seen of the object (default: the alpha channel). A
point map (.npy, .npz, .exr: the position of every pixel, for example from MoGe) tells size and distance; without one
they are a guess. With --priors, pictures of what the hidden part may look like, RelaxFlow completes the object; what
the picture shows is found by the predicted pose. The weights are not part of this package: --weights names the folder
of facebook/sam-3d-objects (checkpoints/hf). `relaxflow --backbone sam3d` runs a manifest.

  python -m sightline sam3d room.png --mask chair.png --point-map room.npy --weights checkpoints/hf -o chair.ply
  python -m sightline sam3d room.png --mask chair.png --weights checkpoints/hf --priors a.png b.png \\
    -o chair.ply --mesh chair.glb --pose chair.json --place scene
"""

from __future__ import annotations

import argparse

BRANCHES = ("blend", "obs", "prior")
KEPT = ("full", "cropped", "cropped_and_mask")


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "sam3d",
        help="a masked object of a picture -> Gaussians, mesh and pose (SAM 3D Objects, with or without RelaxFlow)",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", metavar="IMAGE", help="the whole picture")
    add("--mask", metavar="FILE", help="what is seen of the object (light); default its alpha channel")
    add("--point-map", metavar="FILE", help="the point that every pixel shows: .npy, .npz or .exr")
    add("--axes", choices=("opencv", "opengl", "pytorch3d"), default="opencv", help="of the point map (opencv: MoGe)")
    add("--priors", nargs="+", default=[], metavar="FILE", help="prior pictures")
    add("--prior-masks", nargs="+", default=[], metavar="FILE", help="one mask for all of them, or one each")
    add("--weights", required=True, metavar="DIR", help="the folder of SAM 3D Objects")
    add("-o", "--output", required=True, metavar="FILE", help="Gaussians: .ply or .splat")
    add("--mesh", metavar="FILE", help="the mesh besides (.glb, .ply)")
    add("--voxels", metavar="FILE", help="the voxels besides (.npz: coords, visible)")
    add("--pose", metavar="FILE", help="the pose besides (.json)")
    add("--place", choices=("object", "scene"), default="object", help="alone in the unit cube (default), or before "
        "the camera, in units of the point map")  # fmt: skip
    add("--gaussians", type=int, choices=(32, 4), default=32, help="of every voxel (default: 32)")
    add("--preset", default="paper", help="of RelaxFlow: paper (default), or as released")
    add("--schedule", help="how the priors fade: linear_cutoff, cosine, ... (default: the preset's)")
    add("--cutoff", type=float, help="part of the steps after which they are silent")
    add("--sigma", type=float, help="blur of the prior's attention, in tokens")
    add("--prior-weight", type=float, help="weight of the prior's velocity in both stages; 0 leaves it out")
    add("--stage2-prior-weight", type=float, help="the same for the latents alone")
    add("--branch", choices=BRANCHES, default="blend", help="blend, or one condition alone (default: blend)")
    add("--keep", choices=KEPT, default="full", help="what counts of the picture (default: full)")
    add("--prior-keep", choices=KEPT, default="cropped_and_mask", help="and of the priors (default: cropped_and_mask)")
    add("--tolerance", type=float, help="how far behind the surface is still seen, in voxels (1.5)")
    add("--dilate", type=float, help="how wide a voxel covers the picture, in voxels (1.5)")
    add("--falloff", type=float, default=3.0, help="how fast visibility drops behind the surface (default: 3)")
    add("--outside-hidden", action="store_true", help="nothing counts as seen outside the mask")
    add("--steps", type=int, help="of the structure (default: the weights', 25)")
    add("--stage2-steps", type=int, help="of the latents (default: the weights', 25)")
    add("--distilled", action="store_true", help="few steps without guidance (2 to 8)")
    add("--seed", type=int, default=42, help="(default: 42)")
    add("--device", default="cpu", help="auto, cpu, cuda, mps (default: cpu)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="default: as published, on a CPU float32")
    add("--low-vram", action="store_true", help="each network visits the device only for its stage")
    add("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run, scene=None, fov=None)


def run(args: argparse.Namespace) -> int:
    """One object."""
    import json

    from ..scene.errors import InputError
    from .relaxflow import chosen, masks_of
    from .relaxflow_sam3d import Sam3dBackbone, pose_report

    for name in ("steps", "stage2_steps"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} is {getattr(args, name)}; at least 1 is needed.")
    make = Sam3dBackbone(args, chosen(args))
    given = make.given(args.image, args.mask, args.priors, masks_of(args))
    make.load()
    if args.mesh:
        make.family.require("slat_decoder_mesh")
    made = write(args, make, given)
    pose = pose_report(make.pose)
    seen = f", {100 * made.report['seen']:.0f} % of them seen" if "seen" in made.report else ""
    print(f"{args.output}: {made.report['gaussians']} Gaussians on {made.report['voxels']} voxels{seen}")
    print(f"pose: {json.dumps({name: pose[name] for name in ('translation', 'rotation_wxyz', 'scale')})}")
    return 0


def write(args: argparse.Namespace, make, given):
    """Sample, decode, write all files together."""
    import io
    import json

    import numpy as np

    from ..scene.files import Outputs
    from ..scene.mesh_files import encode_mesh
    from ..scene.splat_files import encode_splats
    from .progress import Progress
    from .relaxflow_sam3d import pose_report

    with Outputs(args.overwrite) as outputs:
        wanted = {"output": args.output, "mesh": args.mesh, "voxels": args.voxels, "pose": args.pose}
        files = {name: outputs.file(path) for name, path in wanted.items() if path}
        with Progress("steps") as bar:
            made = make(given, bar, want_mesh=bool(args.mesh))
        files["output"].write(encode_splats(made.splats, args.output))
        if args.mesh:
            files["mesh"].write(encode_mesh(*made.mesh, args.mesh))
        if args.voxels:
            memory = io.BytesIO()
            seen = {} if made.visible is None else {"visible": made.visible.cpu().numpy()}
            np.savez_compressed(memory, coords=made.coords.cpu().numpy(), **seen)
            files["voxels"].write(memory.getvalue())
        if args.pose:
            files["pose"].write(json.dumps(pose_report(make.pose), indent=1).encode())
    return made
