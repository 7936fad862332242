"""Structured latents to a mesh with colors (TRELLIS `SLatMeshDecoder`): two subdivisions, then FlexiCubes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.flexicubes import CORNERS, extract_mesh
from ...kernels.sparse_resample import subdivide
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from ..trellis2.blocks import set_torso_dtype
from .config import LatentDecoderConfig
from .decoder import LatentTransformer
from .slat_flow import SparseConv3d

SDF, DEFORM, WEIGHTS, COLOR = 8, 24, 21, 48  # per cube: 8 corners, of which colors have 6 channels (rgb, normal)
CHILDREN = (0, 4, 2, 6, 1, 5, 3, 7)  # TRELLIS lists children with z fastest; our slots have x fastest


class GroupNorm32(nn.GroupNorm):
    """Group norm over the voxels of each item, computed in float32."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        parts = [
            F.group_norm(part.float().T[None], self.num_groups, self.weight, self.bias, self.eps)[0].T
            for part in x.feats.split(x.seqlens)
        ]
        return x.replace(torch.cat(parts).to(x.dtype))


class SparseSiLU(nn.Module):
    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(F.silu(x.feats))


def split_voxels(x: SparseTensor) -> tuple[SparseTensor, Tensor]:
    """The eight children of every voxel, z fastest, and the row of each child's parent."""

    def make():
        every = subdivide(x, torch.ones(len(x), 8, dtype=torch.bool, device=x.device))
        order = torch.arange(len(x) * 8, device=x.device).view(-1, 8)[:, list(CHILDREN)].flatten()
        return every.coords[order], every.parent[order], {}

    coords, parent, cache = x.once("split_voxels", make)
    return SparseTensor(x.feats.index_select(0, parent), coords, x.batch_size, cache), parent


class SubdivideBlock(nn.Module):
    """Doubles the grid; TRELLIS `SparseSubdivideBlock3d`."""

    def __init__(self, channels: int, out_channels: int, groups: int = 32):
        super().__init__()
        self.act_layers = nn.Sequential(GroupNorm32(groups, channels), SparseSiLU())
        self.out_layers = nn.Sequential(
            SparseConv3d(channels, out_channels),
            GroupNorm32(groups, out_channels),
            SparseSiLU(),
            SparseConv3d(out_channels, out_channels),
        )
        self.skip_connection = nn.Identity() if channels == out_channels else SparseConv3d(channels, out_channels, 1)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """x [N, C] -> [8 N, out] on the children."""
        fine, parent = split_voxels(x)
        h = self.act_layers(x)
        h = self.out_layers(fine.replace(h.feats.index_select(0, parent)))
        return h.replace(h.feats + self.skip_connection(fine).feats)


@dataclass(frozen=True)
class ColoredMesh:
    """A mesh in the cube [-0.5, 0.5]^3 (Z up).

    vertices: [V, 3] float32; faces: [F, 3] int64; attributes: [V, 6] in 0..1, color then normal, or None.
    """

    vertices: Tensor
    faces: Tensor
    attributes: Tensor | None

    @property
    def colors(self) -> Tensor | None:
        return None if self.attributes is None else self.attributes[:, :3]


class MeshDecoder(LatentTransformer):
    """The grid of the mesh is four times that of the latents."""

    def __init__(self, cfg: LatentDecoderConfig):
        super().__init__(cfg, cfg.latent_channels)
        c = cfg.model_channels
        self.use_color = bool(cfg.representation_config.get("use_color", False))
        self.upsample = nn.ModuleList([SubdivideBlock(c, c // 4), SubdivideBlock(c // 4, c // 8)])
        self.out_layer = nn.Linear(c // 8, SDF + DEFORM + WEIGHTS + (COLOR if self.use_color else 0))
        set_torso_dtype(self.upsample, cfg.dtype)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """x features [N, latent] float32 -> cube features [64 N, channels]."""
        h = self.transform(x)
        for block in self.upsample:
            h = block(h)
        return h.replace(self.out_layer(h.feats.to(x.dtype)))

    def meshes(self, x: SparseTensor, check: Callable[[], None] | None = None) -> list[ColoredMesh]:
        """The mesh of every item, from what `forward` returned."""
        found = []
        for rows in x.layout:
            if check:
                check()
            found.append(
                features_to_mesh(x.coords[rows, 1:], x.feats[rows], 4 * self.config.resolution, self.use_color)
            )
        return found


def features_to_mesh(coords: Tensor, feats: Tensor, resolution: int, use_color: bool = True) -> ColoredMesh:
    """The surface in a sparse grid of cubes.

    coords: [N, 3] integers below `resolution`; feats: [N, 53] or [N, 101] per cube: signed distances of its 8 corners,
    their displacements, 21 FlexiCubes weights, 6 colors and normals of its corners. Grid points take the mean over the
    cubes that have them; points of no cube are outside. A small bias, 1 / resolution, is taken off the distances.
    Raises InputError for another width. Source: TRELLIS, `SparseFeatures2Mesh`.
    """
    widths = [SDF, DEFORM, WEIGHTS, *([COLOR] if use_color else [])]
    if feats.shape[1] != sum(widths):
        raise InputError(f"The cubes have {feats.shape[1]} features; {sum(widths)} are needed.")
    parts = feats.float().split(widths, 1)
    corner = [(parts[0] - 1.0 / resolution).view(-1, 8, 1), parts[1].view(-1, 8, 3)]
    if use_color:
        corner.append(parts[3].view(-1, 8, 6))
    values = torch.cat(corner, -1)  # [N, 8, 4 or 10]
    offsets = torch.tensor(CORNERS, device=coords.device)
    side = resolution + 1

    def key(points: Tensor, size: int) -> Tensor:
        return (points[..., 0] * size + points[..., 1]) * size + points[..., 2]

    coords = coords.long()
    points, which = torch.unique(key(coords[:, None] + offsets, side), return_inverse=True)
    attrs = torch.zeros(len(points), values.shape[2], device=feats.device)
    attrs = attrs.scatter_reduce(
        0, which.flatten()[:, None].expand(-1, values.shape[2]), values.flatten(0, 1), "mean", include_self=False
    )
    inside = points[attrs[:, 0] < 0]
    place = torch.stack([inside // side**2, inside // side % side, inside % side], 1)
    around = (place[:, None] - offsets).flatten(0, 1)
    around = around[((around >= 0) & (around < resolution)).all(1)]
    cell_keys = torch.unique(key(around, resolution))
    cells = torch.stack([cell_keys // resolution**2, cell_keys // resolution % resolution, cell_keys % resolution], 1)
    all_points, cubes = torch.unique(key(cells[:, None] + offsets, side), return_inverse=True)

    def spread(known: Tensor, rows: Tensor, wanted: Tensor, fill: float | None = None) -> Tensor:
        """The rows of `known` keys at the `wanted` keys, zeros (`fill` in the first column) where there are none."""
        out = torch.zeros(len(wanted), rows.shape[1], device=rows.device)
        if fill is not None:
            out[:, 0] = fill
        if len(known) and len(wanted):
            at = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
            there = known[at] == wanted
            out[there] = rows[at[there]]
        return out

    attrs = spread(points, attrs, all_points, 1.0)
    ordered, order = torch.sort(key(coords, resolution))
    weights = spread(ordered, parts[2][order], cell_keys)
    grid = torch.stack([all_points // side**2, all_points // side % side, all_points % side], 1)
    positions = grid / resolution - 0.5 + (1 - 1e-8) / (resolution * 2) * torch.tanh(attrs[:, 1:4])
    colors = torch.sigmoid(attrs[:, 4:]) if use_color else None
    vertices, faces, colors = extract_mesh(
        positions,
        attrs[:, 0],
        cubes,
        cells,
        beta=weights[:, :12],
        alpha=weights[:, 12:20],
        gamma=weights[:, 20],
        attributes=colors,
    )
    return ColoredMesh(vertices, faces, colors)
