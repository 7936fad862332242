"""Pictures of one object to Gaussian splats, with SparseGen.

The pictures show the whole object on white (transparent pixels become white); a picture that is not square is padded
with white. The first picture is at azimuth 0 unless --azimuth or --views say otherwise; give the elevation it was
taken from. The embedded weights know small toy-like objects seen from a distance of 1.3 with a 52 degree lens.

  python -m sightline sparsegen car.png -o car.ply --turntable car.gif
  python -m sightline sparsegen a.png b.png --azimuth 0,90 --elevation 20,10 -o out.splat
"""

from __future__ import annotations

import argparse
import json
import sys
import time

FRAMES = ("y_down_front", "y_down", "y_up_front", "y_up", "z_up")  # see scene/frames.py, which this does not import yet


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "sparsegen",
        help="1 to 6 pictures of an object -> Gaussian splats (.ply, .splat) and a turntable",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="1 to 6 pictures of the same object")
    add("-o", "--output", required=True, metavar="FILE", help="splat file to write: .ply or .splat")
    add("--turntable", metavar="FILE", help="also render a full turn: .gif, .webp, .mp4, or a folder for PNG files")
    add(
        "--views",
        metavar="JSON",
        help="cameras of the pictures (azimuths, matrices, or transforms.json), see scene/camera_files.py",
    )
    add(
        "--azimuth",
        default=None,
        metavar="DEG,...",
        help="one angle a picture, counter-clockwise from above (default: 0)",
    )
    add("--elevation", default=None, metavar="DEG,...", help="one angle for all or one a picture (default: 20)")
    add(
        "--radius",
        type=float,
        default=1.3,
        metavar="D",
        help="distance of the cameras (default: 1.3, what the weights know)",
    )
    add("--steps", type=int, default=1, help="sampling steps; 1 is a single pass (default: 1)")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add(
        "--noise-scale",
        type=float,
        default=1.0,
        metavar="S",
        help="strength of the noise; 0 makes unseen sides plainer and ignores the seed (default: 1)",
    )
    add(
        "--virtual",
        type=int,
        default=None,
        metavar="N",
        help="further cameras that start as noise (default: what the weights know)",
    )
    add(
        "--weights",
        default="sparsegen-tiny",
        metavar="NAME|PATH",
        help="embedded weights, a model.pth or a .safetensors file",
    )
    add(
        "--background",
        default="white",
        metavar="COLOR",
        help="of the turntable: white, black, gray or #rrggbb (default: white)",
    )
    add("--size", type=int, default=256, metavar="PX", help="side of the turntable's pictures (default: 256)")
    add("--frames", type=int, default=36, metavar="N", help="pictures in the turntable (default: 36)")
    add("--fps", type=float, default=15.0, help="pictures a second in the turntable (default: 15)")
    add(
        "--frame",
        default="y_down_front",
        choices=FRAMES,
        help="axes of the splat file (default: y_down_front, what splat viewers show upright and from the front)",
    )
    add(
        "--held-out",
        metavar="JSON",
        help="further pictures with their cameras, to measure the result with (as --views, each entry with `image`)",
    )
    add("--json", metavar="FILE", help="write a report (- for stdout)")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Generate, render, write; everything is written at the very end, together."""
    from ..scene.animations import animation_output, write_animation
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from ..scene.images import color
    from ..scene.splat_files import SUFFIXES, encode_splats

    if not args.output.lower().endswith(SUFFIXES):
        raise InputError(f"{args.output} does not end in {' or '.join(SUFFIXES)}; splats are written as one of these.")
    background = color(args.background)
    for name, low, high in (("size", 16, 4096), ("frames", 1, 3600), ("steps", 1, 1000), ("virtual", 0, 64)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name} is {value}; it must lie between {low} and {high}.")
    if not 0 < args.fps <= 100:
        raise InputError(f"--fps is {args.fps:g}; it must be above 0 and at most 100.")
    to_stdout = args.json == "-"
    with Outputs(args.overwrite) as outputs:
        splat_file = outputs.file(args.output)
        turntable_file = animation_output(outputs, args.turntable) if args.turntable else None
        report_file = outputs.file(args.json) if args.json and not to_stdout else None
        splats, start, report, notes = generate(args)
        splat_file.write(encode_splats(splats, args.output, args.frame))
        report["files"] = [str(splat_file.path)]
        if turntable_file:
            frames = draw_turntable(args, splats, start, background, report)
            write_animation(turntable_file, frames, args.fps)
            report["files"].append(str(turntable_file.path))
        if report_file:
            report_file.write((json.dumps(report, indent=2) + "\n").encode())
    if to_stdout:
        print(json.dumps(report, indent=2))
    else:
        print_report(args, report)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def generate(args: argparse.Namespace):
    """Read pictures and cameras, load the weights, sample.

    Returns the splats in the world of the given cameras, (azimuth, elevation, radius, fov) of the first camera for the
    turntable, the report so far, and notes for the reader.
    """
    from ..kernels.metrics import utilization
    from ..models.sparsegen import load_sparsegen
    from ..pipelines.sparsegen import MAX_CLEAN_VIEWS, sample_sparsegen, virtual_cameras
    from ..scene.cameras import turntable
    from ..scene.errors import InputError
    from . import quality
    from .progress import Progress

    if len(args.images) > MAX_CLEAN_VIEWS:
        raise InputError(
            f"{len(args.images)} pictures were given; SparseGen takes 1 to {MAX_CLEAN_VIEWS}, leave the others out."
        )
    device = choose_device(args.device)
    pictures, notes = read_pictures(args.images)
    begin = time.perf_counter()
    model, info = load_sparsegen(args.weights, device=device)
    loaded = time.perf_counter()
    views, virtual = place(args, pictures, model.config)
    held_out = quality.read_held_out(args.held_out, model.config) if args.held_out else None
    if virtual is None and args.virtual is not None:
        virtual = virtual_cameras(views.cameras, args.virtual)
    with Progress("sampling", args.progress) as progress:
        splats = sample_sparsegen(
            model, views.images, views.cameras, virtual, steps=args.steps, seed=args.seed, noise_scale=args.noise_scale,
            callback=progress,
        )  # fmt: skip
    sampled = time.perf_counter()
    splats = splats.to("cpu").check_finite()
    azimuth, elevation, radius = spherical(views.cameras)
    ring = turntable(8, elevation, radius, model.config.fov, 64, 64, start=azimuth)
    report = {
        "gaussians": len(splats),
        "pictures": len(pictures),
        "weights": args.weights,
        "parameters": info.parameters,
        "steps": args.steps,
        "seed": args.seed,
        "device": str(device),
        "seconds": {"load": round(loaded - begin, 3), "sample": round(sampled - loaded, 3)},
        "utilization": {k: round(v, 4) for k, v in utilization(splats, ring).items()},
        "quality": quality.measure(splats, views, held_out, model.config.input_size),
    }
    return splats, (azimuth, elevation, radius, model.config.fov), report, notes


def read_pictures(paths: list[str]):
    """The pictures [4, H, W] of the files, and what the reader should know about them."""
    from ..scene.images import read_rgba

    pictures, notes = [read_rgba(path) for path in paths], []
    for path, picture in zip(paths, pictures):
        height, width = picture.shape[-2:]
        if height != width:
            notes.append(f"{path} is {width}x{height}; it was padded with white to a square.")
        rgb, alpha = picture[:3], picture[3]
        edge = (rgb * alpha + 1 - alpha)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        if float(edge.min()) < 0.8:
            notes.append(
                f"{path} has corners that are not white; the weights know objects on white, cut the object out first."
            )
    return pictures, notes


def place(args: argparse.Namespace, pictures, config):
    """The view set of the pictures and, where the file of --views has them, the virtual cameras."""
    from ..scene.camera_files import read_cameras
    from ..scene.errors import InputError
    from ..scene.views import parse_angles, view_set

    batches = [picture[None] for picture in pictures]
    if args.views:
        if args.azimuth is not None or args.elevation is not None:
            raise InputError("--views gives the cameras; leave --azimuth and --elevation out.")
        cameras, virtual = read_cameras(args.views, config.input_size, config.fov)
        if virtual is not None and args.virtual is not None:
            raise InputError(f"{args.views} has virtual cameras already; leave --virtual out.")
        return view_set(batches, [], [], args.radius, config.fov, cameras=cameras), virtual
    if args.azimuth is None and len(pictures) > 1:
        raise InputError(
            f"{len(pictures)} pictures were given without their angles; add --azimuth 0,90,... or --views."
        )
    azimuth = parse_angles(args.azimuth if args.azimuth is not None else "0", "--azimuth")
    elevation = parse_angles(args.elevation if args.elevation is not None else "20", "--elevation")
    return view_set(batches, azimuth, elevation, args.radius, config.fov), None


def spherical(cameras) -> tuple[float, float, float]:
    """Azimuth and elevation in degrees and distance of the first camera, seen from the origin of the world (Z up)."""
    import math

    x, y, z = cameras.centers[0].double().tolist()
    radius = math.sqrt(x * x + y * y + z * z)
    return math.degrees(math.atan2(y, x)), math.degrees(math.asin(z / radius)) if radius else 0.0, radius


def draw_turntable(args: argparse.Namespace, splats, start, background, report: dict):
    """The frames [F, 3, H, W] of a full turn that begins at the first picture's camera."""
    from ..pipelines.sparsegen import render_splats
    from ..scene.cameras import turntable
    from .progress import Progress

    azimuth, elevation, radius, fov = start
    cameras = turntable(args.frames, elevation, radius, fov, args.size, args.size, start=azimuth)
    begin = time.perf_counter()
    device = report["device"]
    with Progress("rendering", args.progress) as progress:
        render = render_splats(splats.to(device), cameras.to(device), background=background, callback=progress)
    report["seconds"]["render"] = round(time.perf_counter() - begin, 3)
    return render.color.permute(0, 3, 1, 2).clamp(0, 1).cpu()


def choose_device(name: str):
    """The torch device called `name`; raises InputError where this machine does not have it."""
    import torch

    from ..scene.errors import InputError

    has_mps = bool(getattr(torch.backends, "mps", None)) and torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind = name.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": has_mps}
    if not there.get(kind):
        found = ", ".join(k for k, v in there.items() if v)
        raise InputError(f"The device {name!r} is not available here; choose one of: {found}.")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"The device {name!r} is not a device name; use cpu, cuda, cuda:1 or mps.") from None


def print_report(args: argparse.Namespace, report: dict) -> None:
    """What was done, in a few lines."""
    use, seconds = report["utilization"], report["seconds"]
    count = report["pictures"]
    print(
        f"{args.output}: {report['gaussians']} Gaussians from {count} picture{'s' if count != 1 else ''} "
        f"in {seconds['sample']:.2f} s ({args.steps} step{'s' if args.steps != 1 else ''}, {report['device']}; "
        f"weights loaded in {seconds['load']:.2f} s)"
    )
    print(
        f"utilization (our definition): {use['opaque']:.0%} above opacity 0.05, "
        f"as concentrated as {use['effective']:.0f} equal ones ({use['effective_fraction']:.0%})"
    )
    for name, values in report["quality"].items():
        figures = ", ".join(f"{metric.upper()} {value:.4g}" for metric, value in values.items())
        print(f"{name.replace('_', ' ')}: {figures}")
    if args.turntable:
        print(f"{args.turntable}: {args.frames} pictures of {args.size}x{args.size} in {seconds['render']:.2f} s")
