"""The whole cascade with tiny networks: picture and camera in, latents, mesh and PBR voxels out."""

import numpy as np
import pytest
import torch
from pixal3d_parity import TRAJECTORY, make, weights

from sightline.models.trellis2.cascade import Cascade, CascadeConfig, ImageStage, Normalization
from sightline.models.trellis2.dinov3 import load_dinov3
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.latents import decode_latents
from sightline.models.trellis2.naf import NafConfig, load_naf
from sightline.models.trellis2.samplers import SamplerSettings
from sightline.pipelines.pixal3d import prepare_picture, sample_latents

SYSTEM, KIND = "pixal3d", "pipeline_e2e"


@pytest.fixture
def case(fixture):
    t, meta = fixture.tensors(), fixture.meta
    config = CascadeConfig(
        Normalization(**{k: tuple(v) for k, v in meta["shape_slat_normalization"].items()}),
        Normalization(**{k: tuple(v) for k, v in meta["tex_slat_normalization"].items()}),
        samplers={
            name.removesuffix("_params"): SamplerSettings.from_dict(values) for name, values in meta["samplers"].items()
        },
        image_stages={name: ImageStage(*values) for name, values in meta["image_cond"].items() if name != "fields"},
    )
    models = {
        role: make(given["class"], given["args"], weights(t, f"state.{role}."))
        for role, given in meta["models"].items()
    }
    encoder = load_dinov3(weights(t, "state.dino."), meta["dino"])
    naf = load_naf(weights(t, "state.naf."), NafConfig.from_args(meta["naf"]))
    return Cascade(config, models, encoder, naf), t, meta


@pytest.mark.parametrize("batched", [False, True], ids=["sequential", "batched"])
def test_cascade(case, ledger, batched):
    cascade, t, meta = case
    picture = prepare_picture(t["in.image_rgba"].numpy())
    ledger.exact("pipeline.preprocess", torch.from_numpy(np.array(picture)), t["mid.preprocessed_rgb"])
    given = meta["camera"]
    camera = FrontCamera(given["camera_angle_x"], given["distance"], given["mesh_scale"])
    steps = []
    latents = sample_latents(
        cascade,
        picture,
        camera,
        seed=meta["seed"],
        pipeline_type=meta["pipeline_type"],
        max_num_tokens=meta["max_num_tokens"],
        batched=batched,
        progress=lambda stage, done, total, x_t, x_0: steps.append((stage, done, total)),
    )
    name = "pipeline.batched" if batched else "pipeline"
    ledger.exact(f"{name}.structure", latents.structure, t["out.ss_coords"])
    ledger.close(f"{name}.low_shape", latents.low.feats, t["out.lr_shape_slat"], **TRAJECTORY)
    decoder = cascade.get("shape_slat_decoder")
    with torch.no_grad():
        fine = decoder.upsample(latents.low, len(decoder.blocks) - 1)
    ledger.exact(f"{name}.upsampled_coords", fine, t["out.upsampled_coords"])
    ledger.exact(f"{name}.high_coords", latents.shape.coords, t["out.hr_coords"])
    assert latents.resolution == meta["result_resolution"]
    ledger.close(f"{name}.shape", latents.shape.feats, t["out.shape_slat"], **TRAJECTORY)
    ledger.close(f"{name}.texture", latents.texture.feats, t["out.tex_slat"], **TRAJECTORY)
    mesh = decode_latents(cascade, latents, as_released=True)
    ledger.exact(f"{name}.voxels", mesh.coords, t["out.voxel_coords"])
    ledger.close(f"{name}.attributes", mesh.attributes, t["out.voxel_attrs"], **TRAJECTORY)
    ledger.close(f"{name}.vertices", mesh.vertices, t["out.vertices"], **TRAJECTORY)
    ledger.exact(f"{name}.faces", mesh.faces, t["out.faces"])
    stages = [stage for stage, done, total in steps if done == total]
    assert stages == ["structure", "low shape", "shape", "texture"]
