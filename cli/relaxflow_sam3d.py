"""SAM 3D Objects as a backbone of the command `relaxflow`, and behind the command `sam3d`."""

from __future__ import annotations

from .relaxflow_backbones import Backbone, Given, Made


class Sam3dBackbone(Backbone):
    """Gaussians and a mesh, placed by a predicted pose, which also says what is seen."""

    padding = None

    def __init__(self, args, settings):
        from ..scene.errors import InputError

        for name in ("fov", "scene", "occluder"):
            if getattr(args, name, None):
                raise InputError(f"SAM 3D predicts the pose and --mask says what is seen: leave out --{name}.")
        if getattr(args, "hold_seen", None):
            raise InputError("--hold-seen is not for SAM 3D: the picture's own run starts from other noise.")
        super().__init__(args, settings)
        self.pose = None

    def given(self, image, mask, priors, prior_masks, occluder=None) -> Given:
        """The prepared pictures; raises InputError naming the one that cannot be used."""
        import torch

        from ..pipelines.relaxflow_sam3d import prepare_object, prepare_prior
        from ..scene.errors import InputError
        from ..scene.point_maps import read_point_map
        from .meshes import read_picture

        points = getattr(self.args, "point_map", None)
        points = None if points is None else read_point_map(points, getattr(self.args, "axes", None) or "opencv")
        prepared = []
        for index, (path, cut) in enumerate([(image, mask), *zip(priors, prior_masks)]):
            try:
                rgba = torch.from_numpy(read_picture(str(path), None if cut is None else str(cut)))
                rgba = rgba.permute(2, 0, 1).float() / 255
                if index:
                    prepared.append(prepare_prior(rgba[:3], rgba[3]))
                else:
                    prepared.append(prepare_object(rgba[:3], rgba[3], points))
            except InputError as error:
                which = f"Prior {index}" if index else "The picture"
                raise InputError(f"{which} ({path}): {error}") from error
        return Given(prepared[0], prepared[1:])

    def load(self) -> None:
        from ..models.sam3d.family import load_sam3d
        from .sparsegen import choose_device

        device = choose_device(self.args.device)
        dtype = getattr(self.args, "dtype", None) or ("float32" if str(device) == "cpu" else None)
        self.family = load_sam3d(
            self.args.weights, formats=[self.form], device=device, dtype=dtype,
            low_vram=getattr(self.args, "low_vram", False),
        )  # fmt: skip

    @property
    def form(self) -> str:
        return "gaussian_4" if getattr(self.args, "gaussians", 32) == 4 else "gaussian"

    def __call__(self, given: Given, bar, want_mesh: bool) -> Made:
        from dataclasses import replace

        from ..models.sam3d.pose import placed_points, placed_splats
        from ..pipelines.relaxflow_sam3d import KEEP, PRIOR_KEEP, decode, sample_latents, sample_structure
        from ..scene.frames import turn_points

        args, family = self.args, self.family
        if want_mesh:
            family.require("slat_decoder_mesh")
        samplers = [family.structure_sampler, family.latent_sampler]
        for index, name in enumerate(("steps", "stage2_steps")):
            if getattr(args, name, None):
                samplers[index] = replace(samplers[index], steps=getattr(args, name))
        shares = {"structure": (0, samplers[0].steps), "latent": (samplers[0].steps, samplers[1].steps)}

        def progress(stage, done, steps):
            begun, share = shares[stage]
            bar(begun + share * done // steps, sum(sampler.steps for sampler in samplers))

        keep = {"keep": getattr(args, "keep", KEEP), "prior_keep": getattr(args, "prior_keep", PRIOR_KEEP)}
        common = dict(settings=self.settings, seed=args.seed, branch=args.branch, progress=progress, **keep)
        structure = sample_structure(
            family, given.picture, given.priors, sampler=samplers[0],
            visibility=replace(self.visibility(), centered=False), occluded=getattr(args, "outside_hidden", False),
            distilled=getattr(args, "distilled", False), **common,
        )  # fmt: skip
        latents = sample_latents(family, given.picture, structure, given.priors, sampler=samplers[1], **common)
        splats, mesh, self.pose = decode(family, latents, self.form), None, structure.pose
        placed = getattr(args, "place", "object") == "scene"
        if placed:
            splats = placed_splats(splats, structure.pose)
        if want_mesh:
            shape = decode(family, latents, "mesh")
            points = shape.vertices.float().cpu()
            points = turn_points(placed_points(points, structure.pose) if placed else points, "z_up", "y_up")
            colors = points.new_full(points.shape, 0.7) if shape.colors is None else shape.colors
            mesh = points, shape.faces, colors
        report = {
            "voxels": len(structure.coords), "gaussians": len(splats),
            "evaluations": structure.evaluations.total(),
        }  # fmt: skip
        if structure.visible is not None:
            report["seen"] = round(float(structure.visible.mean()), 4)
        return Made(mesh, splats, structure.coords[:, 1:], structure.visible, report)


def pose_report(pose) -> dict:
    """A pose as plain numbers, with what they mean."""
    return {
        "translation": [round(v, 6) for v in pose.translation[0].tolist()],
        "rotation_wxyz": [round(v, 6) for v in pose.rotation[0].tolist()],
        "scale": round(float(pose.scale[0, 0]), 6),
        "convention": "camera = scale * point R + translation on rows (x left, y up, z in); the cube is z up",
    }
