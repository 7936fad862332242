"""Many objects of a manifest: results in a folder each, with scores; goes on where it stopped."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

SUMMARY = "summary.json"
VIEW_SIZE, ELEVATION, DISTANCE, VIEW_FOV = 224, 20.0, 2.0, 40.0
GRID = 32  # voxels per axis in which shapes are overlaid
LPIPS_SIZE = 224


def run_manifest(args: argparse.Namespace, make) -> int:
    """Every sample that has no result yet, then the scores over all of them."""
    from ..models.relaxflow.manifest import read_manifest
    from .relaxflow import finish, write

    samples = read_manifest(args.manifest, args.data_root)
    todo = [sample for sample in samples if args.overwrite or not result_of(args, sample).is_file()]
    judge = Judge(args)
    if todo:
        make.load()
    for number, sample in enumerate(todo, 1):
        folder = Path(args.output) / sample.name
        args.point_map = sample.point_map
        given = make.given(sample.image, sample.mask, sample.priors, sample.prior_masks)
        folder.mkdir(parents=True, exist_ok=True)
        mesh = folder / "mesh.glb"
        names = (folder / "splats.ply", mesh, folder / "voxels.npz") if make.frame == "z_up" else (mesh, None, None)
        keep = partial(judge, folder, sample, given)
        report = write(args, make, given, *names, overwrite=True, keep=keep)
        finish(result_of(args, sample), report)
        print(f"{number}/{len(todo)} {sample.name}: {json.dumps(report)}")
    if not todo:
        print("Every sample of the manifest is done.")
    summary = judge.summary([(result_of(args, sample), sample) for sample in samples])
    finish(Path(args.output) / SUMMARY, summary)
    print(f"{len(samples)} samples: {json.dumps(summary)}")
    return 0


def result_of(args: argparse.Namespace, sample) -> Path:
    return Path(args.output) / sample.name / "result.json"


class Judge:
    """The scores that were asked for; says at once where a network for them is missing."""

    def __init__(self, args: argparse.Namespace):
        from ..kernels.metrics import fid_missing, lpips_missing
        from ..scene.errors import InputError, MissingDependency

        self.args, self.clip, self.points = args, None, None
        if args.views < 1:
            raise InputError(f"--views is {args.views}; at least 1 is needed.")
        if args.metric_weights:
            import torch

            torch.hub.set_dir(args.metric_weights)
        for wanted, missing in ((args.lpips, lpips_missing), (args.fid, fid_missing)):
            if wanted and (said := missing()):
                raise MissingDependency(said)
        if args.clip:
            from ..models.relaxflow.scoring import Clip

            self.clip = Clip(args.clip, args.device)
        if args.point_e:
            from ..models.relaxflow.scoring import PointNet

            self.points = PointNet(args.point_e, args.device)
        self.looks = bool(args.clip or args.lpips or args.fid)

    def __call__(self, folder: Path, sample, given, made) -> dict:
        """The scores of one result. Views and points that the summary needs are kept in its folder."""
        report = shapes_agree(made.mesh, sample) if sample.gt_mesh else {}
        if self.looks:
            views = draw_views(made, self.args.views)
            save_views(folder / "views.png", views)
            report |= self.of_views(views, sample, given)
        if self.points is not None and sample.gt_mesh:
            save_points(folder / "points.npz", made.mesh, sample)
        return report

    def of_views(self, views, sample, given) -> dict:
        """CLIP and LPIPS of views [N, 3, S, S] on black."""
        import torch

        from ..kernels.feature_metrics import observation_scores, text_score, truth_score

        observed, report = torch.from_numpy(given.picture).permute(2, 0, 1)[None].float() / 255, {}
        if self.clip is not None:
            features, own = self.clip.pictures(views), self.clip.pictures(observed)[0]
            seen = observation_scores(features, own)
            report |= {"clip_observation_max": seen["max"], "clip_observation_mean": seen["mean"]}
            truth = [own[None]]
            if sample.gt_images:
                truth.append(self.clip.pictures(true_views(sample, self.args.views)))
            report["clip_image"] = truth_score(features, torch.cat(truth))
            if sample.prior_text:
                report["clip_text"] = text_score(features, self.clip.words(sample.prior_text))
        if self.args.lpips:
            from ..kernels.metrics import lpips

            small = resized(observed, LPIPS_SIZE).expand(len(views), -1, -1, -1)
            report["lpips"] = float(lpips(resized(views, LPIPS_SIZE), small).min())
        return {name: round(value, 6) for name, value in report.items()}

    def summary(self, results: list) -> dict:
        """Means over all samples, and the distances of whole sets."""
        import torch

        reports = [json.loads(path.read_text(encoding="utf-8")) for path, _ in results]
        names = sorted({name for report in reports for name in report})
        found = {}
        for name in names:
            values = [report[name] for report in reports if isinstance(report.get(name), (int, float))]
            found[name] = round(sum(values) / len(values), 6)
        summary = {"samples": len(results), "mean": found}
        if self.args.fid:
            from ..kernels.metrics import fid

            ours = [load_views(path.parent / "views.png") for path, _ in results]
            true = [true_views(sample, self.args.views) for _, sample in results if sample.gt_images]
            if len(true):
                summary["fid"] = fid(torch.cat(ours), torch.cat(true))
        if self.points is not None:
            summary |= self.point_fid([path.parent / "points.npz" for path, _ in results])
        return summary

    def point_fid(self, files: list[Path]) -> dict:
        """Point-FID over the samples with a true mesh."""
        import numpy as np
        import torch

        from ..kernels.metrics import frechet_distance

        pairs = [np.load(file) for file in files if file.is_file()]
        if len(pairs) < 2:
            return {}
        sets = [torch.from_numpy(np.stack([pair[name] for pair in pairs])) for name in ("ours", "true")]
        return {"point_fid": frechet_distance(self.points(sets[0]), self.points(sets[1]))}


def shapes_agree(mesh: tuple, sample) -> dict:
    """Chamfer distance, F-score and overlap of surface voxels against the sample's true mesh, both in a unit cube."""
    from ..kernels.point_metrics import compare_points, unit_cube, voxel_iou

    ours, true = (unit_cube(points) for points in surface_points(mesh, sample, 4096))
    cells = [((points + 0.5) * GRID).floor().clamp(0, GRID - 1).long().unique(dim=0) for points in (ours, true)]
    found = {**compare_points(ours, true), "voxel_iou": voxel_iou(*cells)}
    return {name: round(value, 6) for name, value in found.items()}


def surface_points(mesh: tuple, sample, count: int) -> list:
    """`count` points [count, 3] on our mesh and on the true one, always the same ones."""
    import torch

    from ..kernels.point_metrics import points_on_mesh
    from ..scene.mesh_read import read_mesh

    true = read_mesh(sample.gt_mesh)
    generator = torch.Generator().manual_seed(0)
    pairs = ((mesh[0].float().cpu(), mesh[1].cpu().long()), (true.vertices, true.faces))
    return [points_on_mesh(vertices, faces, count, generator) for vertices, faces in pairs]


def draw_views(made, count: int):
    """A turn around the result: [N, 3, S, S] in [0, 1] on black."""
    from ..kernels.mesh_render import render_mesh
    from ..scene.cameras import turntable
    from ..scene.frames import turn_points

    vertices, faces, colors = made.mesh
    cameras = turntable(count, ELEVATION, DISTANCE, VIEW_FOV, VIEW_SIZE, VIEW_SIZE)
    points = turn_points(vertices.float().cpu(), "y_up_front", "z_up")
    drawn = render_mesh(points, faces.cpu(), cameras, vertex_colors=colors.float().cpu(), background=0.0)
    return drawn.rgb.permute(0, 3, 1, 2).clamp(0, 1)


def true_views(sample, count: int):
    """True pictures, evenly chosen: [N, 3, S, S] on black."""
    import torch

    from ..kernels.feature_metrics import evenly
    from ..scene.images import read_rgba
    from ..scene.views import composite

    chosen = [sample.gt_images[index] for index in evenly(len(sample.gt_images), count)]
    return torch.cat([resized(composite(read_rgba(path)[None], None, 0.0, str(path)), VIEW_SIZE) for path in chosen])


def resized(pictures, side: int):
    """Pictures [N, 3, H, W], bicubic."""
    import torch.nn.functional as F

    return F.interpolate(pictures, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def save_views(path: Path, views) -> None:
    """All views as one strip."""
    import torch

    from ..scene.files import writing
    from ..scene.images import to_pillow

    with writing(path, overwrite=True) as temporary:
        to_pillow(torch.cat(list(views), dim=2)).save(temporary, format="png")


def load_views(path: Path):
    """The views [N, 3, S, S] of a strip; raises InputError where there is none."""
    from ..scene.errors import InputError
    from ..scene.images import read_rgba

    if not path.is_file():
        raise InputError(f"There are no views {path}: run again with --overwrite, which draws them.")
    strip = read_rgba(path)[:3]
    return strip.unflatten(2, (-1, strip.shape[1])).permute(2, 0, 1, 3)


def save_points(path: Path, mesh: tuple, sample) -> None:
    """Points on our mesh and on the true one, for Point-FID."""
    import numpy as np

    from ..models.relaxflow.scoring import POINTS
    from ..scene.files import writing

    ours, true = surface_points(mesh, sample, POINTS)
    with writing(path, overwrite=True) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, ours=ours.numpy(), true=true.numpy())
