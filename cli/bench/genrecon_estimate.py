"""GenRecon: what the estimate says before a scene is sampled, against what sampling it takes.

A procedural room is planned from the sparse points of its model; the estimate sees nothing else. Then its three stages
are sampled by small random flows at the released resolutions. Random flows make no room: the voxels of the later stages
are the surface of the room, as the drawing of it knows it. Times are of the processor, since machines are shared.
"""

from __future__ import annotations

from .op import Contender, Op

POINTS, VIEWS, SEED = 20_000, 16, 3
FLOW = dict(
    model_channels=256, cond_channels=256, num_blocks=2, num_heads=4, mlp_ratio=4.0, pe_mode="rope", share_mod=True,
    qk_rms_norm=True, qk_rms_norm_cross=True,
)  # fmt: skip
STAGES = {
    "structure": dict(resolution=16, in_channels=8, out_channels=8, dense=True, **FLOW),
    "shape": dict(resolution=32, in_channels=32, out_channels=32, dense=False, **FLOW),
    "texture": dict(resolution=32, in_channels=64, out_channels=32, dense=False, **FLOW),
}


def _family(device: str):
    import torch

    from ...models.genrecon.checkpoint import build_flow
    from ...models.genrecon.family import ROLES, SceneFamily
    from ...models.trellis2.cascade import CascadeConfig, Normalization

    draw, models = torch.Generator().manual_seed(0), {}
    for stage, args in STAGES.items():
        model = build_flow(args).to_empty(device="cpu")
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=draw) * (0.1 if p.ndim == 1 else p[0].numel() ** -0.5))
            if args["dense"]:
                model.rope_phases.copy_(model.computed_buffers()["rope_phases"])
        models[ROLES[stage]] = model.eval().requires_grad_(False)
    plain = Normalization((0.0,) * 32, (1.0,) * 32)
    return SceneFamily(CascadeConfig(plain, plain), models, device=device)


def _planned(case: dict):
    """The room and its plan."""
    import numpy as np

    from ...pipelines.genrecon import PlanOptions, plan_scene
    from ...scene.captures import PointFilter
    from ...scene.lens_distortion import Lens
    from ...scene.scene_photos import BLENDER, Photo, ScenePhotos
    from ...training.procedural_room import make_room, room_capture

    room = make_room(SEED, (case["side"], case["side"], 2.6))
    capture = room_capture(room, VIEWS, (64, 64), POINTS)
    cameras = capture.cameras
    photos = []
    for i in range(VIEWS):
        k = cameras.intrinsics[i].double().numpy()
        pose = np.linalg.inv(cameras.world_to_camera[i].double().numpy()) @ BLENDER
        lens = Lens.pinhole(64, 64, (k[0, 0], k[1, 1]), (k[0, 2], k[1, 2]))
        photos.append(Photo(f"view {i}", np.zeros((64, 64, 3), np.uint8), pose, lens))
    filtered = PointFilter(radius_points=3, radius=0.25)
    options = PlanOptions(num_imgs_per_scene=VIEWS, min_points_per_chunk=50, points=filtered)
    return room, plan_scene(ScenePhotos(tuple(photos), capture.points), options)


def _surface(room, layout, resolution: int, fine: int = 3):
    """Per chunk the voxels [N, 3] that the room's surface crosses, seen from inside."""
    import torch

    found = []
    for center in layout.centers:
        lines = [
            torch.linspace(c - layout.size / 2, c + layout.size / 2, resolution * fine + 1) for c in center.tolist()
        ]
        points = torch.cartesian_prod(*lines)
        half_x, half_y, height = room.size[0] / 2, room.size[1] / 2, room.size[2]
        free = torch.minimum(half_x - points[:, 0].abs(), half_y - points[:, 1].abs())
        free = torch.minimum(free, torch.minimum(points[:, 2], height - points[:, 2])) > 0
        for primitive in room.primitives[6:]:
            outline = primitive.bounds_points()
            near = ((points > outline.amin(0) - 0.02) & (points < outline.amax(0) + 0.02)).all(1).nonzero().squeeze(1)
            free[near[primitive.sdf(points[near]) <= 0]] = False
        grid = free.reshape([resolution * fine + 1] * 3).float()[None, None]
        top = torch.nn.functional.max_pool3d(grid, fine + 1, fine)[0, 0]
        low = -torch.nn.functional.max_pool3d(-grid, fine + 1, fine)[0, 0]
        found.append((top != low).nonzero().int())
    return found


def _sampled(case: dict):
    import time

    import torch

    from ...models.genrecon.joint_condition import SceneViews
    from ...models.genrecon.scene_sampling import SAMPLERS, SceneSampler
    from ...pipelines.genrecon import SampleOptions, estimate_scene
    from .runner import peak_resident, resident

    family = _family(case["device"])
    room, plan = _planned(case)
    if len(plan.layout) != case["chunks"]:
        raise RuntimeError(f"the room has {len(plan.layout)} chunks instead of {case['chunks']}")
    tokens = torch.randn(VIEWS, 5 + 32 * 32, 256, generator=torch.Generator().manual_seed(0))
    cameras = (torch.from_numpy(v).to(case["device"]) for v in (plan.views.extrinsics, plan.views.intrinsics))
    views = SceneViews(tokens.to(case["device"]), *cameras)
    # guidance in the middle of the released settings: half of the steps are evaluated twice
    one = dict(
        steps=case["steps"], guidance_strength=3.0, guidance_rescale=0.5, guidance_interval=(0.6, 1.0), rescale_t=3.0
    )
    changes = {role: one for role in SAMPLERS.values()}
    options = SampleOptions(samplers=changes)
    coords = _surface(room, plan.layout, STAGES["shape"]["resolution"])

    def run():
        before = resident() or 0
        expected = estimate_scene(family, plan, options, views, clock=time.process_time)
        settings = family.settings(changes)
        sampler = SceneSampler(
            family, views, torch.from_numpy(plan.layout.relative), plan.views.chunk_views, 0,
            {stage: settings[role] for stage, role in SAMPLERS.items()},
        )  # fmt: skip
        begin = time.process_time()
        sampler.structure()
        shape = sampler.latent("shape", coords)
        sampler.latent("texture", coords, shape)
        taken, peak = time.process_time() - begin, peak_resident() or 0
        numbers = dict(
            estimated_s=expected.total, measured_s=taken, estimated_voxels=sum(expected.tokens),
            voxels=sum(len(c) for c in coords), estimated_bytes=expected.memory, measured_bytes=peak, before=before,
        )  # fmt: skip
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in numbers.items()}

    return run


def _ratios(case: dict, outputs: dict) -> dict[str, float]:
    found = {name: float(value) for name, value in outputs.items()}
    before = found.pop("before")
    return {
        "seconds, estimated": found["estimated_s"],
        "measured": found["measured_s"],
        "ratio": found["estimated_s"] / found["measured_s"],
        "voxels, estimated by real": found["estimated_voxels"] / found["voxels"],
        "MB, estimated": found["estimated_bytes"] / 1e6,
        "MB, measured": found["measured_bytes"] / 1e6,
        "MB, before": before / 1e6,
        "memory ratio": found["estimated_bytes"] / found["measured_bytes"],
    }


OPS = [
    Op(
        "genrecon_estimate",
        "the estimate of time and memory before sampling a scene, by what sampling it takes",
        {
            "S": dict(chunks=4, side=3.6, steps=1),
            "M": dict(chunks=16, side=8.0, steps=1),
            "L": dict(chunks=16, side=8.0, steps=4),
        },
        (Contender("sampled", _sampled),),
        _ratios,
    ),
]
