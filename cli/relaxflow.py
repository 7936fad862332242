"""Complete an object of which a picture shows only a part, with TRELLIS (v1) and RelaxFlow.

Priors are pictures of what the hidden part may look like, their background transparent or masked. Written: Gaussians
(.ply, .splat), a mesh with colors (.glb), the voxels with what is seen of them (.npz). The weights are not part of this
package: --weights names the folder of TRELLIS-image-large, with dinov2_vitl14_reg.safetensors in or beside it.

A manifest (.json, .jsonl; fields id, image, mask, prior_images, prior_masks, gt_mesh) runs many objects into a folder;
started again it goes on where it stopped. With a true mesh, Chamfer distance and F-score are written beside them.

  python -m sightline relaxflow half.png --priors a.png b.png --weights TRELLIS-image-large -o it.ply --mesh it.glb
  python -m sightline relaxflow --manifest samples.jsonl --weights TRELLIS-image-large -o results
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

BRANCHES = ("blend", "obs", "prior")


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "relaxflow",
        help="a partly hidden object and priors -> the whole object (Gaussians, mesh), with TRELLIS and RelaxFlow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="the picture (not with --manifest)")
    add("--mask", metavar="FILE", help="what of the picture is the object; default its alpha channel")
    add("--priors", nargs="+", default=[], metavar="FILE", help="prior pictures")
    add("--prior-masks", nargs="+", default=[], metavar="FILE", help="one mask for all of them, or one each")
    add("--manifest", metavar="FILE", help="many objects, .json or .jsonl")
    add("--data-root", metavar="DIR", help="folder the manifest's paths begin in (default: its own)")
    add("--weights", required=True, metavar="DIR", help="the folder of TRELLIS-image-large")
    add("--dinov2", metavar="FILE", help="weights of DINOv2 ViT-L/14 with registers")
    add("-o", "--output", required=True, metavar="FILE", help=".ply or .splat; with --manifest a folder")
    add("--mesh", metavar="FILE", help="the mesh besides (.glb, .ply)")
    add("--voxels", metavar="FILE", help="the voxels besides (.npz: coords, visible)")
    add("--preset", default="paper", help="paper (default) or as released")
    add("--sigma", type=float, help="blur of the prior's attention, in tokens")
    add("--prior-weight", type=float, help="weight of the prior's velocity in both stages; 0 leaves it out")
    add("--stage2-prior-weight", type=float, help="the same for the latents alone")
    add("--branch", choices=BRANCHES, default="blend", help="blend, or one condition alone (default: blend)")
    add("--fov", type=float, metavar="DEG", help="field of view of a camera in front: the seen voxels keep the picture")
    add("--seed", type=int, default=42, help="(default: 42)")
    add("--device", default="cpu", help="(default: cpu)")
    add("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One object, or a manifest of them."""
    from ..models.trellis1.family import load_trellis1
    from ..scene.errors import InputError

    if (args.image is None) == (args.manifest is None):
        raise InputError("Give one picture, or --manifest with many.")
    settings = chosen(args)
    samples = [] if args.manifest is None else todo(args)
    if args.manifest and not samples:
        print("Every sample of the manifest is done.")
        return 0
    one = None if args.manifest else pictures(args.image, args.mask, args.priors, masks_of(args))
    family = load_trellis1(
        args.weights, formats=("gaussian", "mesh"), dinov2=args.dinov2, device=args.device,
        dtype="float32" if args.device == "cpu" else None,
    )  # fmt: skip
    if one:
        write(args, family, settings, one, args.output, args.mesh, args.voxels)
        print(f"{args.output}: the completed object")
        return 0
    for number, sample in enumerate(samples, 1):
        folder = Path(args.output) / sample.name
        begin = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        given = pictures(sample.image, sample.mask, sample.priors, sample.prior_masks)
        names = (folder / "splats.ply", folder / "mesh.glb", folder / "voxels.npz")
        found = write(args, family, settings, given, *names, overwrite=True)
        report = {"seconds": round(time.perf_counter() - begin, 3), **found, **measure(found, names[1], sample)}
        finish(folder / "result.json", report)
        print(f"{number}/{len(samples)} {sample.name}: {json.dumps(report)}")
    return 0


def chosen(args: argparse.Namespace):
    """The preset with what the options change."""
    from dataclasses import replace

    from ..models.relaxflow.settings import preset

    settings = preset(args.preset)
    both = {"sigma": args.sigma, "prior_weight": args.prior_weight}
    both = {name: value for name, value in both.items() if value is not None}
    second = dict(both)
    if args.stage2_prior_weight is not None:
        second["prior_weight"] = args.stage2_prior_weight
    return replace(settings, structure=settings.structure.changed(**both), latent=settings.latent.changed(**second))


def masks_of(args: argparse.Namespace) -> list:
    from ..scene.errors import InputError

    masks = args.prior_masks or [None]
    masks = masks * len(args.priors) if len(masks) == 1 else masks
    if len(masks) != len(args.priors):
        raise InputError(f"There are {len(args.priors)} priors and {len(masks)} masks; give one, or one each.")
    return masks


def pictures(image, mask, priors, prior_masks) -> tuple:
    """The prepared picture and the prepared priors."""
    from ..pipelines.relaxflow import prepare_picture
    from ..scene.errors import InputError
    from .meshes import read_picture

    prepared = []
    for index, (path, cut) in enumerate([(image, mask), *zip(priors, prior_masks)]):
        try:
            prepared.append(prepare_picture(read_picture(str(path), None if cut is None else str(cut))))
        except InputError as error:
            which = f"Prior {index}" if index else "The picture"
            raise InputError(f"{which} ({path}): {error}") from error
    return prepared[0], prepared[1:]


def todo(args: argparse.Namespace) -> list:
    """The samples of the manifest that have no result yet."""
    from ..models.relaxflow.manifest import read_manifest

    samples = read_manifest(args.manifest, args.data_root)
    if args.overwrite:
        return samples
    return [sample for sample in samples if not (Path(args.output) / sample.name / "result.json").is_file()]


def write(args, family, settings, given, splats, mesh=None, voxels=None, overwrite=False) -> dict:
    """Sample, decode, write all files together; how many voxels, Gaussians and evaluations there were."""
    import io

    import numpy as np

    from ..pipelines.relaxflow import complete, decode
    from ..scene.files import Outputs
    from ..scene.frames import turn_points
    from ..scene.mesh_files import encode_mesh
    from ..scene.splat_files import encode_splats
    from .progress import Progress

    with Outputs(overwrite or args.overwrite) as outputs:
        files = {name: outputs.file(path) for name, path in (("s", splats), ("m", mesh), ("v", voxels)) if path}
        with Progress("steps") as bar:
            total = family.structure_sampler.steps + family.latent_sampler.steps
            begun = {"structure": 0, "latent": family.structure_sampler.steps}
            done = complete(
                family, *given, settings=settings, seed=args.seed, branch=args.branch,
                camera=None if args.fov is None else front(args.fov),
                progress=lambda stage, step, steps: bar(begun[stage] + step, total),
            )  # fmt: skip
        found = decode(family, done, ("gaussian", "mesh") if mesh else ("gaussian",))
        files["s"].write(encode_splats(found["gaussian"], splats))
        if mesh:
            shape = found["mesh"]
            files["m"].write(encode_mesh(turn_points(shape.vertices, "z_up", "y_up"), shape.faces, shape.colors, mesh))
        if voxels:
            memory = io.BytesIO()
            seen = {} if done.visible is None else {"visible": done.visible.cpu().numpy()}
            np.savez_compressed(memory, coords=done.latent.coords[:, 1:].cpu().numpy(), **seen)
            files["v"].write(memory.getvalue())
    return {"voxels": len(done.latent), "gaussians": len(found["gaussian"]), "evaluations": done.evaluations.total()}


def front(fov: float):
    """The camera in front of the cube at the distance at which the cube's middle fills the picture."""
    import math

    from ..scene.cameras import look_at
    from ..scene.lens import horizontal_fov

    angle = horizontal_fov(fov)
    distance = 0.5 / math.tan(math.radians(angle) / 2)
    return look_at((0.0, -distance, 0.0), (0.0, 0.0, 0.0), angle, 518, 518)


def measure(found: dict, mesh: Path, sample) -> dict:
    """Chamfer distance and F-score against the sample's true mesh, both in a unit cube; empty without one."""
    if sample.gt_mesh is None:
        return {}
    import torch

    from ..kernels.point_metrics import compare_points, points_on_mesh, unit_cube
    from ..scene.mesh_read import read_mesh

    generator = torch.Generator().manual_seed(0)
    sets = [read_mesh(path) for path in (mesh, sample.gt_mesh)]
    points = [unit_cube(points_on_mesh(one.vertices, one.faces, 4096, generator)) for one in sets]
    return compare_points(*points)


def finish(path: Path, report: dict) -> None:
    """Mark a sample as done."""
    from ..scene.files import writing

    with writing(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
