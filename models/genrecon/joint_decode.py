"""All chunks of a scene decoded to one mesh: their latents merged on one lattice, decoded at once or group by group.

Joint frame: that of chunk 0, in chunk sizes, Z up. Source: GenRecon, specification 10.5 to 10.9. Groups here own
disjoint half-open boxes that together are all of space (the released ones overlap, which repeats faces), and are
decoded with a halo as wide as the decoder sees, so that rows, mesh and attributes are those of a single pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.dual_grid import grid_to_mesh
from ...kernels.multi_diffusion import DenseOverlap, SparseOverlap, chunk_offsets
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor, unpack_coords
from ..trellis2.sc_vae import Decoded, ShapeDecoder, SparseVaeDecoder, shape_head, texture_head
from ..trellis2.sparse_structure_vae import SparseStructureDecoder
from ..trellis2.streaming import receptive_field, stream_decode

GROUP_HALO = 16  # input voxels around a group when its size is judged, as released
Progress = Callable[[int, int], None]


# ---- occupancy ------------------------------------------------------------------------------------------------------


def structure_reach(decoder: SparseStructureDecoder) -> int:
    """How many latent cells, on each side, an occupancy voxel depends on."""
    cfg = decoder.config
    reach = 1  # the output convolution
    for level in reversed(range(len(cfg.channels))):
        reach += 2 * cfg.num_res_blocks
        if level:
            reach = (reach + 1) // 2 + 1  # upsampling and the convolution before it
    return reach + 2 * cfg.num_res_blocks_middle + 1


@torch.no_grad()
def decode_occupancy(
    decoder: SparseStructureDecoder,
    latent: Tensor,
    tile: int | tuple[int, int, int] | None = 32,
    progress: Progress | None = None,
) -> Tensor:
    """Logits [1, factor GX, factor GY, factor GZ] of a lattice latent [C, GX, GY, GZ].

    tile: sides in latent cells of the blocks that are decoded one after the other, each with what it depends on around
    it, which gives the same numbers; None decodes everything at once, and so does one side where that is hardly more.
    """
    size, factor = latent.shape[1:], decoder.factor
    reach = structure_reach(decoder)
    if tile is None or isinstance(tile, int) and max(size) <= tile + 2 * reach:
        return decoder(latent[None])[0]
    sides = (tile,) * 3 if isinstance(tile, int) else tile
    out = latent.new_empty(1, *(n * factor for n in size))
    starts = [range(0, n, side) for n, side in zip(size, sides)]
    places = [(x, y, z) for x in starts[0] for y in starts[1] for z in starts[2]]
    for done, place in enumerate(places):
        low = [max(0, p - reach) for p in place]
        high = [min(n, p + side + reach) for p, n, side in zip(place, size, sides)]
        stop = [min(n, p + side) for p, n, side in zip(place, size, sides)]
        part = decoder(latent[(slice(None), *map(slice, low, high))][None])[0]
        inner = [slice((p - a) * factor, (b - a) * factor) for p, a, b in zip(place, low, stop)]
        outer = [slice(p * factor, b * factor) for p, b in zip(place, stop)]
        out[(slice(None), *outer)] = part[(slice(None), *inner)]
        if progress:
            progress(done + 1, len(places))
    return out


def chunk_logits(logits: Tensor, overlap: DenseOverlap, resolution: int) -> list[Tensor]:
    """Per chunk the logits [1, r, r, r] at `resolution` from those of the lattice [1, X, Y, Z]; the largest of the
    finer voxels counts. Raises InputError where the grids do not divide each other."""
    fine = overlap.resolution * (logits.shape[1] // overlap.size[0])
    if fine % resolution:
        raise InputError(f"The structure grid of {fine} cannot be pooled to {resolution}.")
    pool = fine // resolution
    pooled = F.max_pool3d(logits[None], pool)[0] if pool > 1 else logits
    scale = resolution // overlap.resolution
    if resolution % overlap.resolution:
        raise InputError(f"A resolution of {resolution} is no multiple of the latent's {overlap.resolution}.")
    wide = DenseOverlap(overlap.offsets * scale, resolution)
    return wide.cut(pooled, range(len(overlap.offsets)))


def occupied_voxels(logits: Tensor, threshold: float = 0.0) -> Tensor:
    """Voxels [N, 3] int32 of a chunk whose logit [1, r, r, r] is above the threshold, x-major."""
    return torch.argwhere(logits[0] > threshold).int()


# ---- merging and grouping -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class JointLatent:
    """Merged latents of a scene: voxels from 0 on a lattice whose corner lies at `low` input voxels from chunk 0's.

    voxels: ascending x, y, z; size: cells of the lattice; low: [3]; resolution: input voxels of one chunk.
    """

    voxels: SparseTensor
    size: tuple[int, int, int]
    low: tuple[int, int, int]
    resolution: int


def merge_latents(relative: Tensor, resolution: int, coords: Sequence[Tensor], feats: Sequence[Tensor]) -> JointLatent:
    """Latents feats [N_i, C] at voxels coords [N_i, 3] of chunks at `relative` [K, 3], averaged where they overlap."""
    overlap = SparseOverlap(chunk_offsets(relative, resolution), resolution, coords)
    merged = overlap.merge(range(len(feats)), feats)
    voxels = SparseTensor(merged, unpack_coords(overlap.keys).to(merged.device))
    size = tuple((overlap.offsets.amax(0) + resolution).tolist())
    low = tuple((relative.double() * resolution).round().amin(0).long().tolist())
    return JointLatent(voxels, size, low, resolution)


@dataclass(frozen=True, eq=False)
class Group:
    """Chunks decoded together, and the half-open box [low, high) of lattice cells that is theirs alone; None where it
    has no end."""

    chunks: tuple[int, ...]
    low: tuple[int | None, int | None, int | None]
    high: tuple[int | None, int | None, int | None]

    def rows(self, coords: Tensor, halo: int = 0) -> Tensor:
        """[N] bool, which of the lattice cells [N, 3] lie in the box widened by `halo`."""
        kept = torch.ones(len(coords), dtype=torch.bool, device=coords.device)
        for axis in range(3):
            if self.low[axis] is not None:
                kept &= coords[:, axis] >= self.low[axis] - halo
            if self.high[axis] is not None:
                kept &= coords[:, axis] < self.high[axis] + halo
        return kept


def inflated_count(coords: Tensor, offsets: Tensor, chunks: Sequence[int], resolution: int, halo: int) -> int:
    """Lattice voxels [N, 3] within the box around some chunks, widened by `halo`."""
    low = offsets[list(chunks)].amin(0) - halo
    high = offsets[list(chunks)].amax(0) + resolution + halo
    return int(((coords >= low) & (coords < high)).all(1).sum())


def make_groups(
    relative: Tensor, resolution: int, coords: Tensor, max_chunks: int, max_voxels: int | None = None,
    halo: int = GROUP_HALO,
) -> list[Group]:  # fmt: skip
    """Chunks halved along their longest extent until a group is small enough.

    relative: [K, 3]; coords: [N, 3] lattice voxels; max_chunks: of a group; max_voxels: within its box widened by
    `halo`. A single chunk is never divided. Source: GenRecon, specification 10.9.
    """
    if max_chunks < 1:
        raise InputError(f"A group of {max_chunks} chunks was asked for; at least 1 is needed.")
    offsets, coords, centers = chunk_offsets(relative, resolution), coords.long().cpu(), relative.double()
    groups: list[Group] = []

    def split(chunks: list[int], low: tuple, high: tuple) -> None:
        small = len(chunks) <= max_chunks
        if small and max_voxels is not None:
            small = inflated_count(coords, offsets, chunks, resolution, halo) <= max_voxels
        if small or len(chunks) == 1:
            groups.append(Group(tuple(chunks), low, high))
            return
        places = centers[chunks]
        axis = int((places.amax(0) - places.amin(0)).argmax())
        order = torch.sort(places[:, axis], stable=True).indices.tolist()
        half = len(order) // 2
        parts = [[chunks[i] for i in order[:half]], [chunks[i] for i in order[half:]]]
        ends = int(offsets[parts[0], axis].amax()), int(offsets[parts[1], axis].amin())
        plane = (ends[0] + ends[1] + resolution) // 2
        split(parts[0], low, tuple(plane if a == axis else h for a, h in enumerate(high)))
        split(parts[1], tuple(plane if a == axis else v for a, v in enumerate(low)), high)

    split(list(range(len(relative))), (None,) * 3, (None,) * 3)
    return groups


# ---- decoding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SceneMesh:
    """A decoded scene in the joint frame.

    vertices: [V, 3] float32, one per fine voxel; faces: [F, 3] int32; coords: [V, 3] int32 fine voxels from the corner
    aabb[0]; attributes: [V, 6] base color, metallic, roughness, alpha, nominally in [0, 1]; aabb: [2, 3] float32;
    grid: fine voxels of the box; resolution: fine voxels of one chunk.
    """

    vertices: Tensor
    faces: Tensor
    coords: Tensor
    attributes: Tensor
    aabb: Tensor
    grid: tuple[int, int, int]
    resolution: int


def _roots(decoded: Decoded, count: int, device) -> tuple[Tensor, Tensor]:
    """Of every fine row the input row it grew from, and its path: eight to the levels, coarse first."""
    root = torch.arange(count, device=device)
    path = torch.zeros(count, dtype=torch.int64, device=device)
    for plan in decoded.subdivisions:
        root, path = root[plan.parent], path[plan.parent] * 8 + plan.slot
    return root, path


@torch.no_grad()
def decode_rows(
    shape_decoder: ShapeDecoder,
    texture_decoder: SparseVaeDecoder,
    shape: JointLatent,
    texture: JointLatent,
    groups: Sequence[Group] | None = None,
    *,
    workspace: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fine voxels [M, 3] int32, raw shape rows [M, 7] and raw texture rows [M, 6] of a scene.

    groups: decoded one after the other; None decodes everything at once. workspace: bytes of a block of the streamed
    decoders, None to decode a group at once. Rows come in the order of a single pass.
    """
    decode = _decoder(workspace)
    if groups is None or len(groups) == 1:
        rows = decode(shape_decoder, shape.voxels, None)
        colors = decode(texture_decoder, texture.voxels, rows.subdivisions).voxels
        return rows.voxels.coords[:, 1:].contiguous(), rows.voxels.feats, colors.feats
    halo = receptive_field(shape_decoder.config)[0]
    coords = shape.voxels.coords[:, 1:]
    found: list[tuple[Tensor, ...]] = []
    for done, group in enumerate(groups):
        near = group.rows(coords, halo).nonzero().squeeze(1)
        own = group.rows(coords)
        if bool(own.any()):
            rows = decode(shape_decoder, _part(shape.voxels, near), None)
            colors = decode(texture_decoder, _part(texture.voxels, near), rows.subdivisions).voxels.feats
            root, path = _roots(rows, len(near), near.device)
            kept = own[near[root]].nonzero().squeeze(1)
            fine = rows.voxels.coords[kept, 1:]
            found.append((near[root[kept]], path[kept], fine, rows.voxels.feats[kept], colors[kept]))
        if progress:
            progress(done + 1, len(groups))
    root, path, fine, rows, colors = (torch.cat(parts) for parts in zip(*found))
    order = torch.argsort(path, stable=True)
    order = order[torch.argsort(root[order], stable=True)]
    return fine[order], rows[order], colors[order]


def _part(voxels: SparseTensor, rows: Tensor) -> SparseTensor:
    return SparseTensor(voxels.feats[rows], voxels.coords[rows])


def _decoder(workspace: int | None):
    def decode(decoder, latent, guide):
        if workspace is None:
            return decoder(latent, guide)
        return stream_decode(decoder, latent, guide, workspace=workspace)

    return decode


@torch.no_grad()
def decode_scene(
    shape_decoder: ShapeDecoder,
    texture_decoder: SparseVaeDecoder,
    shape: JointLatent,
    texture: JointLatent,
    groups: Sequence[Group] | None = None,
    *,
    as_released: bool = False,
    workspace: int | None = None,
    progress: Progress | None = None,
) -> SceneMesh:
    """One mesh with PBR attributes from the merged, denormalized latents of a scene.

    groups, workspace: see `decode_rows`; they do not change the result. as_released: leaves the random winding of the
    released code. Raises InputError where shape and texture have different voxels.
    """
    if not torch.equal(shape.voxels.coords, texture.voxels.coords):
        raise InputError("Shape and texture latents have different voxels; they must come from the same run.")
    fine, rows, colors = decode_rows(
        shape_decoder, texture_decoder, shape, texture, groups, workspace=workspace, progress=progress
    )
    factor, resolution = shape_decoder.config.factor, shape.resolution
    dual, crossing, split = shape_head(rows, shape_decoder.config.voxel_margin)
    low = torch.tensor(shape.low, dtype=torch.float32) / resolution - 0.5
    high = torch.tensor([a + b for a, b in zip(shape.low, shape.size)], dtype=torch.float32) / resolution - 0.5
    grid = tuple(n * factor for n in shape.size)
    aabb = torch.stack([low, high])
    mesh = grid_to_mesh(fine, dual, crossing, split, grid, aabb=aabb.tolist(), as_released=as_released)
    return SceneMesh(mesh.vertices, mesh.faces, fine, texture_head(colors), aabb, grid, resolution * factor)
