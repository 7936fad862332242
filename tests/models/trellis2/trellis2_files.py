"""A family written as the published ones are: pipeline.json, a .json + .safetensors pair per network, DINOv3, NAF."""

import json
from pathlib import Path

from safetensors.torch import save_file


def save(state, path):
    save_file({name: value.detach().contiguous().clone() for name, value in state.items()}, path)


def write_family(folder, models, args, dino=None, naf=None, pipeline="pipeline.json"):
    """models: role -> (class, args, state dict); args: of the pipeline; dino, naf: (configuration, state dict)."""
    folder = Path(folder)
    (folder / "ckpts").mkdir(parents=True, exist_ok=True)
    for role, (name, given, state) in models.items():
        (folder / "ckpts" / f"{role}.json").write_text(json.dumps({"name": name, "args": given}))
        save(state, folder / "ckpts" / f"{role}.safetensors")
    document = {"name": "tiny", "args": {**args, "models": {role: f"ckpts/{role}" for role in models}}}
    (folder / pipeline).write_text(json.dumps(document))
    if dino:
        (folder / "dinov3").mkdir(exist_ok=True)
        (folder / "dinov3" / "config.json").write_text(json.dumps(dino[0]))
        save(dino[1], folder / "dinov3" / "model.safetensors")
    if naf:
        (folder / "naf.json").write_text(json.dumps(naf[0]))
        save(naf[1], folder / "naf.safetensors")
    return folder


def write_tiny_family(folder, projected):
    """The random networks of `trellis2_tiny` behind a random DINOv3 of its width; needs `transformers`."""
    import torch
    from trellis2_tiny import CHANNELS, cascade

    from sightline.models.trellis2.dinov3 import DinoV3, published_names

    family = cascade(projected)
    names = {"SparseStructureFlow": "SparseStructureFlowModel", "StructuredLatentFlow": "SLatFlowModel"}
    names |= {"ShapeDecoder": "FlexiDualGridVaeDecoder", "SparseVaeDecoder": "SparseUnetVaeDecoder"}
    models = {}
    for role in family.models:
        network = family.get(role)
        given = {k: str(v).removeprefix("torch.") if k == "dtype" else v for k, v in vars(network.config).items()}
        name = type(network).__name__
        models[role] = (names.get(name, name), given, network.state_dict())
    settings = family.config
    statistics = {"mean": settings.shape_normalization.mean, "std": settings.shape_normalization.std}
    args = {
        "shape_slat_normalization": statistics,
        "tex_slat_normalization": statistics,
        "lr_resolution": settings.lr_resolution,
        "token_image_sizes": settings.token_image_sizes,
        "image_stages": {k: list(vars(v).values()) for k, v in settings.image_stages.items()},
    }
    for role, sampler in settings.samplers.items():
        args[role] = {"name": "FlowEulerGuidanceIntervalSampler", "args": {}, "params": {**vars(sampler), "steps": 2}}
    torch.manual_seed(1)
    config = dict(hidden_size=CHANNELS, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, patch_size=8)
    config |= dict(num_register_tokens=4, rope_theta=100.0, key_bias=False)
    vit = DinoV3(config).vit
    state = vit.state_dict()
    dino = config, {published: state[name] for published, name in published_names(vit).items()}
    naf = (vars(family.naf.config), family.naf.state_dict()) if projected else None
    write_family(folder, models, args, dino, naf)
    if projected:
        write_family(folder, models, args, pipeline="pipeline_mv.json")
    return Path(folder)
