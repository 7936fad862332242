"""Reading a textured triangle mesh at the voxels of its dual grid: the surface point nearest to each, and its color."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import pack_coords
from .dual_grid import UNIT_CUBE
from .mesh_to_grid import triangle_cells
from .rows import dot

CHUNK = 1 << 20


def closest_on_triangles(points: Tensor, corners: Tensor) -> Tensor:
    """Barycentric weights [P, 3] of the point of triangle corners[p] [3, 3] nearest to points[p] [3].

    The projection onto the plane where it falls inside, otherwise the nearest point of the three edges; also right for
    triangles without area. float32 or float64.
    """
    a, b, c = corners.unbind(1)
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11, d20, d21 = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    area = d00 * d11 - d01 * d01
    flat = area <= 1e-12 * d00 * d11
    safe = torch.where(flat, 1.0, area)
    v, w = (d11 * d20 - d01 * d21) / safe, (d00 * d21 - d01 * d20) / safe
    inside = torch.stack([1 - v - w, v, w], 1)
    outside = torch.nonzero(flat | (inside < 0).any(1)).squeeze(1)
    points, corners = points[outside], corners[outside]
    best, distance = inside[outside], torch.full_like(d00[outside], torch.inf)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, edge = corners[:, first], corners[:, second] - corners[:, first]
        t = dot(points - start, edge) / dot(edge, edge).clamp(min=torch.finfo(edge.dtype).tiny)
        t = t.clamp(0, 1)
        away = start + t[:, None] * edge - points
        gap = dot(away, away)
        weights = torch.zeros_like(best)
        weights[:, first], weights[:, second] = 1 - t, t
        nearer = gap < distance
        best, distance = torch.where(nearer[:, None], weights, best), torch.where(nearer, gap, distance)
    inside[outside] = best
    return inside


def surface_points(
    vertices: Tensor,
    faces: Tensor,
    coords: Tensor,
    points: Tensor,
    resolution: int,
    *,
    aabb: Sequence[Sequence[float]] = UNIT_CUBE,
) -> tuple[Tensor, Tensor]:
    """Where the surface is nearest to one point of each voxel, among the triangles that pass through the voxel.

    vertices: [V, 3] float inside aabb; faces: [F, 3]; coords: [N, 3] int32, each once; points: [N, 3] in the frame of
    the vertices. Returns face [N] int64 and barycentric weights [N, 3] float32. Voxels that no triangle enters (the
    surface touches their border at most) take the nearest of those of the neighboring voxels, and without any of these
    the nearest of all. Raises InputError for a mesh without faces.
    """
    if not len(faces):
        raise InputError("The mesh has no face; a surface is needed.")
    keys, order = torch.sort(pack_coords(F.pad(coords, (1, 0))))
    corners = vertices.double()[faces.long()]
    points = points.double()
    best = torch.full((len(coords),), torch.inf, dtype=torch.float64, device=points.device)
    face = torch.full((len(coords),), -1, dtype=torch.int64, device=points.device)
    reached = ((0, 0, 0),)
    around = tuple((x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1))
    for steps in (reached, around):
        missing = face < 0
        if not bool(missing.any()):
            break
        for triangle, cell in triangle_cells(vertices, faces, resolution, aabb=aabb):
            for step in steps:
                moved = cell + cell.new_tensor(step)
                seen = torch.nonzero((moved >= 0).all(1) & (moved < resolution).all(1)).squeeze(1)
                wanted = pack_coords(F.pad(moved[seen], (1, 0)))
                at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
                found = keys[at] == wanted
                row, owner = order[at[found]], triangle[seen[found]]
                kept = missing[row]
                _take_nearest(points, corners, row[kept], owner[kept], best, face)
    alone = torch.nonzero(face < 0).squeeze(1)
    for part in alone.split(max(1, CHUNK // len(faces))):
        row = part.repeat_interleave(len(faces))
        _take_nearest(points, corners, row, torch.arange(len(faces), device=row.device).repeat(len(part)), best, face)
    return face, closest_on_triangles(points, corners[face]).float()


def _take_nearest(points: Tensor, corners: Tensor, row: Tensor, triangle: Tensor, best: Tensor, face: Tensor) -> None:
    """Puts the nearest of the candidate triangles of each row into `face` where it is nearer than `best`; ties go to
    the lowest triangle, so that the result does not depend on the order of the candidates."""
    if not len(row):
        return
    weights = closest_on_triangles(points[row], corners[triangle])
    gap = ((weights[:, :, None] * corners[triangle]).sum(1) - points[row]).square().sum(1)
    least = best.scatter_reduce(0, row, gap, "amin")
    winner = gap == least[row]
    improved = least < best
    face[improved] = torch.iinfo(torch.int64).max
    chosen, tied = row[winner], triangle[winner]
    face.scatter_reduce_(0, chosen, tied, "amin")
    best.copy_(least)


def sample_texture(texture: Tensor, uv: Tensor, footprint: Tensor | None = None) -> Tensor:
    """Trilinear texture look-up [P, C]: bilinear in the two pyramid levels whose texels are about as large as wanted.

    texture: [H, W, C] float, the first row on top. uv: [P, 2], (0, 0) the lower left corner; repeats outside of [0, 1].
    footprint: [P] width in texels of what one sample stands for; None reads the texture itself.
    """
    if texture.ndim != 3 or not texture.numel():
        raise InputError(f"The texture has shape {list(texture.shape)}; it must be [H, W, C].")
    if footprint is None:
        return _bilinear(texture, uv)
    levels = [texture.float()]
    while max(levels[-1].shape[:2]) > 1:
        picture = levels[-1].permute(2, 0, 1)[None]
        height, width = picture.shape[2:]
        size = (max(1, height // 2), max(1, width // 2))
        levels.append(F.adaptive_avg_pool2d(picture, size)[0].permute(1, 2, 0))
    level = footprint.float().clamp(min=1).log2().clamp(max=len(levels) - 1)
    low = level.floor().long()
    out = texture.new_zeros(len(uv), texture.shape[2], dtype=torch.float32)
    for index, picture in enumerate(levels):
        weight = torch.where(low == index, 1 - (level - low), torch.where(low + 1 == index, level - low, 0.0))
        used = torch.nonzero(weight > 0).squeeze(1)
        if len(used):
            out[used] += weight[used, None] * _bilinear(picture, uv[used])
    return out


def _bilinear(texture: Tensor, uv: Tensor) -> Tensor:
    height, width = texture.shape[:2]
    x, y = uv[:, 0].double() * width - 0.5, (1 - uv[:, 1].double()) * height - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = (x - x0).to(texture.dtype)[:, None], (y - y0).to(texture.dtype)[:, None]
    left, right = x0.long() % width, (x0.long() + 1) % width
    top, bottom = y0.long() % height, (y0.long() + 1) % height
    upper = texture[top, left] * (1 - fx) + texture[top, right] * fx
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    return upper * (1 - fy) + lower * fy
