"""Projection of arbitrary points in float32, and in bfloat16 as released."""

import torch
from genrecon_parity import FLOAT

from sightline.kernels.view_projection import camera_features, lift, project_to_patches

SYSTEM, KIND = "genrecon", "project_points"


def test_points(fixture, ledger):
    t, side = fixture.tensors(), fixture.meta["img_patch_res"]
    for item in range(len(t["cond"])):
        cameras = t["extrinsics"][item], t["intrinsics"][item]
        patch, valid = project_to_patches(t["points"], *cameras, side)
        ledger.exact("project_points.valid", valid, t["valid"][item])
        ledger.close("project_points.features", lift(t["cond"][item], patch, valid), t["proj"][item], **FLOAT)
        if "camera_emb" in t:
            found = camera_features(t["points"], cameras[0])
            ledger.close("project_points.camera_features", found, t["camera_emb"][item], **FLOAT)
        patch, valid = project_to_patches(t["points"], *cameras, side, torch.bfloat16)
        ledger.close("project_points.valid_bf16", valid, t["valid_bf16"][item], fraction=0.98)
        lifted = lift(t["cond"][item].bfloat16(), patch, valid)
        ledger.close("project_points.features_bf16", lifted, t["proj_bf16"][item], fraction=0.98)
