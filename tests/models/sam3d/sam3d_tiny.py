"""A tiny SAM 3D Objects with random weights, in the layout of the published folder."""

from pathlib import Path

import torch
import yaml

from sightline.models.sam3d.checkpoint import build_part, published_names

DINO = dict(embed_dim=64, depth=1, num_heads=1, img_size=28, patch_size=14, mlp_ratio=2)
POINTS = dict(input_size=32, patch_size=8, embed_dim=32, heads=1)
FLOW = dict(model_channels=48, cond_channels=64, num_blocks=1, num_heads=2, mlp_ratio=2, use_fp16=False)
DECODER = dict(model_channels=64, num_blocks=1, num_heads=1, latent_channels=8, mlp_ratio=2, window_size=4,
               resolution=8, use_fp16=False)  # fmt: skip
ARGS = {
    "ss_generator": dict(FLOW, resolution=4),
    "ss_condition_embedder": {"dino": DINO, "points": POINTS},
    "ss_decoder": dict(channels=[16, 8], num_res_blocks=1, num_res_blocks_middle=1, latent_channels=8),
    "slat_generator": dict(FLOW, resolution=8, io_block_channels=[16]),
    "slat_condition_embedder": {"dino": DINO},
    "slat_decoder_gs": DECODER | {"representation_config": {"num_gaussians": 32}},
    "slat_decoder_gs_4": DECODER | {"representation_config": {"num_gaussians": 4}},
    "slat_decoder_mesh": DECODER | {"model_channels": 256, "num_heads": 4},
}
STEPS = 4


def random_part(part: str, seed: int) -> torch.nn.Module:
    """One network with random weights."""
    generator = torch.Generator().manual_seed(seed)
    model = build_part(part, ARGS[part])
    buffers = model.computed_buffers() if hasattr(model, "computed_buffers") else {}
    model = model.to_empty(device="cpu").requires_grad_(False).eval()
    for name, value in model.state_dict().items():
        spread = 1.0 if value.ndim < 2 else value[0].numel() ** -0.5
        value.copy_(buffers.get(name, torch.randn(value.shape, generator=generator) * spread))
    if part == "ss_generator":  # poses near the noise they begin as, not far beyond the picture
        for name, latent in model.latent_mapping.items():
            if name != "shape":
                latent.out_layer.weight *= 0.05
                latent.out_layer.bias *= 0.05
    if part == "ss_decoder":  # a quarter of the voxels is occupied
        shape = (1, 8, 4, 4, 4)
        logits = model(torch.randn(shape, generator=generator))
        model.out_layer[2].bias -= logits.quantile(0.75)
    return model


def write_family(folder: Path, suffix: str = ".ckpt", config: bool = True) -> Path:
    """The folder of a tiny family; config: with `pipeline.yaml` and the networks' `.yaml`, as published."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {part: random_part(part, seed) for seed, part in enumerate(ARGS)}
    files = {
        "ss_generator": ("ss_generator", "ss_condition_embedder"),
        "slat_generator": ("slat_generator", "slat_condition_embedder"),
        **{part: (part,) for part in ARGS if part.endswith(("decoder", "gs", "gs_4", "mesh"))},
    }
    pipeline = {"ss_inference_steps": STEPS, "slat_inference_steps": STEPS, "slat_cfg_strength": 1,
                "slat_rescale_t": 1, "downsample_ss_dist": 1, "dtype": "float16"}  # fmt: skip
    for stem, members in files.items():
        state = {}
        for part in members:
            state |= {name: value.clone().contiguous() for name, value in published_names(part, parts[part]).items()}
        path = folder / f"{stem}{suffix}"
        if suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, path)
        else:
            torch.save({"state_dict": state, "epoch": 1} if "generator" in stem else state, path)
        if config:
            inner = {key: value for key, value in ARGS[members[0]].items() if key != "num_gaussians"}
            if "generator" in stem:
                backbone = {"_target_": "sam3d_objects.model.Flow", "reverse_fn": {"backbone": inner}}
                inner = {"module": {"generator": {"backbone": backbone}}, "tdfy": {"name": "${name}"}}
            (folder / f"{stem}.yaml").write_text(yaml.safe_dump(inner))
            pipeline |= {f"{stem}_ckpt_path": path.name, f"{stem}_config_path": f"{stem}.yaml"}
    if config:
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    return folder


def scene(height: int = 48, width: int = 64, seed: int = 0):
    """A picture [3, H, W], the mask [H, W] of a ball in it and its point map [3, H, W] (x left, y up, z in)."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    u, v = (x - width / 2) / height, (y - height / 2) / height
    ball = u**2 + v**2 < 0.09
    depth = torch.where(ball, 2.0 - 0.5 * (0.09 - u**2 - v**2).clamp(min=0).sqrt(), 4.0)
    points = torch.stack([-u * depth, -v * depth, depth])
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    picture = torch.where(ball, torch.tensor([0.9, 0.3, 0.2])[:, None, None], torch.full((3, 1, 1), 0.6)) * 0.8
    return picture + 0.2 * noise, ball.float(), points
