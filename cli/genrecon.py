"""Posed photos of a room to one PBR scene, with GenRecon.

PATH is the folder of a capture: a COLMAP model with its pictures, ScanNet++ (DSLR or iPhone), or a transforms.json; or
plain photos, which pycolmap poses where it is installed (in --output_path, `colmap`).
A COLMAP model of any orientation and scale is turned upright by its points (--align). Results go to --output_path:
mesh.ply, scene_voxels.safetensors, scene.glb, the plan of the chunks, and `stages`, from which an interrupted run goes
on when the same command is given again. Option names are those of the released reconstruct_scene.py.

  python -m sightline genrecon --path my_room --output_path out --plan_only
  python -m sightline genrecon --path my_room --output_path out --weights tiny      (drawn rooms only)
  python -m sightline genrecon --path my_room --output_path out --weights models/genrecon
  torchrun --nproc_per_node 4 -m sightline genrecon --path my_room --output_path out --weights models/genrecon
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from . import genrecon_tools

MODES = {  # released name -> layout of the folder
    "auto": "auto",
    "Scannet_colmap": "scannet_dslr",
    "Scannet_iphone": "scannet_iphone",
    "Scannet_gt": "scannet_dslr",
    "Iphone": "colmap",
    "Sage_gt": "transforms",
}
SAGE_HEIGHT, SAGE_EXTRA = 2.7, 0.15
WORKERS = max(1, (os.cpu_count() or 1) // 2)
TEXTURE_GUIDANCE = {"original": 1.0, "texture": 5.0}  # the two published pipeline configurations


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "genrecon",
        help="posed photos of a room -> one PBR scene (.glb, .ply, voxels), with GenRecon",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, flag = parser.add_argument, argparse.BooleanOptionalAction
    add("--mode", choices=tuple(MODES), default="auto", help="layout of the capture (default: what is found)")
    add("--path", required=True, metavar="DIR", help="folder of the capture, or a transforms.json")
    add("--output_path", required=True, metavar="DIR", help="folder for the results; made if it is not there")
    add("--ss_ckpt", metavar="FILE", help="structure flow: published .pt, or an adapter")
    add("--shape_ckpt", metavar="FILE", help="shape flow")
    add("--tex_ckpt", metavar="FILE", help="texture flow")
    add("--pipeline", default="512", choices=("512",), help="resolution of a chunk")
    add("--pipeline_config", default="original", help="original or texture: guidance of the texture stage, 1 or 5")
    add("--num_imgs_per_scene", type=int, default=32, metavar="N", help="photos used (default: 32)")
    add("--seed", type=int, default=42)
    add("--save_imgs", action="store_true", help="also write the views, 1024 pixels")
    add("--boundary_sensitive_slat", action=flag, default=True, help="outer voxels of a chunk do not vote")
    add("--boundary_width_slat", type=int, default=1, metavar="N", help="how many layers of them (default: 1)")
    add("--min_overlap_factor", type=float, default=4, metavar="X", help="least overlap, in sixteenths of a chunk")
    add("--occ_threshold", type=float, default=-1.0, metavar="X", help="logit above which a voxel is there")
    add("--chunk_size_factor", type=float, metavar="X", help="chunk size in room heights (default: 1.11)")
    add("--colmap_subdir", default=None, metavar="DIR", help="folder of the COLMAP model in PATH (default: found)")
    add("--min_points_per_chunk", type=int, default=500, metavar="N", help="chunks with fewer points are dropped")
    add("--skip_point_cleaning", action="store_true", help="keep outliers among the points")
    add("--stat_std_ratio", type=float, default=2.0, metavar="X", help="outlier filter, in standard deviations")
    add("--radius_nb_points", type=int, default=10, metavar="N", help="outlier filter: points within --radius_m")
    add("--radius_m", type=float, default=0.1, metavar="X", help="outlier filter: radius in world units")
    add("--center_crop", action="store_true", help="one square per photo instead of two at its ends")
    add("--proj_batch_voxels", type=int, default=8192, metavar="N", help="voxels projected at a time")
    own = parser.add_argument_group("beyond the released options")
    add = own.add_argument
    add("--weights", metavar="DIR", help="folder with the three flows, adapters, or a genrecon.json; or tiny: embedded")
    add("--search", action="append", default=[], metavar="DIR", help="further folder with weights (TRELLIS.2, DINOv3)")
    add("--dinov3", metavar="PATH", help="DINOv3: folder or .safetensors")
    add("--pictures", metavar="DIR", help="folder of the pictures in PATH (default: found)")
    add("--exclude_images", nargs="*", default=[], metavar="NAME", help="pictures to leave out")
    add(
        "--align",
        choices=("auto", "on", "off"),
        default="auto",
        help="turn the model upright by its points; auto: where --mode is auto and it is a COLMAP model",
    )
    add("--scale", type=float, metavar="X", help="meters per unit of the model (default: from the cameras' height)")
    add("--camera_height", type=float, default=1.5, metavar="M", help="of the photographer, for the scale")
    add("--bounds", metavar="X0,X1,Y0,Y1[,Z0,Z1]", help="bounds of the room, after alignment")
    add("--max_chunk_size", type=float, metavar="X", help="tall rooms get several layers of chunks no larger than this")
    add("--object", metavar="X,Y,Z,SIZE", help="one single chunk around an object, after alignment")
    add("--plan_only", action="store_true", help="write the plan of the chunks and stop; needs no weights")
    add("--estimate", action="store_true", help="with weights: say how long it will take, and stop")
    add("--batch", type=int, default=1, metavar="N", help="chunks evaluated at a time (more memory)")
    add("--projection_dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: as released")
    add("--zero_3d_cond", action="store_true", help="drop the per-voxel condition")
    add("--steps", type=int, metavar="N", help="sampling steps of every stage (default: 12)")
    add("--max_chunks_per_group", type=int, metavar="N", help="decode in groups of so many chunks; same result")
    add("--texture_size", type=int, default=1024, metavar="N", help="texels per chunk in scene.glb; 0: vertex colors")
    add("--hole_perim", type=float, default=1.0, metavar="X", help="close holes up to this perimeter, world units")
    add("--simplify_threshold", type=int, default=0, metavar="N", help="faces per chunk, borders kept (default: all)")
    add("--workers", type=int, default=WORKERS, metavar="N", help=f"chunks baked at a time (default: {WORKERS})")
    add("--restart", action="store_true", help="forget the stages of an interrupted run")
    add("--overwrite", action="store_true", help="replace existing results")
    add("--low-vram", action="store_true", help="each network visits the device only for its stage")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the networks' torso (default: as stored)")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)
    genrecon_tools.add_parser(subparsers)


def run(args: argparse.Namespace) -> int:
    """Plan, sample, decode, bake, write."""
    from ..models.genrecon.processes import join_processes, leave_processes
    from ..scene.errors import InputError
    from .sparsegen import choose_device

    if not 0 <= args.seed < 2**62:
        raise InputError(f"--seed is {args.seed}; it must lie between 0 and 2**62.")
    target = Path(args.output_path)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give a folder for the results.")
    results = ("mesh.ply", "scene.glb", "scene_voxels.safetensors", "scene_voxels.json")
    for name in () if args.plan_only or args.estimate or args.overwrite else results:
        if (target / name).exists():
            raise InputError(f"{target / name} exists; choose another --output_path or add --overwrite.")
    check_baking(args)
    plan = make_plan(args)
    device = choose_device(args.device)
    processes = join_processes(device)
    try:
        if processes.first:
            target.mkdir(parents=True, exist_ok=True)
            write_plan(args, plan, target)
        if args.plan_only:
            return 0
        return reconstruct(args, plan, target, device, processes)
    finally:
        leave_processes()


def check_baking(args: argparse.Namespace) -> None:
    """Raises InputError for numbers that no scene can be baked with, before anything long begins."""
    from ..scene.errors import InputError

    if args.texture_size and not 64 <= args.texture_size <= 16384:
        raise InputError(f"--texture_size is {args.texture_size}; give 0 (colors at the vertices) or 64 to 16384.")
    if args.simplify_threshold < 0 or 0 < args.simplify_threshold < 4:
        raise InputError(f"--simplify_threshold is {args.simplify_threshold}; give 0 (all faces) or at least 4.")
    if args.workers < 1:
        raise InputError(f"--workers is {args.workers}; at least 1 is needed.")


def read_scene(args: argparse.Namespace):
    """The photos and points of --path, aligned as --align says."""
    from ..scene.alignment import align_scene
    from ..scene.captures import NoPoses, find_layout, read_capture

    layout, model = MODES[args.mode], args.colmap_subdir
    pictures = args.pictures or ("rgb" if args.mode == "Iphone" else None)
    try:
        found = find_layout(args.path) if layout == "auto" else layout
    except NoPoses:
        found, (model, pictures) = "colmap", posed(args)
    scene = read_capture(args.path, found, model=model, pictures=pictures, exclude=args.exclude_images)
    if model is not None and model != args.colmap_subdir:  # COLMAP lists photos as it found their poses
        scene = replace(scene, photos=tuple(sorted(scene.photos, key=lambda photo: photo.name)))
    if args.align == "on" or (args.align == "auto" and args.mode == "auto" and found == "colmap"):
        scene = align_scene(scene, scale=args.scale, camera_height=args.camera_height)
        note(f"aligned: {scene.note}.")
    return scene, found


def posed(args: argparse.Namespace) -> tuple[str, str]:
    """Photos without poses, posed by COLMAP in --output_path: the folder of the model, and that of the photos."""
    from ..scene.captures import find_layout
    from ..scene.pose_photos import plain_photos, pose_photos

    found = plain_photos(args.path)
    if found is None or args.colmap_subdir:
        find_layout(args.path)  # says what is missing
    photos, names = found
    target = Path(args.output_path) / "colmap"
    bars = Bars(args.progress)
    try:
        names = [name for name in names if name not in set(args.exclude_images)]
        note(f"{pose_photos(photos, names, target, lambda done, total: bars('poses', done, total))}.")
    finally:
        bars.close()
    return str(target.resolve()), str(photos.resolve())


def make_plan(args: argparse.Namespace):
    """Chunks and views, as the options say."""
    from ..pipelines.genrecon import PlanOptions, plan_scene
    from ..scene.captures import FILTERS, PointFilter
    from ..scene.chunk_layout import parse_numbers, single_chunk
    from ..scene.errors import InputError

    if args.mode == "Sage_gt" and args.chunk_size_factor is not None:
        raise InputError("--chunk_size_factor has no meaning with --mode Sage_gt, whose chunks are 2.85 m.")
    scene, found = read_scene(args)
    base = FILTERS[found]
    points = PointFilter(
        base.max_error, base.min_track, not args.skip_point_cleaning, args.stat_std_ratio, args.radius_nb_points,
        args.radius_m,
    )  # fmt: skip
    bounds, factor, extra, least = parse_numbers(args.bounds, "--bounds", (4, 6)), args.chunk_size_factor, 0.0, None
    bounds = None if bounds is None else tuple(zip(bounds[::2], bounds[1::2]))
    factor = 1.11 if factor is None else factor
    if args.mode == "Scannet_gt":
        bounds, least = mesh_bounds(Path(args.path) / "scans" / "mesh_aligned_0.05.ply"), 0
    if args.mode == "Sage_gt":
        bounds, factor, extra, least = sage_bounds(Path(args.path)), 1.0, SAGE_EXTRA, 0
    two = args.mode in ("Scannet_iphone", "Iphone") and not args.center_crop
    options = PlanOptions(
        args.num_imgs_per_scene, factor, args.min_overlap_factor,
        args.min_points_per_chunk if least is None else least, "two" if two else "center", args.seed, extra,
        args.max_chunk_size, bounds, points,
    )  # fmt: skip
    one = parse_numbers(args.object, "--object", (4,))
    plan = plan_scene(scene, options, None if one is None else single_chunk(one[:3], one[3]))
    for text in plan.notes:
        note(f"{text}.")
    return plan


def mesh_bounds(path: Path):
    """Bounds of a ScanNet++ mesh."""
    from ..scene.ply_points import read_ply_points

    points, _ = read_ply_points(path)
    return tuple(zip(points.min(0).tolist(), points.max(0).tolist()))


def sage_bounds(path: Path):
    """Bounds of a SAGE room: width and length of its layout file, height 2.7 m."""
    from ..scene.camera_files import read_json, read_number
    from ..scene.errors import InputError

    name = path.resolve().name
    file = path.resolve().parent.parent / "rooms_raw" / name / f"layout_{name}.json"
    document = read_json(file)
    rooms = document.get("rooms") if isinstance(document, dict) else None
    sizes = (rooms[0].get("dimensions") or rooms[0]) if isinstance(rooms, list) and rooms else document
    try:
        width, length = (read_number(sizes[key], key) for key in ("width", "length"))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{file} has no width and length of the room.") from None
    return (0.0, width), (0.0, length), (0.0, SAGE_HEIGHT)


def write_plan(args: argparse.Namespace, plan, target: Path) -> None:
    """args.json, clean_points.ply, chunk_layout.png, chunk_transforms.json, cameras.json and, if wanted, the views."""
    import torch

    from ..scene.files import Outputs
    from ..scene.images import encode_png
    from ..scene.plan_picture import plan_picture
    from ..scene.point_filters import encode_points
    from ..scene.view_choice import cameras_json, view_pictures

    plain = {key: value for key, value in vars(args).items() if key not in ("run", "command")}
    picture = torch.from_numpy(plan_picture(plan.points, plan.layout, plan.scene).copy()).permute(2, 0, 1) / 255
    with Outputs(True) as outputs:
        outputs.file(target / "args.json").write(json.dumps(plain, indent=1, default=str).encode())
        outputs.file(target / "clean_points.ply").write(encode_points(plan.points))
        outputs.file(target / "chunk_layout.png").write(encode_png(picture))
        outputs.file(target / "chunk_transforms.json").write(plan.layout.to_json().encode())
        outputs.file(target / "cameras.json").write(cameras_json(plan.scene, plan.views, plan.layout).encode())
    if args.save_imgs:
        (target / "scene").mkdir(exist_ok=True)
        kept = {}
        for i, view in enumerate(view_pictures(plan.scene, plan.views, 1024)):
            kept[i] = encode_png(view)
            with Outputs(True) as outputs:
                outputs.file(target / "scene" / f"view_{i:03d}.png").write(kept[i])
        for k, i in enumerate(plan.views.chunk_views):
            (target / f"chunk_{k:03d}").mkdir(exist_ok=True)
            with Outputs(True) as outputs:
                outputs.file(target / f"chunk_{k:03d}" / "cond2d.png").write(kept[i])
    size, count = plan.layout.size, len(plan.layout)
    what = f"{count} chunks of {size:.3g}, {len(plan.views)} views, {len(plan.points)} points"
    print(f"{target / 'chunk_layout.png'}: {what}")


def load(args: argparse.Namespace, device):
    """The family of the options."""
    from ..models.download import default_folder
    from ..models.genrecon.family import embedded_scene_family, load_scene_family
    from ..scene.errors import InputError

    given = {"structure": args.ss_ckpt, "shape": args.shape_ckpt, "texture": args.tex_ckpt}
    files = {stage: file for stage, file in given.items() if file}
    if files and len(files) < 3:
        missing = ", ".join(f"--{s}_ckpt" for s, k in zip(("ss", "shape", "tex"), given) if k not in files)
        raise InputError(f"{missing} is missing; give all three flows, or --weights.")
    if args.weights == "tiny" and not files:
        return embedded_scene_family(device=device, low_vram=args.low_vram)
    root = default_folder()
    place = Path(args.weights) if args.weights else root / "genrecon"
    return load_scene_family(
        place, search=[*args.search, root], dinov3=args.dinov3, device=device, dtype=args.dtype,
        low_vram=args.low_vram, files=files or None,
    )  # fmt: skip


def samplers(args: argparse.Namespace) -> dict[str, dict]:
    """Changes per sampler role."""
    from ..models.trellis2.cascade import SAMPLERS
    from ..scene.errors import InputError

    changes: dict[str, dict] = {role: {} for role in SAMPLERS}
    name = Path(args.pipeline_config).stem
    if name not in TEXTURE_GUIDANCE:
        raise InputError(f"--pipeline_config is {args.pipeline_config!r}; original or texture would work.")
    if name == "texture":
        changes["tex_slat_sampler"]["guidance_strength"] = TEXTURE_GUIDANCE[name]
    if args.steps is not None:
        for change in changes.values():
            change["steps"] = args.steps
    return changes


def reconstruct(args: argparse.Namespace, plan, target: Path, device, processes) -> int:
    """Sample, decode and write the scene."""
    import torch

    from ..models.genrecon.scene_files import encode_scene_ply, save_scene_voxels, world_scene
    from ..models.genrecon.scene_frame import voxels_to_world
    from ..pipelines.genrecon import SampleOptions, decode_latents, estimate_scene, sample_scene
    from ..pipelines.genrecon_bake import bake_scene, finish_scene, plain_glb
    from ..scene.files import Outputs
    from ..scene.point_filters import encode_points

    family = load(args, device)
    options = SampleOptions(
        args.seed, samplers(args), args.occ_threshold, args.boundary_width_slat if args.boundary_sensitive_slat else 0,
        args.batch, args.proj_batch_voxels, args.projection_dtype, args.zero_3d_cond,
    )  # fmt: skip
    if args.estimate or sys.stderr.isatty():
        text = str(estimate_scene(family, plan, options))
        print(text) if args.estimate else note(f"sampling will take {text}.")
        if args.estimate:
            return 0
    begin = time.perf_counter()
    bars = Bars(args.progress if processes.first else False)
    try:
        latents = sample_scene(
            family, plan, options, folder=str(target / "stages"), restart=args.restart, processes=processes,
            progress=bars,
        )  # fmt: skip
        sampled = time.perf_counter()
        if not processes.first:
            return 0
        mesh = decode_latents(
            family, latents, max_chunks_per_group=args.max_chunks_per_group, memory="auto", progress=bars
        )
        centers = torch.from_numpy(latents.layout.centers)
        scene = world_scene(mesh, latents.joint_to_world, centers, latents.layout.names)
        finished = finish_scene(scene, hole_perimeter=args.hole_perim)
        given = dict(target=args.simplify_threshold, workers=args.workers, progress=bars)
        size = args.texture_size
        glb = bake_scene(finished, size, **given) if size else plain_glb(finished, **given)
    finally:
        bars.close()
    with Outputs(args.overwrite) as outputs:
        outputs.file(target / "mesh.ply").write(encode_scene_ply(scene))
        outputs.file(target / "scene.glb").write(glb)
        save_scene_voxels(scene, target / "scene_voxels.safetensors", outputs)
    with Outputs(True) as outputs:
        for i, (coords, matrix) in enumerate(zip(latents.coords, latents.layout.chunk_to_world)):
            points = voxels_to_world(coords, latents.resolution, torch.from_numpy(matrix))
            outputs.file(target / f"coords_{i:03d}.ply").write(encode_points(points.numpy()))
    print(
        f"{target / 'scene.glb'}: {len(scene.faces)} faces, {len(scene.coords)} voxels, {len(latents.coords)} chunks, "
        f"{sampled - begin:.1f} s to sample and {time.perf_counter() - sampled:.1f} s to decode and bake ({device})"
    )
    return 0


class Bars:
    """The pipeline's progress as one bar per stage."""

    def __init__(self, shown: bool | None) -> None:
        self.shown, self.stage, self.bar = shown, None, None

    def __call__(self, stage: str, done: int, total: int) -> None:
        from .progress import Progress

        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, Progress(stage, self.shown)
        self.bar(done, total)

    def close(self) -> None:
        """End the last bar."""
        if self.bar is not None:
            self.bar.close()
        self.bar = self.stage = None


def note(text: str) -> None:
    """A remark for the reader, on stderr."""
    print(f"note: {text}", file=sys.stderr)
