"""The whole cascade with tiny networks: picture and camera in, latents, mesh and PBR voxels out."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from pixal3d_parity import TRAJECTORY, make, weights
from trellis2_files import write_family

from sightline.cli.main import main
from sightline.models.trellis2.cascade import Cascade, CascadeConfig, ImageStage, Normalization
from sightline.models.trellis2.dinov3 import load_dinov3
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.latents import decode_latents, load_latents
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


def test_command(fixture, ledger, tmp_path, monkeypatch):
    """The same through files and the command line: official pairs on disk, a PNG, saved latents and a PLY."""
    pytest.importorskip("trimesh", reason="meshes are written with trimesh, which is not installed")
    t, meta = fixture.tensors(), fixture.meta
    models = {
        role: (given["class"], given["args"], weights(t, f"state.{role}.")) for role, given in meta["models"].items()
    }
    args = {name: meta[name] for name in ("shape_slat_normalization", "tex_slat_normalization", "max_num_tokens")}
    args["image_stages"] = {name: values for name, values in meta["image_cond"].items() if name != "fields"}
    for name, values in meta["samplers"].items():
        args[name.removesuffix("_params")] = {"name": "FlowEulerGuidanceIntervalSampler", "args": {}, "params": values}
    dino, naf = ((meta[name], weights(t, f"state.{name}.")) for name in ("dino", "naf"))
    folder = write_family(tmp_path / "weights", models, args, dino, naf)
    Image.fromarray(t["in.image_rgba"].numpy()).save(tmp_path / "picture.png")
    camera = meta["camera"]
    monkeypatch.chdir(tmp_path)
    command = ["pixal3d", "picture.png", "-o", "mesh.ply", "--save-latents", "latents.safetensors", "--as-released"]
    command += ["--weights", str(folder), "--seed", str(meta["seed"]), "--type", meta["pipeline_type"]]
    command += ["--fov", repr(math.degrees(camera["camera_angle_x"])), "--distance", repr(camera["distance"])]
    assert main([*command, "--mesh-scale", repr(camera["mesh_scale"]), "--device", "cpu"]) == 0
    latents = load_latents(tmp_path / "latents.safetensors")
    ledger.exact("pipeline.command.high_coords", latents.shape.coords, t["out.hr_coords"])
    ledger.close("pipeline.command.texture", latents.texture.feats, t["out.tex_slat"], **TRAJECTORY)
    ply = trimesh_load(tmp_path / "mesh.ply")
    corners = t["out.vertices"][t["out.faces"].long()]  # the mesh frame is the file's; unused vertices are left out
    ledger.close("pipeline.command.triangles", ply, corners, **TRAJECTORY)


def trimesh_load(path):
    """The corners [F, 3, 3] of a mesh file's triangles."""
    import trimesh

    mesh = trimesh.load(path, process=False)
    return torch.from_numpy(np.asarray(mesh.vertices)[np.asarray(mesh.faces)]).float()
