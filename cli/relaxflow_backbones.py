"""The backbones of the command `relaxflow`: what they read, sample and give back."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PIXAL3D_FOV = 49.1343  # degrees


@dataclass
class Given:
    """A prepared picture, prepared priors, and where something stands before the object ([H, W], or None)."""

    picture: Any
    priors: list
    occluder: Any = None


@dataclass
class Made:
    """A completed object: mesh (vertices Y up, faces, colors) or None, splats or None, voxels, what is seen of them."""

    mesh: tuple | None
    splats: Any
    coords: Any
    visible: Any
    report: dict = field(default_factory=dict)


class Backbone:
    """Reads pictures and the layout; the subclasses load weights and sample."""

    frame = "z_up"
    tolerance, dilate = 1.5, 1.5

    def __init__(self, args: argparse.Namespace, settings):
        self.args, self.settings = args, settings
        self.layout = None
        if args.scene:
            from ..models.relaxflow.layout import scene_view
            from ..scene.document.convert import read_scene_file
            from ..scene.errors import InputError

            if args.fov is not None:
                raise InputError("--scene brings a camera of its own; leave out --fov.")
            self.layout = scene_view(read_scene_file(args.scene)[0], args.subject, self.frame)

    def visibility(self):
        """How strict the depth test is; the grid is the networks'."""
        from ..models.relaxflow.visibility import VisibilitySettings

        tolerance = self.tolerance if self.args.tolerance is None else self.args.tolerance
        return VisibilitySettings(
            self.args.falloff, tolerance, self.dilate if self.args.dilate is None else self.args.dilate
        )

    def given(self, image, mask, priors, prior_masks, occluder=None) -> Given:
        """The prepared pictures; raises InputError naming the one that cannot be used."""
        from ..scene.errors import InputError
        from .meshes import read_picture

        prepared, first = [], None
        for index, (path, cut) in enumerate([(image, mask), *zip(priors, prior_masks)]):
            try:
                rgba = read_picture(str(path), None if cut is None else str(cut))
                first = rgba if first is None else first
                prepared.append(self.prepare(rgba))
            except InputError as error:
                which = f"Prior {index}" if index else "The picture"
                raise InputError(f"{which} ({path}): {error}") from error
        found = None if occluder is None else self.occluder(str(occluder), first)
        return Given(prepared[0], prepared[1:], found)

    def occluder(self, path: str, rgba):
        """[H, W] float32 in the picture that is projected: the file's alpha, or its lightness where it is opaque."""
        import torch

        from ..models.trellis2.preprocess import crop_like
        from ..scene.images import read_rgba

        picture = read_rgba(path)
        mask = picture[3] if float(picture[3].min()) < 1 else picture[:3].mean(0)
        if self.layout is None and self.padding is not None:
            mask = torch.from_numpy(crop_like(mask.mul(255).round().byte().numpy(), rgba, self.padding)).float() / 255
        return mask

    def check_names(self, output, mesh) -> None:
        """Raise InputError for what this backbone does not write."""


class Trellis(Backbone):
    """TRELLIS (v1): Gaussians and a mesh."""

    def __init__(self, args, settings):
        from ..pipelines.relaxflow import PADDING

        self.padding = PADDING
        super().__init__(args, settings)
        self.camera = None if args.fov is None else front(args.fov)

    def prepare(self, rgba):
        from ..pipelines.relaxflow import prepare_picture

        return prepare_picture(rgba)

    def load(self) -> None:
        from ..models.trellis1.family import load_trellis1

        self.family = load_trellis1(
            self.args.weights, formats=("gaussian", "mesh"), dinov2=self.args.dinov2, device=self.args.device,
            dtype="float32" if self.args.device == "cpu" else None,
        )  # fmt: skip

    def __call__(self, given: Given, bar, want_mesh: bool) -> Made:
        from ..pipelines.relaxflow import complete, decode
        from ..scene.frames import turn_points

        args, family = self.args, self.family
        total = family.structure_sampler.steps + family.latent_sampler.steps
        begun = {"structure": 0, "latent": family.structure_sampler.steps}
        shares = {"structure": family.structure_sampler.steps, "latent": family.latent_sampler.steps}
        done = complete(
            family, given.picture, given.priors, settings=self.settings, seed=args.seed, branch=args.branch,
            camera=self.camera, layout=self.layout, occluder=given.occluder, anchored=bool(args.hold_seen),
            visibility=self.visibility(),
            progress=lambda stage, step, steps: bar(begun[stage] + shares[stage] * step // steps, total),
        )  # fmt: skip
        found = decode(family, done, ("gaussian", "mesh") if want_mesh else ("gaussian",))
        mesh = None
        if want_mesh:
            shape = found["mesh"]
            colors = (
                shape.colors if shape.colors is not None else shape.vertices.new_full((len(shape.vertices), 3), 0.7)
            )
            mesh = turn_points(shape.vertices, "z_up", "y_up"), shape.faces, colors
        report = {
            "voxels": len(done.latent), "gaussians": len(found["gaussian"]), "evaluations": done.evaluations.total()
        }  # fmt: skip
        return Made(mesh, found["gaussian"], done.latent.coords[:, 1:], done.visible, report)


class Projected(Backbone):
    """The embedded Pixal3D family: a mesh with colored vertices."""

    frame = "y_up"
    padding = None  # pictures are taken as they are: their camera is known
    tolerance, dilate = 3.0, 1.0

    def __init__(self, args, settings):
        super().__init__(args, settings)
        from ..models.trellis2.image_condition import FrontCamera
        from ..scene.errors import InputError
        from ..scene.lens import horizontal_fov

        if args.branch != "blend":
            raise InputError("--branch is TRELLIS's; with Pixal3D --prior-weight 0 gives the picture alone.")
        self.camera = FrontCamera(math.radians(horizontal_fov(PIXAL3D_FOV if args.fov is None else args.fov)))

    def prepare(self, rgba):
        import torch

        from ..models.trellis2.preprocess import as_bytes, squares_on_black

        pixels = torch.from_numpy(rgba).permute(2, 0, 1)[None].float() / 255
        return as_bytes(squares_on_black(pixels, None, "it"))[0]

    def load(self) -> None:
        from ..models.trellis2.family import embedded_family

        self.family = embedded_family(device=self.args.device)

    def check_names(self, output, mesh) -> None:
        from ..scene.errors import InputError
        from ..scene.mesh_files import SUFFIXES

        if mesh or Path(output).suffix.lower() not in SUFFIXES:
            raise InputError("Pixal3D gives a mesh and no Gaussians: -o ends in .glb or .ply, and --mesh is left out.")

    def __call__(self, given: Given, bar, want_mesh: bool) -> Made:
        from ..models.relaxflow.visibility import mask_of_voxels
        from ..models.trellis2.latents import decode_latents
        from ..pipelines.relaxflow_cascade import complete_projected

        args = self.args
        done = complete_projected(
            self.family, given.picture, given.priors, self.camera, occluder=given.occluder, layout=self.layout,
            settings=self.settings, seed=args.seed, anchored=args.hold_seen is not False,
            visibility=self.visibility(), progress=bar,
        )  # fmt: skip
        mesh = decode_latents(self.family, done.latents)
        seen = mask_of_voxels(done.visible, done.coords, done.visible.shape[0])
        report = {"voxels": len(done.coords), "observed": len(done.observed), "seen_iou": round(done.iou(), 4)}
        colors = mesh.attributes[:, :3].float().clamp(0, 1)
        return Made((mesh.vertices, mesh.faces.long(), colors), None, done.coords, seen, report)


def front(fov: float):
    """The camera in front of the cube at the distance at which the cube's middle fills the picture."""
    from ..scene.cameras import look_at
    from ..scene.lens import horizontal_fov

    angle = horizontal_fov(fov)
    distance = 0.5 / math.tan(math.radians(angle) / 2)
    return look_at((0.0, -distance, 0.0), (0.0, 0.0, 0.0), angle, 518, 518)
