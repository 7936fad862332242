"""A data folder of four small objects, balls and boxes, and recipes of tiny networks for every stage."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sightline.training.trellis2.recipe import recipe_from_dict

SIDE, TOKENS, LATENT = 16, 4, 4
FLOW = {
    "model_channels": 24, "cond_channels": 128, "num_blocks": 2, "num_heads": 2, "mlp_ratio": 2.0, "pe_mode": "rope",
    "share_mod": True, "initialization": "scaled", "qk_rms_norm": True, "qk_rms_norm_cross": True,
}  # fmt: skip
PROJ = {"image_attn_mode": "proj", "proj_in_channels": 128}
SPARSE = {"model_channels": [8, 16, 16], "latent_channels": LATENT, "num_blocks": [0, 1, 1]}
BACK = {**SPARSE, "model_channels": [16, 16, 8], "num_blocks": [1, 1, 0]}
DENSE = {"latent_channels": 2, "num_res_blocks": 1, "num_res_blocks_middle": 1, "channels": [8, 16]}
NETWORKS = {
    "structure_vae": {
        "encoder": {"name": "SparseStructureEncoder", "args": {**DENSE, "in_channels": 1}},
        "decoder": {"name": "SparseStructureDecoder", "args": {**DENSE, "channels": [16, 8], "out_channels": 1}},
    },
    "shape_vae": {
        "encoder": {"name": "FlexiDualGridVaeEncoder", "args": SPARSE},
        "decoder": {"name": "FlexiDualGridVaeDecoder", "args": BACK},
    },
    "texture_vae": {
        "encoder": {"name": "SparseUnetVaeEncoder", "args": {**SPARSE, "in_channels": 6}},
        "decoder": {"name": "SparseUnetVaeDecoder", "args": {**BACK, "out_channels": 6, "pred_subdiv": False}},
    },
    "structure_flow": {
        "denoiser": {
            "name": "SparseStructureFlowModel",
            "args": {**FLOW, "resolution": TOKENS, "in_channels": 2, "out_channels": 2},
        }
    },
    "shape_flow": {
        "denoiser": {
            "name": "SLatFlowModel",
            "args": {**FLOW, **PROJ, "resolution": TOKENS, "in_channels": LATENT, "out_channels": LATENT},
        }
    },
    "texture_flow": {
        "denoiser": {
            "name": "SLatFlowModel",
            "args": {**FLOW, **PROJ, "resolution": TOKENS, "in_channels": 2 * LATENT, "out_channels": LATENT},
        }
    },
}


def tiny_recipe(stage: str, **changes):
    """A recipe of a stage that runs in seconds on a CPU."""
    projects = "image_attn_mode" in str(NETWORKS[stage])
    size = TOKENS if stage == "structure_vae" else SIDE
    values = {
        "name": f"tiny_{stage}", "stage": stage, "networks": NETWORKS[stage], "steps": 50, "batch_size": 2, "splits": 1,
        "precision": "no", "ema": 0.9, "log_every": 5, "save_every": 1000, "sample_every": 0,
        "data": {"resolution": size, "image_size": 128, "crop": not projects, "view_aligned": projects,
                 "min_aesthetic_score": None, "normalization": "none", "shape_normalization": "none"},
        "condition": {"encoder": "embedded"}, "optimizer": {"lr": 5e-3, "warmup": 5},
        "losses": {"intersected": 1.0, "vertex": 1.0, "subdivision": 1.0},
    }  # fmt: skip
    return recipe_from_dict({**values, **changes})


def grid(seed: int):
    """Dual grid of a ball: coords, vertices in [0, 1], crossed edges."""
    radius = 4.5 + 0.5 * seed
    line = torch.arange(SIDE + 1).float() - SIDE / 2
    inside = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).norm(dim=-1) < radius
    upper = inside[1:, 1:, 1:]
    lower = inside[:-1, 1:, 1:], inside[1:, :-1, 1:], inside[1:, 1:, :-1]
    crossed = torch.stack([part != upper for part in lower], -1)
    active = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.bool)
    for axis in range(3):
        u, v = (a for a in range(3) if a != axis)
        for du in range(2):
            for dv in range(2):
                active |= torch.roll(crossed[..., axis], (du, dv), (u, v))
    coords = torch.nonzero(active)
    return coords, torch.full((len(coords), 3), 0.5), crossed[active]


def write_data(root: Path, count: int = 4) -> Path:
    """Everything that any stage reads."""
    names = [f"{i:064x}" for i in range(count)]
    folders = {k: root / k for k in ("base", "ss_latent", "shape_latent", "pbr_latent", "render_cond", "dual_grid",
                                     "pbr_voxel", "shape_view", "pbr_view")}  # fmt: skip
    for folder in folders.values():
        folder.mkdir(parents=True)
    for i, sha in enumerate(names):
        generator = np.random.default_rng(i)
        coords, vertices, crossed = grid(i)
        tokens = torch.unique(coords // (SIDE // TOKENS), dim=0).numpy().astype(np.uint8)
        feats = np.sin(tokens.sum(1, keepdims=True) + np.arange(LATENT) + i).astype(np.float32)
        ramp = np.indices([TOKENS] * 3).sum(0)
        np.savez(folders["ss_latent"] / f"{sha}.npz", z=np.stack([np.sin(ramp + i), np.cos(ramp)]).astype(np.float32))
        for key in ("shape_latent", "pbr_latent"):
            np.savez(folders[key] / f"{sha}.npz", coords=tokens, feats=feats)
        for key in ("shape_view", "pbr_view"):
            (folders[key] / sha).mkdir()
            np.savez(folders[key] / sha / "view00.npz", coords=tokens, feats=feats)
            (folders[key] / sha / "view00_scale.json").write_text('{"total_scale": 1.0}')
        bits = (crossed.long() << torch.arange(3)).sum(1).numpy().astype(np.uint8)
        corner = (vertices * 255).round().numpy().astype(np.uint8)
        np.savez(folders["dual_grid"] / f"{sha}.npz", coords=coords.numpy().astype(np.uint16), vertices=corner,
                 intersected=bits)  # fmt: skip
        color = np.tile(generator.integers(0, 256, (1, 3), dtype=np.uint8), (len(coords), 1))
        plain = np.full(len(coords), 128, np.uint8)
        np.savez(folders["pbr_voxel"] / f"{sha}.npz", coords=coords.numpy().astype(np.uint16), base_color=color,
                 metallic=plain, roughness=plain, alpha=plain + 127)  # fmt: skip
        (folders["render_cond"] / sha).mkdir()
        picture = np.zeros((96, 96, 4), np.uint8)
        picture[20 : 70 + 4 * i, 20:70] = [*color[0], 255]
        Image.fromarray(picture).save(folders["render_cond"] / sha / "000.png")
        pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2.0], [0, 0, 0, 1]]
        frame = {"file_path": "000.png", "camera_angle_x": math.radians(40), "transform_matrix": pose}
        (folders["render_cond"] / sha / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    fields = {
        "ss_latent_encoded": True, "shape_latent_encoded": True, "pbr_latent_encoded": True, "cond_rendered": True,
        "dual_grid_converted": True, "pbr_voxelized": True, "shape_latent_tokens": 20, "aesthetic_score": 5.0,
    }  # fmt: skip
    with open(folders["base"] / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["sha256", *fields])
        writer.writeheader()
        writer.writerows({"sha256": sha, **fields} for sha in names)
    table = {key: key for key in folders if not key.endswith("_view")}
    (root / "dataset.json").write_text(json.dumps({"tiny": table}))
    aligned = {**table, "shape_latent": "shape_view", "pbr_latent": "pbr_view"}
    (root / "aligned.json").write_text(json.dumps({"tiny": aligned}))
    return root


def data_of(root: Path, recipe) -> Path:
    return root / "aligned.json" if recipe.data.view_aligned else root
