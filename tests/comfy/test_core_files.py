"""Load TRELLIS.2 or Pixal3D from ComfyUI Files, on a real server: tiny networks in core's layout."""

import json

import pytest
import torch
import trellis2_family as tiny
from safetensors.torch import load_file, save_file

from sightline.cli import headless
from sightline.models.trellis2.checkpoint import CLASSES
from sightline.models.trellis2.single_file import ROLES

FILES = {
    "diffusion_models/core_pixal3d.safetensors": ("structure_model", "img2shape_512", "img2shape", "shape2txt"),
    "vae/core_shape.safetensors": ("shape_dec", "struct_dec"),
    "vae/core_texture.safetensors": ("txt_dec",),
}


@pytest.fixture(scope="module")
def core_files(server):
    """The files in the server's model folders; also a quantized copy of the first."""
    models, roles, written = server.base / "models", tiny.roles(True), []
    for name, prefixes in FILES.items():
        weights = {}
        for i, prefix in enumerate(prefixes):
            kind, args = roles[ROLES[prefix][0]]
            if prefix == "structure_model":
                args = {**args, "resolution": 16}  # no weight shows the grid; it is core's
            model, config = CLASSES[kind]
            network = tiny.randomize(model(config.from_args(args)), 40 + i)
            state = {k: v.contiguous() for k, v in network.state_dict().items() if k != "rope_phases"}
            weights |= {f"{prefix}.{k}": v for k, v in state.items()}
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, str(models / name))
        written.append(models / name)
        if name.startswith("diffusion"):
            args = {"shape_slat_normalization": {"mean": [0.0] * 4, "std": [1.0] * 4}, "lr_resolution": 128,
                    "tex_slat_normalization": {"mean": [0.0] * 4, "std": [1.0] * 4},
                    "image_stages": {**tiny.STAGES, "ss": (64, 16, None)}}  # fmt: skip
            (models / name).with_suffix(".json").write_text(json.dumps(args))
            weights["img2shape.out_layer.weight"] = weights["img2shape.out_layer.weight"].to(torch.int8)
            save_file(weights, str(models / "diffusion_models/core_int8.safetensors"))
            written += [(models / name).with_suffix(".json"), models / "diffusion_models/core_int8.safetensors"]
    if not (models / "clip_vision" / tiny.ENCODER).exists():
        tiny.write_encoder(models / "clip_vision")
    yield
    for path in written:
        path.unlink()


def graph(diffusion="core_pixal3d.safetensors"):
    nodes = tiny.graph()
    nodes["2"] = {"class_type": "SightlineTrellis2CoreLoader",
                  "inputs": {"diffusion_model": diffusion, "shape_vae": "core_shape.safetensors",
                             "texture_vae": "core_texture.safetensors", "image_encoder": tiny.ENCODER}}  # fmt: skip
    for number in "5678":
        nodes.pop(number)
    nodes["1"] = {"class_type": "SightlineExamplePicture", "inputs": {"picture": "sparsegen_mug.png"}}
    nodes["9"] = {"class_type": "SaveLatent", "inputs": {"samples": ["4", 1], "filename_prefix": "core/structure"}}
    return nodes


def test_the_structure_is_sampled_with_networks_of_core_files(server, core_files):
    (entry,) = server.run(graph()).outputs["9"]["latents"]
    latent = load_file(str(server.base / "output" / entry["subfolder"] / entry["filename"]))["latent_tensor"]
    assert latent.shape == (1, 32, 16, 16, 16) and latent[:, :2].std() > 0.1


def test_a_quantized_file_is_refused_in_one_sentence(server, core_files):
    with pytest.raises(headless.HeadlessError, match="img2shape.out_layer.weight is torch.int8, the file is quantized"):
        server.run(graph("core_int8.safetensors"))
