"""GenRecon: posed photos of a room -> one PBR mesh of the whole room.

photos -> points -> chunks -> views -> tokens -> per voxel condition -> structure of all chunks -> voxels -> shape ->
texture -> one mesh. Every chunk is sampled by itself, overlaps are averaged after every step. The result lies in the
world of the photos (Z up).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.genrecon.estimate import Estimate, estimate
from ..models.genrecon.family import ROLES, SceneFamily
from ..models.genrecon.joint_condition import SceneViews
from ..models.genrecon.joint_decode import GROUP_HALO, SceneMesh, decode_scene, make_groups, merge_latents
from ..models.genrecon.processes import Processes
from ..models.genrecon.scene_sampling import SAMPLERS, SceneSampler
from ..models.genrecon.stage_files import StageFiles, fingerprint
from ..models.trellis2.memory import available, weight_bytes
from ..scene.captures import PointFilter
from ..scene.chunk_layout import (
    LEAST_POINTS,
    ChunkLayout,
    RoomBox,
    cameras_in_walls,
    drop_empty,
    place_chunks,
    room_box,
)
from ..scene.errors import InputError
from ..scene.scene_photos import ScenePhotos
from ..scene.surface_cells import expected_cells
from ..scene.view_choice import ViewPlan, plan_views, view_pictures

MAX_VIEWS = 1000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PlanOptions:
    """How a room is cut into chunks and which photos are used; names and defaults of the reference's options.

    chunk_size_factor: chunk size in room heights; max_chunk_size: in world units, several layers above each other
    where the room is taller (None: one layer). bounds: of the room, given instead of found.
    """

    num_imgs_per_scene: int = 32
    chunk_size_factor: float = 1.11
    min_overlap_factor: float = 4
    min_points_per_chunk: int = 500
    crop: str = "center"
    seed: int = 42
    extra_size: float = 0.0
    max_chunk_size: float | None = None
    bounds: tuple[tuple[float, float], ...] | None = None
    points: PointFilter = field(default_factory=PointFilter)


@dataclass(frozen=True, eq=False)
class ScenePlan:
    """Everything decided before a network runs: photos, cleaned points [P, 3] (world), chunks, views; box: of the room,
    None for a layout that was given where there are too few points to find it."""

    scene: ScenePhotos
    points: np.ndarray
    layout: ChunkLayout
    views: ViewPlan
    notes: tuple[str, ...] = ()
    box: RoomBox | None = None


def plan_scene(scene: ScenePhotos, options: PlanOptions | None = None, layout: ChunkLayout | None = None) -> ScenePlan:
    """Chunks and views of a scene; layout: given instead of made. Raises InputError, saying what would work."""
    options = options or PlanOptions()
    if not 1 <= options.num_imgs_per_scene <= MAX_VIEWS:
        raise InputError(
            f"{options.num_imgs_per_scene} photos were asked for; from 1 to {MAX_VIEWS} are used in a run."
        )
    points, notes, box = np.zeros((0, 3)), [], None
    if scene.points is not None:
        points = scene.points.xyz[options.points.apply(scene.points)]
    if layout is None:
        if scene.points is None and (options.bounds is None or len(options.bounds) < 3):
            raise InputError(
                "The capture has no points; give the bounds of the room in x, y and z, or a model with points."
            )
        box = room_box(points, options.bounds)
        layout = place_chunks(
            box, options.chunk_size_factor, options.min_overlap_factor, options.extra_size, options.max_chunk_size
        )
        if scene.points is not None:
            layout = drop_empty(layout, points, options.min_points_per_chunk)
        if not 1.5 <= box.height <= 12:
            notes.append(
                f"the room is {box.height:.3g} high; rooms are a few meters high: check scale and up direction"
            )
        walled = cameras_in_walls(scene.poses[:, :3, 3], points, box)
        if len(walled):
            names = ", ".join(scene.photos[i].name for i in walled[:3])
            notes.append(
                f"photos from within or behind a wall: {len(walled)} ({names}); check their poses, or leave them out"
            )
    elif len(points) >= LEAST_POINTS:
        box = room_box(points)
    views = plan_views(scene, layout, options.num_imgs_per_scene, options.crop, options.seed)
    if views.unseen:
        names = ", ".join(scene.photos[i].name for i in views.unseen[:3])
        notes.append(f"{len(views.unseen)} photos see no chunk and are left out ({names})")
    return ScenePlan(scene, points, layout, views, tuple(notes), box)


@torch.no_grad()
def encode_views(family: SceneFamily, plan: ScenePlan, batch: int = 4, progress: Progress | None = None) -> SceneViews:
    """The tokens of every view, each encoded once, `batch` at a time."""
    parts, waiting, count = [], [], len(plan.views)
    source = hashlib.sha256()
    with family.on_device(family.encoder()) as encoder:
        for i, picture in enumerate(view_pictures(plan.scene, plan.views, family.image_size)):
            waiting.append(picture)
            source.update(picture.contiguous().numpy().tobytes())
            if len(waiting) == batch or i + 1 == count:
                parts.append(encoder(torch.stack(waiting).to(family.device)).float())
                waiting = []
                if progress:
                    progress("photos", i + 1, count)
        prefix = encoder.prefix_tokens
    cameras = (torch.from_numpy(v).to(family.device) for v in (plan.views.extrinsics, plan.views.intrinsics))
    return SceneViews(torch.cat(parts), *cameras, prefix, source.hexdigest())


@torch.no_grad()
def estimate_scene(
    family: SceneFamily,
    plan: ScenePlan,
    options: SampleOptions | None = None,
    views: SceneViews | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Time and memory of `sample_scene`, before it starts and before a voxel is known.

    views: of `encode_views`; without them one photo is read and encoded to see how long that takes. A few evaluations
    of the networks are timed by `clock`. Voxels are expected where the points show the surface of the room
    (`scene.surface_cells`).
    """
    options = options or SampleOptions()
    settings, photos = family.settings(options.samplers), 0.0
    if views is None:
        one = replace(
            plan.views, crops=plan.views.crops[:1], extrinsics=plan.views.extrinsics[:1],
            intrinsics=plan.views.intrinsics[:1],
        )  # fmt: skip
        begin = clock()
        first = encode_views(family, replace(plan, views=one))
        photos = (clock() - begin) * len(plan.views)
        cameras = (torch.from_numpy(v).to(family.device) for v in (plan.views.extrinsics, plan.views.intrinsics))
        views = SceneViews(first.tokens.expand(len(plan.views), -1, -1).contiguous(), *cameras, first.prefix)
    tokens = surface = None
    if plan.box is not None:
        resolution = family.get(ROLES["shape"]).config.resolution
        tokens = expected_cells(plan.points, plan.layout, resolution, plan.box).round().astype(int).tolist()
        to_joint = plan.layout.world_to_chunk[0]
        surface = torch.from_numpy(plan.points @ to_joint[:3, :3].T + to_joint[:3, 3])
    return estimate(
        family, {stage: settings[role] for stage, role in SAMPLERS.items()}, torch.from_numpy(plan.layout.relative),
        views, tokens, surface, cells=options.proj_batch_voxels, batch=options.batch, photos=photos,
        voxels=not options.zero_3d_cond, clock=clock,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class SceneLatents:
    """What sampling made.

    layout: of the chunks that hold something; joint_to_world: [4, 4] float64; relative: [K, 3] places in the joint
    frame; coords: voxels [N_i, 3] int32; shape, texture: denormalized latents [N_i, C]; resolution: voxels of a chunk.
    """

    layout: ChunkLayout
    joint_to_world: Tensor
    relative: Tensor
    coords: list[Tensor]
    shape: list[Tensor]
    texture: list[Tensor]
    resolution: int


@dataclass(frozen=True)
class SampleOptions:
    """How a scene is sampled; see `SceneSampler`. samplers: changes per sampler role of the family."""

    seed: int = 42
    samplers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    occ_threshold: float = -1.0
    boundary_width: int = 1
    batch: int = 1
    proj_batch_voxels: int = 8192
    projection_dtype: str = "float32"
    zero_3d_cond: bool = False


def sample_scene(
    family: SceneFamily,
    plan: ScenePlan,
    options: SampleOptions | None = None,
    *,
    folder: str | None = None,
    restart: bool = False,
    processes: Processes | None = None,
    progress: Progress | None = None,
    store_bytes: int = 1 << 30,
    views: SceneViews | None = None,
) -> SceneLatents:
    """Structure, shape and texture latents of all chunks.

    folder: for checkpoints; a run that was interrupted goes on from there, and gives what it would have given. restart:
    forget them. processes: who else works on it. views: of `encode_views`, where they are there already. Raises
    InputError where nothing is occupied.
    """
    options, processes = options or SampleOptions(), processes or Processes()
    settings = family.settings(options.samplers)
    views = encode_views(family, plan, progress=progress) if views is None else views
    decided = {
        "options": {**vars(options), "samplers": {k: vars(v) for k, v in settings.items()}, "batch": None},
        "layout": plan.layout.to_json(),
        "chunk_views": plan.views.chunk_views,
        "weights": family.identity,
    }
    decided["pictures"] = views.source  # tokens may differ in the last bit on another machine or number of threads
    seen = [views.extrinsics, views.intrinsics] if views.source else [views.tokens, views.extrinsics, views.intrinsics]
    name = fingerprint(decided, seen)
    suffix = f"-{processes.rank}of{processes.world}" if processes.world > 1 else ""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if options.projection_dtype not in dtypes:
        raise InputError(f"`projection_dtype` is {options.projection_dtype!r}; float32 or bfloat16 (as released) work.")
    run = SceneSampler(
        family,
        views,
        torch.from_numpy(plan.layout.relative),
        plan.views.chunk_views,
        options.seed,
        {stage: settings[role] for stage, role in SAMPLERS.items()},
        batch=options.batch,
        occupancy=options.occ_threshold,
        boundary=options.boundary_width,
        layered=plan.layout.layered,
        cells=options.proj_batch_voxels,
        projection=dtypes[options.projection_dtype],
        zero_voxels=options.zero_3d_cond,
        store_bytes=store_bytes,
        files=StageFiles(folder, name, restart, suffix),
        processes=processes,
        progress=progress,
    )
    coords = run.occupied(run.structure())
    kept = [i for i, c in enumerate(coords) if len(c)]
    if not kept:
        raise InputError("No chunk has an occupied voxel; lower occ_threshold, or check the poses and photos.")
    layout, coords = plan.layout, [coords[i] for i in kept]
    if len(kept) < len(layout):  # the joint frame stays that of the first chunk that was planned
        run.keep(kept)
        layout = replace(layout, centers=layout.centers[kept], names=tuple(layout.names[i] for i in kept), counts=None)
    shape = run.latent("shape", coords)
    normalized = [family.config.shape_normalization.normalize(x) for x in shape]
    texture = run.latent("texture", coords, normalized)
    resolution = family.get("shape_slat_flow_model_512").config.resolution
    joint = torch.from_numpy(plan.layout.chunk_to_world[0])
    return SceneLatents(layout, joint, run.relative, coords, shape, texture, resolution)


def decode_latents(
    family: SceneFamily,
    latents: SceneLatents,
    *,
    max_chunks_per_group: int | None = None,
    max_voxels_per_group: int | None = None,
    memory: int | str | None = None,
    as_released: bool = False,
    progress: Progress | None = None,
) -> SceneMesh:
    """One mesh of the whole scene in the joint frame.

    max_chunks_per_group, max_voxels_per_group: decode in groups no larger; memory: see `models.trellis2.memory`, blocks
    are decoded where needed to fit. None of them changes the result.
    """
    parts = latents.relative, latents.resolution, latents.coords
    shape, texture = merge_latents(*parts, latents.shape), merge_latents(*parts, latents.texture)
    groups = None
    if max_chunks_per_group or max_voxels_per_group:
        chunks = max_chunks_per_group or len(latents.coords)
        groups = make_groups(*parts[:2], shape.voxels.coords[:, 1:], chunks, max_voxels_per_group, GROUP_HALO)
    workspace, free = None, available(memory, family.device)
    with (
        family.on_device("shape_slat_decoder") as shape_decoder,
        family.on_device("tex_slat_decoder") as texture_decoder,
    ):
        if free is not None:
            workspace = max(64 << 20, (free - weight_bytes(shape_decoder) - weight_bytes(texture_decoder)) // 4)
        report = progress and (lambda done, total: progress("decode", done, total))
        device = family.device
        shape, texture = (replace(j, voxels=j.voxels.to(device)) for j in (shape, texture))
        return decode_scene(
            shape_decoder, texture_decoder, shape, texture, groups,
            as_released=as_released, workspace=workspace, progress=report,
        )  # fmt: skip
