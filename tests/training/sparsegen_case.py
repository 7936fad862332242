"""A network and a recipe small enough to train in tests."""

import numpy as np

from sightline.training.sparsegen.procedural_data import ViewShard
from sightline.training.sparsegen.recipe import recipe_from_dict

MODEL = dict(
    input_size=16, image_size=16, patch_size=8, vit_grid=2, vit_dims=16, vit_depth=1, vit_heads=2, vit_mlp_dims=32,
    embed_dims=16, ffn_dims=32, num_heads=2, num_encoder_layers=1, num_decoder_layers=2, head_sets=2, depth_num=4,
    num_query=6, num_gs_per_query=4, dropout=0.1, ray_convention="centered", align_first_view=True, virtual_views=0,
)  # fmt: skip


def recipe(**changes):
    values = {
        "name": "test",
        "seed": 3,
        "steps": 40,
        "batch_size": 2,
        "save_every": 1000,
        "log_every": 5,
        "initialize": {"style": "short_run", "calibrate": True},
        "model": dict(MODEL),
        "data": {"folder": "unused", "size": 16, "clean": {1: 0.7, 2: 0.3}, "noisy": {0: 0.3, 1: 0.7}, "rendered": 3},
        "optimizer": {"lr": 3e-3, "warmup": 3, "schedule": "cosine", "clip": 1.0, "muon": True},
        "ema": {"short_run": True, "decay": 0.9, "update_every": 2},
        "noise": {"pure": 0.5},
        "views": {
            "drop_all_clean": 0.1,
            "noisy_dropout": 0.0,
            "penalize": "all",
            "self_condition": 0.5,
            "early_layer_views": 1,
        },
        "losses": {"perceptual": 0.0, "ssim": 0.1, "ssim_alone": True, "occupancy": 0.2, "offset": 0.01},
    }
    for key, value in changes.items():
        values[key] = value if not isinstance(value, dict) else values.get(key, {}) | value
    return recipe_from_dict(values)


def shard(objects=3, views=5, size=16):
    """Colored squares of one size: easy to learn, quick to make."""
    rng = np.random.default_rng(0)
    rgba = np.zeros((objects, views, size, size, 4), np.uint8)
    for k in range(objects):
        rgba[k, :, 5:11, 5:11, :3] = rng.integers(0, 255, 3)
        rgba[k, :, 5:11, 5:11, 3] = 255
    azimuth = rng.uniform(0, 360, (objects, views)).astype(np.float32)
    elevation = rng.uniform(0, 30, (objects, views)).astype(np.float32)
    return ViewShard(rgba, azimuth, elevation, ["square"] * objects, list(range(objects)))
