"""A tiny random family of TRELLIS (v1) as files, laid out as published: grid 4, voxels 8, latents of 4 channels."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from sightline.models.trellis1.checkpoint import build_model
from sightline.models.trellis1.dinov2 import DinoV2, DinoV2Config

FLOW = dict(model_channels=48, cond_channels=16, num_blocks=1, num_heads=2, mlp_ratio=2, qk_rms_norm=True)
DECODER = dict(resolution=8, model_channels=64, latent_channels=4, num_blocks=1, num_heads=2, window_size=4)
DINO = dict(embed_dim=16, depth=1, num_heads=2, img_size=28, patch_size=14)
REPRESENTATION = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004, "opacity_bias": 0.1, "scaling_activation": "softplus",
}  # fmt: skip
NETWORKS = {
    "sparse_structure_flow_model": ("SparseStructureFlowModel", dict(FLOW, resolution=4, in_channels=4, out_channels=4,
                                                                     patch_size=1)),
    "slat_flow_model": ("SLatFlowModel", dict(FLOW, resolution=8, in_channels=4, out_channels=4, patch_size=2,
                                              num_io_res_blocks=2, io_block_channels=[16])),
    "sparse_structure_decoder": ("SparseStructureDecoder", dict(latent_channels=4, out_channels=1, num_res_blocks=1,
                                                                num_res_blocks_middle=1, channels=[16, 8])),
    "slat_decoder_gs": ("ElasticSLatGaussianDecoder", DECODER | {"representation_config": REPRESENTATION}),
    "slat_decoder_mesh": ("ElasticSLatMeshDecoder", DECODER | dict(model_channels=256,
                                                                   representation_config={"use_color": True})),
}  # fmt: skip


def random_state(model, seed: int) -> dict:
    """Random weights under the network's own names."""
    generator = torch.Generator().manual_seed(seed)
    buffers = model.computed_buffers() if hasattr(model, "computed_buffers") else {}
    found = {}
    for name, value in model.state_dict().items():
        spread = 1.0 if value.ndim < 2 else value[0].numel() ** -0.5
        found[name] = buffers.get(name, torch.randn(value.shape, generator=generator) * spread).contiguous()
    return found


def write_trellis1(folder: Path, steps: int = 3) -> Path:
    """pipeline.json, ckpts and DINOv2; returns the folder."""
    (folder / "ckpts").mkdir(parents=True)
    for seed, (role, (name, args)) in enumerate(NETWORKS.items()):
        stem = folder / "ckpts" / role
        stem.with_suffix(".json").write_text(json.dumps({"name": name, "args": args}))
        state = random_state(build_model(name, args), seed)
        if role == "sparse_structure_decoder":
            state["out_layer.2.bias"] -= 1.0
        save_file(state, stem.with_suffix(".safetensors"))
    sampler = {"params": {"steps": steps, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0}}
    args = {
        "models": {role: f"ckpts/{role}" for role in NETWORKS},
        "sparse_structure_sampler": sampler,
        "slat_sampler": sampler,
        "slat_normalization": {"mean": [0.0] * 4, "std": [1.0] * 4},
    }
    (folder / "pipeline.json").write_text(json.dumps({"args": args}))
    with torch.device("meta"):
        encoder = DinoV2(DinoV2Config(**DINO))
    save_file(random_state(encoder, 9), folder / "dinov2_vitl14_reg.safetensors")
    (folder / "dinov2_vitl14_reg.json").write_text(json.dumps(DINO))
    return folder
