"""The three stages on all chunks of a scene, each with its condition, its joint sampler and its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...kernels.multi_diffusion import DenseOverlap, SparseOverlap, chunk_offsets
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ..trellis2.samplers import SamplerSettings
from .family import ROLES, SceneFamily
from .flows import KeyValueCache, SceneCondition, ViewTokens
from .joint_condition import (
    IN_MEMORY,
    ConditionStore,
    DenseCondition,
    LatticeProjection,
    SceneViews,
    SparseCondition,
)
from .joint_decode import chunk_logits, decode_occupancy, occupied_voxels
from .joint_sampling import sample_chunks
from .processes import Processes
from .stage_files import StageFiles

Progress = Callable[[str, int, int], None]
STAGES = ("structure", "shape", "texture")
KV_BYTES = 1 << 30  # of cached keys and values
SAMPLERS = {
    "structure": "sparse_structure_sampler", "shape": "shape_slat_sampler", "texture": "tex_slat_sampler",
}  # fmt: skip


@dataclass
class SceneSampler:
    """One scene in sampling.

    family: networks; views: tokens and cameras of the scene; relative: [K, 3] float64 of the chunks; chunk_views: the
    view each chunk looks at; seed; settings per stage ("structure", ...). batch: chunks evaluated in one call.
    occupancy: logit above which a voxel is there. boundary: layers of a chunk that do not vote in shape and texture
    (0: plain mean); layered: also at the z faces. cells: voxels projected at a time; projection: dtype of it.
    zero_voxels: drop the per-voxel condition. kv_bytes: for cached keys and values; store_bytes: above it the
    condition lies in a temporary file. files: checkpoints; step_files: also after every step.
    """

    family: SceneFamily
    views: SceneViews
    relative: Tensor
    chunk_views: Sequence[int]
    seed: int
    settings: dict[str, SamplerSettings]
    batch: int = 1
    occupancy: float = -1.0
    boundary: int = 1
    layered: bool = False
    cells: int = 8192
    projection: torch.dtype = torch.float32
    zero_voxels: bool = False
    kv_bytes: int = KV_BYTES
    store_bytes: int = IN_MEMORY
    files: StageFiles = field(default_factory=lambda: StageFiles(None, ""))
    step_files: bool = True
    processes: Processes = field(default_factory=Processes)
    progress: Progress | None = None
    projected: LatticeProjection | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.chunk_views) != len(self.relative):
            raise InputError(f"{len(self.relative)} chunks have {len(self.chunk_views)} views to look at.")
        self.tokens = {i: ViewTokens(self.views.tokens[i]) for i in set(self.chunk_views)}

    # ---- stages

    def structure(self) -> Tensor:
        """Structure latents [K, C, R, R, R] of all chunks."""
        if (kept := self.files.load("structure")) is not None:
            return kept["latents"]
        role = ROLES["structure"]
        config = self.family.get(role).config
        overlap = DenseOverlap(chunk_offsets(self.relative, config.resolution), config.resolution)

        def begin(chunks):
            return overlap.cut(overlap.noise(config.in_channels, self._generator(0)), chunks)

        def condition(model, options):
            return DenseCondition(model.aggregator, self.views, overlap, self.relative, self.projection, **options)

        latents = self._sample("structure", role, overlap, begin, condition, overlap_rows=self._dense_cells(overlap))
        latents = torch.stack(self.processes.gather(latents, [latents[0].shape] * len(self.relative)))
        if self.processes.first:
            self.files.save("structure", {"latents": latents})
        return latents

    def occupied(self, latents: Tensor) -> list[Tensor]:
        """Voxels [N_i, 3] int32 of every chunk, possibly none, on the grid of the shape stage."""
        resolution = self.family.get(ROLES["shape"]).config.resolution
        overlap = DenseOverlap(chunk_offsets(self.relative, latents.shape[-1]), latents.shape[-1])
        merged = overlap.merge(range(len(latents)), list(latents))
        with self.family.on_device("sparse_structure_decoder") as decoder:
            report = self.progress and (lambda done, total: self.progress("occupancy", done, total))
            logits = decode_occupancy(decoder, merged.to(self.family.device), progress=report)
        logits = self.processes.same(logits)
        return [occupied_voxels(one, self.occupancy).cpu() for one in chunk_logits(logits, overlap, resolution)]

    def keep(self, chunks: Sequence[int]) -> None:
        """Go on with some chunks only; their places on the lattice stay."""
        self.relative = self.relative[list(chunks)]
        self.chunk_views = [self.chunk_views[i] for i in chunks]

    def latent(self, stage: str, coords: Sequence[Tensor], concat: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Latents [N_i, C] of the shape or texture stage at voxels [N_i, 3] of every chunk, denormalized.

        concat: normalized shape latents of the same voxels, for the texture.
        """
        if (kept := self.files.load(stage)) is not None:
            return [kept[f"x{i}"] for i in range(len(coords))]
        role, config = ROLES[stage], self.family.get(ROLES[stage]).config
        axes = (0, 1, 2) if self.layered else (0, 1)
        offsets = chunk_offsets(self.relative, config.resolution)
        overlap = SparseOverlap(offsets, config.resolution, coords, self.boundary, axes)
        channels = config.in_channels - (0 if concat is None else concat[0].shape[1])

        def begin(chunks):
            return overlap.cut(overlap.noise(channels, self._generator(STAGES.index(stage))), chunks)

        def condition(model, options):
            return SparseCondition(
                model.aggregator, self.views, overlap, self.relative, self._project(overlap), **options
            )

        xs = self._sample(stage, role, overlap, begin, condition, coords, concat, overlap_rows=len(overlap))
        shapes = [torch.Size((len(c), config.out_channels)) for c in coords]
        xs = self.processes.gather(xs, shapes)
        config_ = self.family.config
        normalization = config_.shape_normalization if stage == "shape" else config_.tex_normalization
        xs = [normalization.denormalize(x).cpu() for x in xs]
        if self.processes.first:
            self.files.save(stage, {f"x{i}": x for i, x in enumerate(xs)})
        if stage == STAGES[-1] and self.projected is not None:
            self.projected.close()
            self.projected = None
        return xs

    # ---- what they share

    def _generator(self, stage: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed + 1_000_003 * stage) % (1 << 63))

    def _project(self, overlap: SparseOverlap) -> LatticeProjection:
        """The projection of the lattice's voxels: the texture reads what the shape has found."""
        cells = SparseCondition.cells(overlap)
        if self.projected is None or not self.projected.fits(cells, overlap.resolution, self.projection):
            if self.projected is not None:
                self.projected.close()
            self.projected = LatticeProjection(
                self.views, cells, overlap.resolution, self.relative, self.projection, self.store_bytes
            )
        return self.projected

    def _dense_cells(self, overlap: DenseOverlap) -> int:
        used = torch.zeros(overlap.size, dtype=torch.bool)
        for i in range(len(overlap.offsets)):
            used[overlap.block(i)] = True
        return int(used.sum())

    def _sample(self, stage, role, overlap, begin, condition, coords=None, concat=None, overlap_rows=0):
        chunks = self.processes.share(len(self.relative))
        device = self.family.device
        kept = self.files.load_step(stage) if self.step_files else None
        start, xs = kept if kept is not None and len(kept[1]) == len(chunks) else (0, begin(chunks))
        with self.family.on_device(role) as model:
            cond = None
            if not self.zero_voxels:
                store = ConditionStore(overlap_rows, self.views.tokens.shape[-1], limit=self.store_bytes)
                options: dict[str, Any] = dict(batch=self.cells, store=store)
                if self.progress:
                    options["progress"] = lambda done, total: self.progress(f"{stage} condition", done, total)
                cond = condition(model, options)
            views = [self.tokens[self.chunk_views[i]] for i in chunks]
            velocity = _velocity(model, self, cond, coords, concat)
            with KeyValueCache(model, views, self.kv_bytes):
                result = sample_chunks(
                    velocity,
                    [x.to(device) for x in xs],
                    overlap,
                    self.settings[stage],
                    chunks=chunks,
                    batch=self.batch,
                    start=start,
                    reduce=self.processes.reduce if self.processes.world > 1 else None,
                    step_done=self._step_done(stage),
                    progress=self.progress and (lambda done, total: self.progress(stage, done, total)),
                )
            if cond is not None:
                cond.store.close()
        return result

    def _step_done(self, stage: str):
        if not self.step_files or self.files.folder is None:
            return None

        def done(step: int, steps: int, xs: list[Tensor]) -> None:
            if step < steps:
                self.files.save_step(stage, step, xs)

        return done


def _velocity(model, run: SceneSampler, cond, coords, concat):
    """The velocity of some chunks by one flow, as `sample_chunks` wants it."""
    device, layouts = run.family.device, {}

    def condition(names, conditional: bool) -> SceneCondition:
        if not conditional:
            return SceneCondition(None, None)
        views = [run.tokens[run.chunk_views[i]] for i in names]
        return SceneCondition(views, None if cond is None else cond.of(names).to(device))

    def dense(names, x, t, conditional):
        times = torch.full((len(x),), 1000 * t, dtype=torch.float32, device=device)
        return model(x, times, condition(names, conditional))

    def sparse(names, x, t, conditional):
        if tuple(names) not in layouts:
            rows = [torch.nn.functional.pad(coords[i], (1, 0), value=n) for n, i in enumerate(names)]
            extra = None if concat is None else torch.cat([concat[i] for i in names]).to(device)
            layouts[tuple(names)] = torch.cat(rows).int().to(device), extra
        rows, extra = layouts[tuple(names)]
        times = torch.full((len(names),), 1000 * t, dtype=torch.float32, device=device)
        return model(SparseTensor(x, rows, len(names)), times, condition(names, conditional), extra).feats

    return dense if coords is None else sparse
