"""One picture of an object, or several posed ones, to a mesh that lines up with the pixels, with Pixal3D.

The picture needs an alpha channel, or a --mask. --fov is that of the cropped square the network sees; look at
--overlay: the floor's lines must run like the object's, the tokens must cover it. Written: Y up, and the (first)
picture looks at the front, +Z. The weights are not part of this package: `python -m sightline download pixal3d` gets
them (pixal3d-mv for several pictures).

  python -m sightline pixal3d chair.png --overlay grid.png --fov 35
  python -m sightline pixal3d chair.png -o chair.glb --fov 35 --save-latents chair.safetensors
  python -m sightline pixal3d --views photos/transforms.json -o chair.glb
  python -m sightline pixal3d front.png right.png back.png left.png --rig --mesh-scale 1 -o chair.glb
"""

from __future__ import annotations

import argparse
import time

from . import meshes

DEFAULT_FOV = 49.13434207760448  # degrees; the released pipeline's own, where it is given none


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "pixal3d",
        help="one picture, or several posed ones -> mesh (.glb, .ply) aligned with the pixels, with Pixal3D",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="the picture; with --rig up to four: front, right, back, left")
    add("--fov", metavar="DEG", help=f"horizontal field of view in degrees, or `exif` (default: {DEFAULT_FOV:.2f})")
    add("--distance", type=float, metavar="D", help="of the camera (default: the cube's middle fills the width)")
    add("--mesh-scale", type=float, metavar="S", help="the object is 1/S as large as the cube (default: 1)")
    add("--views", metavar="JSON", help="transforms.json with pictures and cameras, the main view first")
    add("--rig", action="store_true", help="the pictures are level views, 90 degrees apart, of a 20 degree lens")
    add("--overlay", metavar="FILE", help="picture (.png) of the projected grid, drawn on the first view")
    add("--naf", metavar="FILE", help="NAF weights (default: looked for beside the weights)")
    meshes.add_common(parser, "pixal3d")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare pictures and cameras, sample, decode, write."""
    from ..models.trellis2.weights import PIXAL3D_REPO
    from ..pipelines.pixal3d import sample_latents
    from ..scene.errors import InputError

    meshes.check(args, ("output", "save_latents", "overlay"))
    if args.overlay and not args.overlay.lower().endswith(".png"):
        raise InputError(f"{args.overlay} does not end in .png; the overlay is written as PNG.")
    several = bool(args.views or args.rig)
    if args.resume and not (args.images or args.views):
        if args.overlay:
            raise InputError("--overlay draws on the picture; give it again, or leave --overlay out.")
        pictures = camera = None
    else:
        pictures, camera = place(args)
    begin = time.perf_counter()
    if not (args.output or args.save_latents or args.resume):
        draw(args, pictures, camera)
        print(f"{args.overlay}: the grid on the picture")
        return 0
    name, file = ("pixal3d-mv", "pipeline_mv.json") if several else ("pixal3d", "")
    cascade = meshes.load(args, name, PIXAL3D_REPO, projected=True, file=file)

    def sample(progress):
        return sample_latents(
            cascade, pictures, camera, seed=args.seed, pipeline_type=args.type, samplers=meshes.samplers(args),
            max_num_tokens=args.max_tokens, memory=meshes.memory(args), progress=progress,
        )  # fmt: skip

    latents = meshes.sample_or_resume(args, cascade, "y_up", sample)
    if args.overlay:
        factor = cascade.get("shape_slat_decoder").config.factor
        draw(args, pictures, camera, latents.shape.coords[:, 1:].cpu(), latents.resolution // factor)
        print(f"{args.overlay}: the tokens on the picture")
    meshes.decode_and_write(args, cascade, latents, "y_up", begin)
    return 0


def place(args: argparse.Namespace):
    """The prepared pictures and their camera or cameras."""
    from ..models.trellis2.image_condition import PosedCameras
    from ..scene.errors import InputError
    from ..scene.posed_views import read_transforms, rig_views

    if args.mesh_scale is not None and not 0 < args.mesh_scale < 1e6:
        raise InputError(f"--mesh-scale is {args.mesh_scale:g}; it must be above 0.")
    if not (args.views or args.rig):
        return place_one(args)
    for name in ("fov", "distance", "mask"):
        if getattr(args, name) is not None:
            raise InputError(f"--{'views' if args.views else 'rig'} gives the cameras; leave --{name} out.")
    if args.views and (args.rig or args.images):
        raise InputError("--views names the pictures and their cameras; leave --rig and the pictures out.")
    if args.views:
        views = read_transforms(args.views)
    else:
        views = rig_views([meshes.read_picture(path) for path in args.images], args.images)
    scale = args.mesh_scale if args.mesh_scale is not None else views.mesh_scale
    if scale is None:
        raise InputError("The views do not say how large the object is; add --mesh-scale (1 where it fills the cube).")
    return views.pictures, PosedCameras(views.cameras, scale)


def place_one(args: argparse.Namespace):
    """The prepared picture and the camera in front of it."""
    import math

    from ..models.trellis2.image_condition import FrontCamera
    from ..pipelines.pixal3d import prepare_picture
    from ..scene.errors import InputError
    from ..scene.lens import fov_from_exif, fov_of_crop, horizontal_fov

    if len(args.images) != 1:
        raise InputError(f"{len(args.images)} pictures were given; give one, or several with --views or --rig.")
    if args.distance is not None and not 0 < args.distance < 1e6:
        raise InputError(f"--distance is {args.distance:g}; it must be above 0.")
    fov = DEFAULT_FOV
    if args.fov is not None and args.fov != "exif":
        try:
            fov = horizontal_fov(float(args.fov))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"--fov is {args.fov!r}; give degrees or `exif`.") from None
    rgba = meshes.read_picture(args.images[0], args.mask)
    picture = prepare_picture(rgba)
    if args.fov == "exif":
        height, width = rgba.shape[:2]
        reduced = min(1, 1024 / max(height, width))  # what `crop_to_object` works on
        fov = fov_of_crop(fov_from_exif(args.images[0]), width, picture.shape[1] / reduced)
        meshes.note(f"the photo's lens gives the crop a field of view of {fov:.2f} degrees.")
    elif args.fov is None:
        meshes.note(f"a field of view of {fov:.2f} degrees was assumed; look at --overlay and give --fov.")
    return [picture], FrontCamera(math.radians(fov), args.distance, args.mesh_scale or 1.0)


def draw(args: argparse.Namespace, pictures, camera, coords=None, resolution: int | None = None) -> None:
    """Write the overlay: the lattice, or the tokens `coords` of a grid of `resolution`."""
    import torch

    from ..models.trellis2.overlay import LATTICE, grid_overlay
    from ..scene.files import Outputs
    from ..scene.images import encode_png

    picture = grid_overlay(pictures[0], camera, coords=coords, resolution=resolution or LATTICE)
    with Outputs(args.overwrite) as outputs:
        target = outputs.file(args.overlay)
        target.write(encode_png(torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255))
