"""A tiny random scene family: latents of 16^3 cells everywhere, meshes of 64^3 voxels per chunk."""

import json
from pathlib import Path

import torch
from trellis2_tiny import CHANNELS, FLOW, LATENT, PatchEncoder, network, sparse_vae

from sightline.models.genrecon.checkpoint import LoraConfig, build_flow, from_state, is_trained, save_adapter
from sightline.models.genrecon.family import CONFIG, ROLES, SceneFamily
from sightline.models.trellis2.cascade import CascadeConfig, Normalization

LORA = LoraConfig(2, 4)
ARGS = {
    "structure": {**FLOW, "resolution": 16, "in_channels": 2, "out_channels": 2, "dense": True},
    "shape": {**FLOW, "resolution": 16, "in_channels": LATENT, "out_channels": LATENT, "dense": False},
    "texture": {**FLOW, "resolution": 16, "in_channels": 2 * LATENT, "out_channels": LATENT, "dense": False},
}
CLASS = {"structure": "SparseStructureFlowModel", "shape": "SLatFlowModel", "texture": "SLatFlowModel"}
STEPS = {"sparse_structure_sampler": {"steps": 2}, "shape_slat_sampler": {"steps": 3}, "tex_slat_sampler": {"steps": 2}}
STATISTICS = {"mean": [0.1, -0.2, 0.3], "std": [1.1, 0.9, 1.2]}


def flow_state(stage, seed=0):
    """Random weights of a conditioned flow, adapters included, under the published names."""
    generator = torch.Generator().manual_seed(seed + 10 * list(ARGS).index(stage))
    state = {}
    for key, value in build_flow(ARGS[stage], LORA).state_dict().items():
        if key == "rope_phases":
            continue
        scale = 0.3 if value.ndim == 1 else value[0].numel() ** -0.5
        state[key] = torch.randn(value.shape, generator=generator) * scale
    return state


def decoders():
    occupancy = network("SparseStructureDecoder", 2, latent_channels=2, num_res_blocks=1, channels=[8], out_channels=1)
    with torch.no_grad():
        occupancy.out_layer[2].bias -= 0.27  # few voxels, so that tests stay fast
    shape = sparse_vae("FlexiDualGridVaeDecoder", 7)
    with torch.no_grad():
        for level in shape.blocks[:-1]:
            level[-1].to_subdiv.bias -= 0.8
    texture = sparse_vae("SparseUnetVaeDecoder", 8, out_channels=6, pred_subdiv=False)
    return {"sparse_structure_decoder": occupancy, "shape_slat_decoder": shape, "tex_slat_decoder": texture}


def scene_family(seed=0):
    """The family in memory, behind `PatchEncoder`."""
    models = {ROLES[stage]: from_state(flow_state(stage, seed), args, lora=LORA) for stage, args in ARGS.items()}
    normalization = Normalization(tuple(STATISTICS["mean"]), tuple(STATISTICS["std"]))
    config = CascadeConfig(normalization, normalization, lr_resolution=64, token_image_sizes=(32, 64))
    torch.manual_seed(0)
    return SceneFamily(config, {**models, **decoders()}, PatchEncoder().requires_grad_(False))


def write_scene_family(folder, seed=0):
    """The same in files: base networks, adapters, genrecon.json, a random DINOv3 of the width; needs `transformers`."""
    from trellis2_files import write_family

    from sightline.models.trellis2.dinov3 import DinoV3, published_names

    folder = Path(folder)
    models = {}
    for stage, args in ARGS.items():
        state = {key: value for key, value in flow_state(stage, seed).items() if not is_trained(key)}
        plain = {key: value for key, value in args.items() if key != "dense"}
        models[ROLES[stage]] = CLASS[stage], plain, state
    names = {"SparseStructureDecoder": "SparseStructureDecoder", "ShapeDecoder": "FlexiDualGridVaeDecoder"}
    names["SparseVaeDecoder"] = "SparseUnetVaeDecoder"
    for role, decoder in decoders().items():
        given = {k: str(v).removeprefix("torch.") if k == "dtype" else v for k, v in vars(decoder.config).items()}
        models[role] = names[type(decoder).__name__], given, decoder.state_dict()
    sampler = {"name": "FlowEulerGuidanceIntervalSampler", "args": {}}
    args = {role: {**sampler, "params": {"guidance_strength": 2.0, **steps}} for role, steps in STEPS.items()}
    args |= {"shape_slat_normalization": STATISTICS, "tex_slat_normalization": STATISTICS}
    args |= {"lr_resolution": 64, "token_image_sizes": [32, 64]}
    args["adapters"] = {ROLES[stage]: f"{stage}.safetensors" for stage in ARGS}
    config = dict(hidden_size=CHANNELS, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, patch_size=8)
    config |= dict(num_register_tokens=4, rope_theta=100.0, key_bias=False)
    torch.manual_seed(1)
    vit = DinoV3(config).vit
    state = vit.state_dict()
    dino = config, {published: state[name] for published, name in published_names(vit).items()}
    write_family(folder, models, args, dino, pipeline=CONFIG)
    for stage, given in ARGS.items():
        save_adapter(flow_state(stage, seed), folder / f"{stage}.safetensors", given, LORA, overwrite=True)
    assert json.loads((folder / CONFIG).read_text())["args"]["adapters"]
    return folder
