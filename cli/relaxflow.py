"""Complete an object of which a picture shows only a part, with RelaxFlow.

Priors are pictures of what the hidden part may look like, their background transparent or masked. Three backbones:

TRELLIS (v1): --weights names the folder of TRELLIS-image-large, with DINOv2 (dinov2_vitl14_reg.safetensors, or its
makers' .pth) in or beside it; `download trellis1` gets both. Written: Gaussians (.ply, .splat), and with --mesh a mesh.
Pixal3D: --weights tiny is the small family in this package, which knows toy furniture. Written: a mesh (.glb, .ply).
SAM 3D Objects: --backbone sam3d, --weights names its folder, the picture is whole; see the command `sam3d` for more.

What the picture shows is left to it: --fov (a camera in front, TRELLIS; Pixal3D always has one), --scene with
--subject (the known layout: boxes before the object hide it), --occluder (where something else is in the picture).

A manifest (.json, .jsonl; fields id, image, mask, prior_images, prior_masks, prior_text, gt_mesh, gt_images or
gt_render_dir) runs many objects into a folder; started again it goes on where it stopped. Beside the results it writes
Chamfer distance, F-score and voxel overlap where there is a true mesh, and what --clip, --lpips, --fid, --point-e ask.

  python -m sightline relaxflow half.png --priors a.png b.png --weights TRELLIS-image-large -o it.ply --mesh it.glb
  python -m sightline relaxflow --manifest samples.jsonl --weights TRELLIS-image-large -o results
  cd workflows/inputs; python -m sightline relaxflow relaxflow_half.png --occluder relaxflow_board.png \\
    --priors relaxflow_legs.png relaxflow_legs_2.png --weights tiny --seed 3 -o legs.glb
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

BRANCHES = ("blend", "obs", "prior")
HELD = {"schedule": "two_stage", "cutoff": 1.0}  # networks of one step have no later ones to fade out in


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "relaxflow",
        help="a partly hidden object and priors -> the whole object (Gaussians, mesh), with RelaxFlow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("image", nargs="?", metavar="IMAGE", help="the picture (not with --manifest)")
    add("--mask", metavar="FILE", help="what of the picture is the object and seen; default its alpha channel")
    add("--priors", nargs="+", default=[], metavar="FILE", help="prior pictures")
    add("--prior-masks", nargs="+", default=[], metavar="FILE", help="one mask for all of them, or one each")
    add("--manifest", metavar="FILE", help="many objects, .json or .jsonl")
    add("--data-root", metavar="DIR", help="folder the manifest's paths begin in (default: its own)")
    add("--weights", required=True, metavar="DIR", help="the folder of TRELLIS-image-large, or `tiny`")
    add("--backbone", choices=("trellis", "pixal3d", "sam3d"), help="default: pixal3d for `tiny`, else trellis")
    add("--point-map", metavar="FILE", help="the point that every pixel shows: .npy, .npz or .exr (sam3d)")
    add("--dinov2", metavar="FILE", help="weights of DINOv2 ViT-L/14 with registers (trellis)")
    add("-o", "--output", required=True, metavar="FILE", help="Gaussians or mesh; with --manifest a folder")
    add("--mesh", metavar="FILE", help="the mesh besides (.glb, .ply; trellis)")
    add("--voxels", metavar="FILE", help="the voxels besides (.npz: coords, visible)")
    add("--preset", help="paper (default), or as released")
    add("--schedule", help="how the priors fade: linear_cutoff, cosine, ... two_stage (default: the preset's; `tiny`: "
                           "two_stage)")  # fmt: skip
    add("--cutoff", type=float, help="part of the steps after which they are silent, or for which two_stage holds them")
    add("--sigma", type=float, help="blur of the prior's attention, in tokens")
    add("--prior-weight", type=float, help="weight of the prior's velocity in all stages; 0 leaves it out")
    add("--stage2-prior-weight", type=float, help="the same for the latents alone")
    add("--branch", choices=BRANCHES, default="blend", help="blend, or one condition alone (trellis; default: blend)")
    add("--hold-seen", action=argparse.BooleanOptionalAction, help="what is seen keeps the states of the picture's own "
        "run, beyond the paper (default: trellis no, pixal3d yes)")  # fmt: skip
    add("--fov", type=float, metavar="DEG", help="field of view of a camera in front (pixal3d: 49.13)")
    add("--occluder", metavar="FILE", help="where something stands before the object: its alpha, or what is light")
    add(
        "--scene", metavar="FILE", help="the known layout (.json, .pkl, .glb, .csv): camera and boxes; instead of --fov"
    )
    add("--subject", default="", help="which box of --scene is the object: name, words or number")
    add("--tolerance", type=float, help="how far behind the surface is still seen, in voxels (1.5; pixal3d 3)")
    add("--dilate", type=float, help="how wide a voxel covers the picture, in voxels (1.5; pixal3d 1)")
    add("--falloff", type=float, default=3.0, help="how fast visibility drops behind the surface (default: 3)")
    add("--seed", type=int, default=42, help="(default: 42)")
    add("--device", default="cpu", help="(default: cpu)")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--views", type=int, default=10, metavar="N", help="views a result is judged by (default: 10)")
    add("--clip", metavar="DIR", help="manifest: CLIP scores with the CLIP in this folder (as transformers saves it)")
    add("--lpips", action="store_true", help="manifest: LPIPS between the picture and the views")
    add("--fid", action="store_true", help="manifest: FID of all views against all true pictures")
    add("--point-e", metavar="DIR", help="manifest: Point-FID with the pointnet.pt in this folder")
    add("--metric-weights", metavar="DIR", help="torch.hub folder with the weights of LPIPS and FID")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One object, or a manifest of them."""
    from ..scene.errors import InputError
    from .relaxflow_backbones import Projected, Trellis
    from .relaxflow_sam3d import Sam3dBackbone

    if (args.image is None) == (args.manifest is None):
        raise InputError("Give one picture, or --manifest with many.")
    if args.manifest:
        alone = [
            name for name in ("mask", "priors", "prior_masks", "occluder", "mesh", "voxels") if getattr(args, name)
        ]
        if alone:
            raise InputError(
                f"--{alone[0].replace('_', '-')} is of one picture; a manifest names its own: leave it out."
            )
    elif args.clip or args.lpips or args.fid or args.point_e:
        raise InputError("--clip, --lpips, --fid and --point-e score the objects of a manifest; give --manifest.")
    backbone = args.backbone or ("pixal3d" if args.weights == "tiny" else "trellis")
    if backbone == "pixal3d" and args.weights != "tiny":
        raise InputError("With --backbone pixal3d --weights is `tiny`; for the published Pixal3D use ComfyUI's nodes.")
    settings = chosen(args)
    if args.point_map and (args.manifest or backbone != "sam3d"):
        raise InputError("--point-map is of one picture and for --backbone sam3d alone; leave it out.")
    make = {"pixal3d": Projected, "sam3d": Sam3dBackbone}.get(backbone, Trellis)(args, settings)
    if args.manifest:
        from .relaxflow_batch import run_manifest

        return run_manifest(args, make)
    given = make.given(args.image, args.mask, args.priors, masks_of(args), args.occluder)
    make.load()
    report = write(args, make, given, args.output, args.mesh, args.voxels)
    seen = f"; the seen part is {report['seen_iou']:.3f} that of the picture alone" if "seen_iou" in report else ""
    print(f"{args.output}: the completed object, {report['voxels']} voxels{seen}")
    return 0


def chosen(args: argparse.Namespace):
    """The preset with what the options change."""
    from dataclasses import replace

    from ..models.relaxflow.settings import preset

    held = HELD if args.weights == "tiny" and args.preset is None else {}
    settings = preset(args.preset or "paper")
    both = {"sigma": args.sigma, "prior_weight": args.prior_weight, "schedule": args.schedule or held.get("schedule")}
    both = {name: value for name, value in both.items() if value is not None}
    cutoff = args.cutoff if args.cutoff is not None else held.get("cutoff")
    if cutoff is not None:
        both["schedule_args"] = {"alpha0": 1.0, "mid_ratio": cutoff, "warmup": 0.0, "hold": cutoff}
    second = dict(both)
    if args.stage2_prior_weight is not None:
        second["prior_weight"] = args.stage2_prior_weight
    structure = settings.structure.changed(**both, masked=settings.structure.masked or args.weights == "tiny")
    return replace(settings, structure=structure, latent=settings.latent.changed(**second))


def masks_of(args: argparse.Namespace) -> list:
    from ..scene.errors import InputError

    masks = args.prior_masks or [None]
    masks = masks * len(args.priors) if len(masks) == 1 else masks
    if len(masks) != len(args.priors):
        raise InputError(f"There are {len(args.priors)} priors and {len(masks)} masks; give one, or one each.")
    return masks


def write(args, make, given, output, mesh=None, voxels=None, overwrite=False, keep=None) -> dict:
    """Sample, decode, write all files together; what there is to say of the result. keep: called with the result."""
    import io

    import numpy as np

    from ..scene.files import Outputs
    from ..scene.mesh_files import encode_mesh
    from ..scene.splat_files import encode_splats
    from .progress import Progress

    begin = time.perf_counter()
    with Outputs(overwrite or args.overwrite) as outputs:
        files = {name: outputs.file(path) for name, path in (("o", output), ("m", mesh), ("v", voxels)) if path}
        make.check_names(output, mesh)
        with Progress("steps") as bar:
            made = make(given, bar, want_mesh=bool(mesh) or keep is not None)
        shape = made.mesh
        if made.splats is not None:
            files["o"].write(encode_splats(made.splats, output))
        for name, path in (("m", mesh), ("o", output if made.splats is None else None)):
            if path:
                files[name].write(encode_mesh(*shape, path))
        if voxels:
            memory = io.BytesIO()
            seen = {} if made.visible is None else {"visible": made.visible.cpu().numpy()}
            np.savez_compressed(memory, coords=made.coords.cpu().numpy(), **seen)
            files["v"].write(memory.getvalue())
        report = {**made.report, "seconds": round(time.perf_counter() - begin, 3)}
        if keep is not None:
            report |= keep(made)
    return report


def finish(path: Path, report: dict) -> None:
    """Write a report as a whole."""
    from ..scene.files import writing

    with writing(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
