"""Writes a FLUX.1 of a few megabytes with random weights for core's loaders, asked by `flux_worker.py`."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from sightline.models.seethrough3d.lora import ConditionLora, LoraShape, save_lora

WIDTH, TEXT, POOLED = 128, 64, 32
FILES = {
    "diffusion_models": "flux-tiny-random.safetensors",
    "text_encoders/clip_l": "clip_l-tiny-random.safetensors",
    "text_encoders/t5xxl": "t5xxl-tiny-random.safetensors",
    "vae": "vae-tiny-random.safetensors",
    "loras": "seethrough3d-tiny-random.safetensors",
}


def random(generator, *shape, gain=1.0):
    deviation = gain / max(1, shape[-1] if len(shape) > 1 else 1) ** 0.5
    return torch.randn(shape, generator=generator) * deviation


def t5(generator):
    weights = {
        "shared.weight": torch.randn(32128, TEXT, generator=generator),
        "encoder.final_layer_norm.weight": torch.ones(TEXT),
    }
    for layer in range(2):
        stem = f"encoder.block.{layer}.layer"
        for name in "qkvo":
            weights[f"{stem}.0.SelfAttention.{name}.weight"] = random(generator, TEXT, TEXT)
        weights[f"{stem}.0.layer_norm.weight"] = torch.ones(TEXT)
        weights[f"{stem}.1.layer_norm.weight"] = torch.ones(TEXT)
        for name, shape in (("wi_0", (128, TEXT)), ("wi_1", (128, TEXT)), ("wo", (TEXT, 128))):
            weights[f"{stem}.1.DenseReluDense.{name}.weight"] = random(generator, *shape)
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return weights | {bias: torch.zeros(32, 2)}


def clip_l(generator):
    stem = "text_model"
    weights = {
        f"{stem}.embeddings.token_embedding.weight": random(generator, 49408, POOLED, gain=3),
        f"{stem}.embeddings.position_embedding.weight": random(generator, 77, POOLED),
    }
    for layer in range(2):
        block = f"{stem}.encoder.layers.{layer}"
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
            weights[f"{block}.{name}.weight"] = random(generator, POOLED, POOLED)
            weights[f"{block}.{name}.bias"] = torch.zeros(POOLED)
        for name, shape in (("mlp.fc1", (64, POOLED)), ("mlp.fc2", (POOLED, 64))):
            weights[f"{block}.{name}.weight"] = random(generator, *shape)
            weights[f"{block}.{name}.bias"] = torch.zeros(shape[0])
        for name in ("layer_norm1", "layer_norm2"):
            weights[f"{block}.{name}.weight"], weights[f"{block}.{name}.bias"] = torch.ones(POOLED), torch.zeros(POOLED)
    ends = {f"{stem}.final_layer_norm.weight": torch.ones(POOLED), f"{stem}.final_layer_norm.bias": torch.zeros(POOLED)}
    return weights | ends


def write(models: Path):
    """All files, in core's model folders."""
    import comfy.taesd.taesd
    from native_flux import flux_model

    generator = torch.Generator().manual_seed(0)
    config = {
        "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": WIDTH,
        "num_attention_heads": 1, "joint_attention_dim": TEXT, "pooled_projection_dim": POOLED, "guidance_embeds": True,
        "axes_dims_rope": [16, 56, 56],
    }  # fmt: skip
    network = flux_model(config, None).model.diffusion_model
    flux = {
        name: torch.ones(value.shape) if name.endswith("norm.weight") else random(generator, *value.shape)
        for name, value in network.state_dict().items()
    }
    vae = comfy.taesd.taesd.TAESD(latent_channels=16).state_dict()
    for name, value in vae.items():
        if value.ndim == 4:
            vae[name] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        elif value.ndim:
            vae[name] = torch.zeros(value.shape)
        else:
            vae[name] = torch.tensor(0.0 if "shift" in name else 1.0)
    lora = ConditionLora(LoraShape(1, 2, WIDTH, (4,)))
    for value in lora.parameters():
        value.copy_(random(generator, *value.shape))
    contents = dict(zip(FILES, (flux, clip_l(generator), t5(generator), vae)))
    for folder, weights in contents.items():
        path = models / folder.split("/")[0] / FILES[folder]
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in weights.items()}, str(path))
    (models / "loras").mkdir(exist_ok=True)
    save_lora(lora, models / "loras" / FILES["loras"])
