"""GenRecon: what many views say about voxels, chunks sampled together, and the memory of scenes of any size."""

from __future__ import annotations

from .op import Contender, Op

BATCH = 512  # voxels at a time in the materialized form, so that it fits into memory at all


def _views(case: dict):
    """Random tokens and weights, cameras inside a room, points on a grid around them."""
    import math

    import torch

    from ...kernels.view_projection import project_to_patches, voxel_centers

    draw = torch.Generator().manual_seed(0)
    n, width, side = case["views"], case["width"], 32
    tokens = torch.randn(n, 5 + side * side, width, generator=draw)
    poses = torch.eye(4).repeat(n, 1, 1)
    for i in range(n):
        a = 2 * math.pi * i / n
        forward = torch.tensor([math.cos(a), math.sin(a), -0.2])
        forward = forward / forward.norm()
        right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
        right = right / right.norm()
        poses[i, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    lens = torch.tensor([[0.6, 0, 0.5], [0, 0.6, 0.5], [0, 0, 1.0]]).repeat(n, 1, 1)
    points = voxel_centers(32)[torch.randperm(32**3, generator=draw)[: case["voxels"]]] * 2
    patch, valid = project_to_patches(points, poses, lens, side)
    layers = [(width, 3 * width), (width, width), (width, width), (width, 3 * width), (1, width)]
    made = [(torch.randn(*s, generator=draw) * s[1] ** -0.5, torch.randn(s[0], generator=draw)) for s in layers]
    device = case["device"]
    made = [(w.to(device), b.to(device)) for w, b in made]
    return tokens.to(device), patch.to(device), valid.to(device), (tuple(made[:3]), tuple(made[3:]))


def _streamed(case):
    from ...kernels.view_aggregation import AggregatorWeights, aggregate_tokens

    tokens, patch, valid, layers = _views(case)
    weights = AggregatorWeights(*layers)
    return lambda: {"features": aggregate_tokens(tokens, patch, valid, weights)}


def _materialized(case):
    import torch

    from ...kernels.view_aggregation import AggregatorWeights, aggregate
    from ...kernels.view_projection import lift

    tokens, patch, valid, layers = _views(case)
    weights = AggregatorWeights(*layers)

    @torch.no_grad()
    def run():
        parts = []
        for start in range(0, patch.shape[1], BATCH):
            some = slice(start, start + BATCH)
            parts.append(aggregate(lift(tokens, patch[:, some], valid[:, some]), valid[:, some], weights))
        return {"features": torch.cat(parts)}

    return run


def _scene(case: dict, *, store: int, batch: int):
    """The structure stage of a row of chunks with a small random flow."""
    import torch

    from ...models.genrecon.checkpoint import build_flow
    from ...models.genrecon.family import ROLES, SceneFamily
    from ...models.genrecon.joint_condition import SceneViews
    from ...models.genrecon.scene_sampling import SceneSampler
    from ...models.trellis2.cascade import CascadeConfig, Normalization
    from ...models.trellis2.samplers import SamplerSettings

    args = dict(
        resolution=16, in_channels=8, out_channels=8, model_channels=64, cond_channels=case["width"], num_blocks=1,
        num_heads=2, mlp_ratio=2.0, pe_mode="rope", share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True,
        dense=True,
    )  # fmt: skip
    model = build_flow(args).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw) * (0.1 if p.ndim == 1 else p[0].numel() ** -0.5))
        model.rope_phases.copy_(model.computed_buffers()["rope_phases"])
    plain = Normalization((0.0,), (1.0,))
    family = SceneFamily(CascadeConfig(plain, plain), {ROLES["structure"]: model.eval()}, device=case["device"])
    tokens, _, _, _ = _views({**case, "views": 4, "voxels": 8})
    poses = torch.eye(4).repeat(4, 1, 1)
    poses[:, 2, 3] = 2.0
    lens = torch.tensor([[0.6, 0, 0.5], [0, 0.6, 0.5], [0, 0, 1.0]]).repeat(4, 1, 1).to(tokens)
    relative = torch.tensor([[0.75 * i, 0.0, 0.0] for i in range(case["chunks"])], dtype=torch.float64)
    settings = {"structure": SamplerSettings(case["steps"], 3.0, 0.7, (0.6, 1.0), 5.0)}

    def run():
        views = SceneViews(tokens, poses.to(tokens), lens)
        sampler = SceneSampler(
            family, views, relative, [0] * len(relative), 0, settings, batch=batch, store_bytes=store, cells=1024
        )
        return {"latents": sampler.structure()}

    return run


def _flat(case):
    return _scene(case, store=0, batch=1)


def _kept(case):
    return _scene(case, store=1 << 40, batch=1)


def _batched(case):
    return _scene(case, store=1 << 40, batch=case.get("batch", 4))


OPS = [
    Op(
        "genrecon_projection",
        "features of voxels from all views that see them",
        {
            "S": dict(views=8, voxels=1024, width=256),
            "M": dict(views=32, voxels=1024, width=1024),
            "L": dict(views=32, voxels=8192, width=1024),
        },
        (
            Contender("ours", _streamed),
            Contender("materialized", _materialized, note=f"the released form, {BATCH} voxels at a time"),
        ),
    ),
    Op(
        "genrecon_chunks",
        "the structure stage of chunks, four in a call against one after the other",
        {
            "S": dict(chunks=4, steps=2, width=64, batch=4),
            "M": dict(chunks=8, steps=4, width=64, batch=4),
            "L": dict(chunks=16, steps=4, width=64, batch=4),
        },
        (Contender("batched", _batched), Contender("loop", _kept)),
    ),
    Op(
        "genrecon_scene",
        "the structure stage of scenes of 4, 16 and 64 chunks: peak memory with the condition in a file",
        {
            "S": dict(chunks=4, steps=1, width=512),
            "M": dict(chunks=16, steps=1, width=512),
            "L": dict(chunks=64, steps=1, width=512),
        },
        (Contender("streamed", _flat), Contender("kept", _kept)),
    ),
]
