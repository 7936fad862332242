"""Reading picture features at the projections of 3D tokens."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op
from .sparse_conv import surface_voxels

FOV, IMAGE = 0.8575560450553894, 1024


def _tokens(case: dict):
    import math

    import torch

    generator = torch.Generator().manual_seed(0)
    coords = surface_voxels(case["resolution"])
    coords = coords[torch.randperm(len(coords), generator=generator)[: case["tokens"]].sort().values]
    features = torch.randn(1, case["channels"], case["cells"], case["cells"], generator=generator)
    distance = 0.5 / math.tan(FOV / 2)
    return features.to(case["device"]), coords.to(case["device"]), distance


def _ours(backend: str):
    def prepare(case):
        from ...kernels.projection import front_uv, grid_points, sample_map

        features, coords, distance = _tokens(case)

        def project():
            points = grid_points(case["resolution"], coords[:, 1:])
            uv, _ = front_uv(points, FOV, distance, 1.0, IMAGE)
            return {"features": sample_map(features, uv, IMAGE, backend=backend)}

        return project

    return prepare


def _core(whole_grid: bool):
    def prepare(case):
        import torch

        module = opponents.comfyui("comfy.ldm.trellis2.model", case["device"])
        features, coords, distance = _tokens(case)
        distances = torch.tensor([distance], device=case["device"])
        pack = {
            "stages": {"shape_1024": dict(feature_map=features, feature_map_hr=None, image_resolution=IMAGE)},
            "transform_matrix": module.build_proj_transform_matrix(distances, 1, case["device"]),
            "camera_angle_x": torch.tensor([FOV], device=case["device"]),
            "mesh_scale": torch.ones(1, device=case["device"]),
        }
        side = case["resolution"]

        def project():
            if not whole_grid:
                found = module.compute_stage_proj_feats(pack, "shape_1024", coords=coords, coord_resolution=side)
                return {"features": found}
            grid = module.compute_stage_proj_feats(pack, "shape_1024", dense_grid_resolution=side, batch_size=1)
            _, x, y, z = coords.long().unbind(1)
            return {"features": grid.view(side, side, side, -1)[x, y, z]}

        return project

    return prepare


OPS = [
    Op(
        "projection",
        "picture features at the projections of the occupied voxels",
        {
            "S": dict(tokens=2_000, resolution=32, channels=1024, cells=32),
            "M": dict(tokens=9_000, resolution=64, channels=1024, cells=64),
            "L": dict(tokens=20_000, resolution=96, channels=1024, cells=64),
        },
        (
            Contender("ours", _ours("gather")),
            Contender("grid_sample twin", _ours("grid_sample")),
            Contender("core", _core(False), note="the occupied voxels only, as its nodes do"),
            Contender("whole grid", _core(True), sizes=("S", "M"), note="as Pixal3D: R^3 points, then picked"),
        ),
    )
]
