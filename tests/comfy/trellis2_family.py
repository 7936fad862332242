"""Tiny random families of TRELLIS.2 and Pixal3D as files, laid out as published; latent factor 4."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sightline.models.trellis2.checkpoint import CLASSES
from sightline.models.trellis2.dinov3 import DinoV3, published_names
from sightline.models.trellis2.naf import Naf, NafConfig

CHANNELS, LATENT = 24, 4  # of the image tokens, of the sparse latents
ENCODER = "tiny_dino_naf.safetensors"
DINO = {
    "hidden_size": CHANNELS, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
    "num_register_tokens": 4, "patch_size": 16, "layer_norm_eps": 1e-5, "rope_theta": 100.0, "key_bias": False,
}  # fmt: skip
NAF = {"dim": 32, "heads_attn": 2, "heads_rope": 2, "kernel_size": 3, "img_layers": 1}
FLOW = {
    "model_channels": 24, "cond_channels": CHANNELS, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 2.0,
    "pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True,
}  # fmt: skip
VAE = {"model_channels": [16, 16, 8], "latent_channels": LATENT, "num_blocks": [1, 1, 0]}
STAGES = {"ss": (64, 4, None), "shape_512": (64, 8, 16), "shape_1024": (96, 16, 18), "tex_1024": (96, 16, 24),
          "tex_512": (64, 8, 16)}  # fmt: skip


def randomize(network, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.0 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network


def roles(projected: bool) -> dict:
    """Published role -> class and arguments."""
    dense = {"image_attn_mode": "proj"} if projected else {}
    wide = {**dense, "proj_in_channels": 2 * CHANNELS} if projected else {}
    slat = {**FLOW, **wide, "resolution": 8, "in_channels": LATENT, "out_channels": LATENT}
    return {
        "sparse_structure_flow_model": (
            "SparseStructureFlowModel", {**FLOW, **dense, "resolution": 4, "in_channels": 2, "out_channels": 2},
        ),
        "sparse_structure_decoder": (
            "SparseStructureDecoder",
            {"latent_channels": 2, "num_res_blocks": 1, "channels": [8, 8, 8], "out_channels": 1},
        ),
        "shape_slat_flow_model_512": ("SLatFlowModel", slat),
        "shape_slat_flow_model_1024": ("SLatFlowModel", slat),
        "tex_slat_flow_model_512": ("SLatFlowModel", {**slat, "in_channels": 2 * LATENT}),
        "tex_slat_flow_model_1024": ("SLatFlowModel", {**slat, "in_channels": 2 * LATENT}),
        "shape_slat_decoder": ("FlexiDualGridVaeDecoder", VAE),
        "tex_slat_decoder": ("SparseUnetVaeDecoder", {**VAE, "out_channels": 6, "pred_subdiv": False}),
    }  # fmt: skip


def write_family(folder: Path, projected: bool, suffix: str = "") -> None:
    """pipeline.json and ckpts of a family; suffix: of the pipeline and flow files, whose weights differ then."""
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    named = {}
    for i, (role, (kind, args)) in enumerate(roles(projected).items()):
        model, config = CLASSES[kind]
        name, seed = (f"{role}{suffix}", 10 + i + 20 * len(suffix)) if "flow" in role else (role, 10 + i)
        network = randomize(model(config.from_args(args)), seed)
        keys = {k: v.contiguous() for k, v in network.state_dict().items() if k != "rope_phases"}
        save_file(keys, str(folder / "ckpts" / f"{name}.safetensors"))
        (folder / "ckpts" / f"{name}.json").write_text(json.dumps({"name": kind, "args": args}))
        named[role] = f"ckpts/{name}"
    normalization = {"mean": [0.1, -0.2, 0.3, 0.0], "std": [1.1, 0.9, 1.2, 1.0]}
    args = {
        "models": named, "shape_slat_normalization": normalization, "tex_slat_normalization": normalization,
        "lr_resolution": 32, "token_image_sizes": [64, 96], "image_stages": STAGES,
    }  # fmt: skip
    (folder / f"pipeline{suffix}.json").write_text(json.dumps({"name": "tiny", "args": args}))


def write_texturing(folder: Path) -> None:
    """texturing_pipeline.json beside a family without projection: its texture networks and a shape encoder."""
    encoder = {"model_channels": VAE["model_channels"][::-1], "latent_channels": LATENT,
               "num_blocks": VAE["num_blocks"][::-1]}  # fmt: skip
    model, config = CLASSES["FlexiDualGridVaeEncoder"]
    network = randomize(model(config.from_args(encoder)), 30)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, str(folder / "ckpts/shape_enc.safetensors"))
    (folder / "ckpts/shape_enc.json").write_text(json.dumps({"name": "FlexiDualGridVaeEncoder", "args": encoder}))
    pipeline = json.loads((folder / "pipeline.json").read_text())
    kept = {role: path for role, path in pipeline["args"]["models"].items() if role.startswith("tex_")}
    pipeline["args"]["models"] = {**kept, "shape_slat_encoder": "ckpts/shape_enc"}
    (folder / "texturing_pipeline.json").write_text(json.dumps(pipeline))


def write_encoder(folder: Path) -> None:
    """DINOv3 and NAF in one file, as ComfyUI has them, and their sizes beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    vit = randomize(DinoV3(DINO), 1).vit
    state = vit.state_dict()
    weights = {published: state[name].contiguous() for published, name in published_names(vit).items()}
    naf = randomize(Naf(NafConfig(**NAF)), 2)
    weights |= {f"naf.{name}": value.contiguous() for name, value in naf.state_dict().items()}
    save_file(weights, str(folder / ENCODER))
    (folder / ENCODER).with_suffix(".json").write_text(json.dumps({**DINO, "naf": NAF}))
    save_file({k: v for k, v in weights.items() if not k.startswith("naf.")}, str(folder / "without_naf.safetensors"))
    (folder / "without_naf.json").write_text(json.dumps(DINO))


def write_published_encoder(folder: Path, encoder: Path) -> None:
    """The same two networks as their makers publish them."""
    weights = load_file(str(encoder))
    (folder / "dinov3").mkdir(parents=True)
    save_file({k: v for k, v in weights.items() if not k.startswith("naf.")}, str(folder / "dinov3/model.safetensors"))
    (folder / "dinov3" / "config.json").write_text(json.dumps(DINO))
    save_file({k[4:]: v for k, v in weights.items() if k.startswith("naf.")}, str(folder / "naf.safetensors"))
    (folder / "naf.json").write_text(json.dumps(NAF))


def write_models(models: Path) -> None:
    """Everything into a ComfyUI's models folder."""
    write_family(models / "trellis2" / "tiny_pixal3d", True)
    write_family(models / "trellis2" / "tiny_pixal3d", True, "_mv")
    write_family(models / "trellis2" / "tiny_trellis2", False)
    write_texturing(models / "trellis2" / "tiny_trellis2")
    write_encoder(models / "clip_vision")
    write_published_encoder(models / "trellis2", models / "clip_vision" / ENCODER)


def sampler(kind: str, model: str, condition: str, **inputs) -> dict:
    """A sampler node of two steps with the published settings otherwise."""
    values = {"seed": 42, "steps": 2, "guidance": 7.5, "guidance_rescale": 0.5, "guidance_start": 1.0,
              "guidance_end": 0.6, "rescale_t": 3.0}  # fmt: skip
    return {"class_type": kind, "inputs": {"model": [model, 0], "condition": [condition, 0], **values, **inputs}}


def graph(family: str = "tiny_pixal3d", picture: str = "pixal3d_test.png", resolution: str = "1024") -> dict:
    """Picture 1, models 2, condition 3, structure 4, shape 5, texture 6, decode 7, save 8."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": picture}},
        "2": {"class_type": "SightlineTrellis2Loader",
              "inputs": {"models": f"{family}/pipeline.json", "image_encoder": ENCODER}},
        "3": {"class_type": "SightlinePictureCondition", "inputs": {"fov": 35.0, "mesh_scale": 1.0, "image": ["1", 0]}},
        "4": sampler("SightlineSparseStructureSampler", "2", "3"),
        "5": sampler("SightlineShapeSampler", "2", "3", voxel=["4", 0], resolution=resolution, max_tokens=49152),
        "6": sampler("SightlineTextureSampler", "2", "3", shape=["5", 0], guidance=1.0),
        "7": {"class_type": "SightlineDecodeShapeTexture",
              "inputs": {"model": ["2", 0], "shape": ["5", 0], "texture": ["6", 0], "as_released": False}},
        "8": {"class_type": "SaveGLB", "inputs": {"mesh": ["7", 0], "filename_prefix": "pixal3d/mesh"}},
    }  # fmt: skip
