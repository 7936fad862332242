"""DINOv3 tokens, and their projection onto the grid with and without NAF."""

import torch
from pixal3d_parity import FLOAT, weights

from sightline.models.trellis2.cascade import ImageStage
from sightline.models.trellis2.dinov3 import load_dinov3
from sightline.models.trellis2.image_condition import FrontCamera, Pictures, project_features
from sightline.models.trellis2.naf import NafConfig, load_naf

SYSTEM, KIND = "pixal3d", "dino_proj_extractor"


def test_tokens_and_projection(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    encoder = load_dinov3(weights(t, "state.dino."), meta["dino"])
    naf = load_naf(weights(t, "state.naf."), NafConfig.from_args(meta["naf"]))
    size, grid = meta["image_size"], meta["grid_resolution"]
    stage = ImageStage(size, grid, meta["naf"]["target"])
    for item, image in enumerate(t["in.image01"]):
        pictures = Pictures(encoder, image)
        camera = FrontCamera(*(float(t[f"in.{name}"][item]) for name in ("camera_angle_x", "distance", "mesh_scale")))
        ledger.close("dinov3.tokens", pictures.tokens(size)[0], t["mid.tokens"][item], **FLOAT)
        tokens, features = project_features(pictures, stage, camera, None, naf)
        ledger.close("projection.global", tokens[0], t["out.global"][item], **FLOAT)
        ledger.close("projection.features", features, t["out.proj"][item], **FLOAT)
        chosen = torch.randperm(grid**3, generator=torch.Generator().manual_seed(0))[: max(1, grid**3 // 3)]
        coords = torch.stack([chosen // grid**2, chosen // grid % grid, chosen % grid], dim=-1)
        _, some = project_features(pictures, stage, camera, coords, naf)
        ledger.close("projection.of_some_tokens", some, t["out.proj"][item][chosen], **FLOAT)
