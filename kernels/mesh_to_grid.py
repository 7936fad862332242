"""A triangle mesh as a flexible dual grid: which grid edges it crosses, and where each voxel's vertex lies best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene.errors import InputError
from ..scene.sparse import pack_coords, unpack_coords
from .dual_grid import UNIT_CUBE

CHUNK = 1 << 20  # candidate cells examined at once
PAIRS = [(i, j) for i in range(4) for j in range(i, 4)]  # the entries kept of a symmetric 4 x 4 matrix


@dataclass(frozen=True)
class DualGrid:
    """coords: [N, 3] int32 voxels, lexicographic; dual: [N, 3] float32 vertex of each relative to its lower corner, in
    voxel units within [0, 1]; intersected: [N, 3] bool, the crossed edges (see `dual_grid`)."""

    coords: Tensor
    dual: Tensor
    intersected: Tensor


def mesh_to_grid(
    vertices: Tensor,
    faces: Tensor,
    resolution: int | Sequence[int],
    *,
    aabb: Sequence[Sequence[float]] = UNIT_CUBE,
    face_weight: float = 1.0,
    boundary_weight: float = 0.2,
    regularization: float = 1e-2,
    as_released: bool = False,
) -> DualGrid:
    """The dual grid of a triangle mesh.

    vertices: [V, 3] float, inside aabb; faces: [F, 3] integers. Voxels are those around the crossed grid edges.
    A voxel's vertex minimizes the squared distances to the planes of the triangles that cross its edges, plus
    face_weight times those of the triangles that overlap it, boundary_weight times those to the lines of open mesh
    borders in it, and regularization times its number of crossings times the distance to their mean, within the voxel.
    An edge that the mesh crosses twice is flagged like any other, so that thin walls survive.
    as_released: face_weight only switches its term on, with weight 1.
    Raises InputError for a mesh without faces, with indices or numbers out of range, or outside of aabb.
    Source: TRELLIS.2, conversion of meshes to the flexible dual grid.
    """
    low, size, count = _frame(resolution, aabb, vertices.device)
    _check_mesh(vertices, faces, aabb)
    vertices, faces = vertices.float() - low, faces.long()
    corners = vertices[faces]  # [F, 3, 3]
    edges = corners.roll(-1, 1) - corners
    normals = torch.linalg.cross(edges[:, 0], edges[:, 1])
    normals = normals / normals.norm(dim=1, keepdim=True).clamp(min=torch.finfo(normals.dtype).tiny)
    planes = torch.cat([normals, -(normals * corners[:, 0]).sum(1, keepdim=True)], 1)

    crossings = [_crossings(corners, axis, size, count) for axis in range(3)]
    cells = [_around(crossing, axis) for axis, crossing in enumerate(crossings)]  # four voxels per crossed edge
    keys, place = torch.unique(torch.cat([_keys(cell.flatten(0, 1)) for cell in cells]), return_inverse=True)
    if not len(keys):
        empty = torch.zeros(0, 3, device=vertices.device)
        return DualGrid(empty.to(torch.int32), empty, empty.bool())
    intersected = torch.zeros(len(keys), 3, dtype=torch.bool, device=keys.device)
    total = torch.zeros(len(keys), 4, dtype=torch.float64, device=keys.device)  # sum of crossing points, their number
    form = _Quadratic(len(keys), keys.device)
    start = 0
    for axis, (crossing, cell) in enumerate(zip(crossings, cells)):
        rows = place[start : start + 4 * len(cell)].view(-1, 4)
        start += 4 * len(cell)
        intersected[rows[:, 0], axis] = True
        point = torch.cat([crossing.points.float().double(), torch.ones_like(crossing.points[:, :1])], 1)
        for corner in rows.unbind(1):
            total.index_add_(0, corner, point)
            form.add_planes(corner, planes[crossing.triangle])
    if face_weight > 0:
        for triangle, cell in _overlaps(corners, edges, normals, size, count):
            rows, found = _find(keys, _keys(cell))
            form.add_planes(rows[found], planes[triangle[found]], 1.0 if as_released else face_weight)
    if boundary_weight > 0:
        for segment, cell, form_of in _boundaries(vertices, faces, size, count):
            rows, found = _find(keys, _keys(cell))
            form.add(rows[found], boundary_weight * form_of[segment[found]])
    mean = total[:, :3] / total[:, 3:]
    if regularization > 0:
        form.add_points(mean, regularization * total[:, 3])
    coords = unpack_coords(keys)[:, 1:]
    bottom, top = (coords * size).double(), ((coords + 1) * size).double()
    vertex = _constrained_minimum(form.matrix(), mean, bottom, top)
    return DualGrid(coords, ((vertex - bottom) / (top - bottom)).float().clamp(0, 1), intersected)


def triangle_cells(
    vertices: Tensor, faces: Tensor, resolution: int | Sequence[int], *, aabb: Sequence[Sequence[float]] = UNIT_CUBE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Triangle [K] int64 and voxel [K, 3] int64 of every overlap of a mesh with a grid, in chunks, each pair once.

    Arguments and errors as `mesh_to_grid`; a triangle on the border of a voxel may count as overlapping it or not.
    """
    low, size, count = _frame(resolution, aabb, vertices.device)
    _check_mesh(vertices, faces, aabb)
    corners = (vertices.float() - low)[faces.long()]
    edges = corners.roll(-1, 1) - corners
    normals = torch.nn.functional.normalize(torch.linalg.cross(edges[:, 0], edges[:, 1]), dim=1)
    yield from _overlaps(corners, edges, normals, size, count)


@dataclass(frozen=True)
class _Crossings:
    """Crossed grid edges along one axis: triangle [K]; cell [K, 3], the lowest voxel around the edge; points [K, 3]."""

    triangle: Tensor
    cell: Tensor
    points: Tensor


def _crossings(corners: Tensor, axis: int, size: Tensor, count: Tensor) -> _Crossings:
    """Grid lines along `axis` that pass through each triangle: rows of constant second coordinate between the corners
    sorted by it, then the grid points of a row between its two edges."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    points = corners.double()[:, :, [u, v, axis]]
    points = points.gather(1, torch.argsort(points[:, :, 1], dim=1, stable=True)[:, :, None].expand(-1, -1, 3))
    rows = _cell(points[:, :, 1], size[v], count[v])  # [F, 3] rows of the lowest, middle, highest corner
    triangle, row = _expand(rows[:, 0], rows[:, 2])
    lower = row < rows[triangle, 1]
    lowest, middle, highest = points[triangle].unbind(1)
    tip = torch.where(lower[:, None], lowest, highest)
    far = torch.where(lower[:, None], highest, lowest)
    y = ((row + 1).float() * size[v]).double()
    a, b = _cut(tip, middle, y), _cut(tip, far, y)  # [R, 2]: coordinate along u, and along the axis
    swap = (a[:, 0] > b[:, 0])[:, None]
    a, b = torch.where(swap, b, a), torch.where(swap, a, b)
    run, column = _expand(_cell(a[:, 0], size[u], count[u]), _cell(b[:, 0], size[u], count[u]))
    x = ((column + 1).float() * size[u]).double()
    z = _blend(a[run, 0], b[run, 0], x, a[run, 1], b[run, 1])
    height = (z / size[axis].double()).trunc().long()
    inside = (height >= 0) & (height < count[axis])
    cell, point = torch.empty(len(z), 3, dtype=torch.int64, device=z.device), torch.empty_like(z)[:, None].repeat(1, 3)
    for at, index, value in ((u, column, x), (v, row[run], y[run]), (axis, height, z)):
        cell[:, at], point[:, at] = index, value
    return _Crossings(triangle[run][inside], cell[inside], point[inside])


def _cut(start: Tensor, end: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_blend(start[:, 1], end[:, 1], y, start[:, at], end[:, at]) for at in (0, 2)], 1)


def _blend(a: Tensor, b: Tensor, t: Tensor, value_a: Tensor, value_b: Tensor) -> Tensor:
    """The value at t on the line from (a, value_a) to (b, value_b); value_a where a equals b."""
    flat = a == b
    alpha = (t - a) / torch.where(flat, 1.0, b - a)
    return torch.where(flat, value_a, (1 - alpha) * value_a + alpha * value_b)


def _cell(position: Tensor, size: Tensor, count: Tensor) -> Tensor:
    return (position / size.double()).trunc().long().clamp(min=torch.zeros_like(count), max=count - 1)


def _expand(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Owner [M] and value [M] of every integer in start[i]..end[i]-1."""
    length = (end - start).clamp(min=0)
    owner = torch.repeat_interleave(torch.arange(len(start), device=start.device), length)
    rank = torch.arange(len(owner), device=start.device) - (length.cumsum(0) - length)[owner]
    return owner, start[owner] + rank


def _around(crossing: _Crossings, axis: int) -> Tensor:
    """[K, 4, 3] the voxels around each crossed edge, the lowest first."""
    steps = torch.zeros(4, 3, dtype=torch.int64, device=crossing.cell.device)
    steps[[1, 3], (axis + 2) % 3] = 1
    steps[[2, 3], (axis + 1) % 3] = 1
    return crossing.cell[:, None] + steps


def _overlaps(
    corners: Tensor, edges: Tensor, normals: Tensor, size: Tensor, count: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Triangle [K] and voxel [K, 3] of every overlap, in chunks.

    The tests are those of the released code: the plane against the box, and the box against the triangle's edges in
    the three coordinate planes. Candidates are few: columns of the triangle's bounding rectangle along its steepest
    axis, and in each column the voxels near the plane.
    """
    low = (corners.amin(1) / size).trunc().long().clamp(min=0)
    high = torch.minimum((corners.amax(1) / size + 1).trunc().long(), count)
    steep = normals.abs().argmax(1)
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        chosen = torch.nonzero(steep == axis).squeeze(1)
        width, depth = (high - low)[chosen, u].clamp(min=0), (high - low)[chosen, v].clamp(min=0)
        for part in _chunks(width * depth):
            index = chosen[part]
            owner, flat = _expand(torch.zeros_like(index), (width * depth)[part])
            triangle = index[owner]
            column = torch.stack([flat // depth[part][owner], flat % depth[part][owner]], 1) + low[triangle][:, [u, v]]
            n, origin = normals[triangle].double(), corners[triangle, 0].double()
            offset = (n * origin).sum(1) / n[:, axis].where(n[:, axis] != 0, 1.0)
            slopes = (n[:, [u, v]] / n[:, axis, None].where(n[:, axis, None] != 0, 1.0)) * size[[u, v]]
            ends = torch.stack([offset - (slopes * (column + shift)).sum(1) for shift in _SHIFTS.to(column)], 1)
            bottom = (ends.amin(1) / size[axis]).floor().long() - 1
            top = (ends.amax(1) / size[axis]).floor().long() + 2
            bottom, top = torch.maximum(bottom, low[triangle, axis]), torch.minimum(top, high[triangle, axis])
            owner, height = _expand(bottom, top)
            cell = torch.empty(len(owner), 3, dtype=torch.int64, device=size.device)
            cell[:, u], cell[:, v], cell[:, axis] = column[owner, 0], column[owner, 1], height
            triangle = triangle[owner]
            kept = _overlap(cell, corners[triangle], edges[triangle], normals[triangle], size)
            yield triangle[kept], cell[kept]


_SHIFTS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


def _chunks(amount: Tensor) -> Iterator[slice]:
    """Consecutive slices whose amounts sum to about CHUNK."""
    if not len(amount):
        return
    group = (amount.cumsum(0) - amount) // CHUNK
    cuts = [0, *(torch.nonzero(group[1:] != group[:-1]).squeeze(1) + 1).tolist(), len(amount)]
    yield from (slice(a, b) for a, b in zip(cuts[:-1], cuts[1:]))


def _overlap(cell: Tensor, corners: Tensor, edges: Tensor, normal: Tensor, size: Tensor) -> Tensor:
    box = cell * size
    farthest = torch.where(normal > 0, size, 0.0)
    near = (normal * box).sum(1)
    first = (normal * (farthest - corners[:, 0])).sum(1)
    second = (normal * (size - farthest - corners[:, 0])).sum(1)
    inside = (near + first) * (near + second) <= 0
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):  # the plane of axes a and b
        sign = torch.where(normal[:, c] < 0, -1.0, 1.0)[:, None]
        across = torch.stack([-edges[:, :, b] * sign, edges[:, :, a] * sign], 2)  # [K, 3, 2], inwards
        shift = (across.clamp(min=0) * size[[a, b]]).sum(2) - (across * corners[:, :, [a, b]]).sum(2)
        inside &= ((across * box[:, None, [a, b]]).sum(2) + shift >= 0).all(1)
    return inside


def _boundaries(
    vertices: Tensor, faces: Tensor, size: Tensor, count: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Border segments [K] walked voxel by voxel, the voxels [K, 3], and the quadratic form [S, 10] of every segment."""
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    pairs, uses = torch.unique(pairs, dim=0, return_counts=True)
    start, end = vertices[pairs[uses == 1]].unbind(1)
    direction = (end - start).double()
    length = direction.norm(dim=1)
    long = length >= 1e-6
    start, end, length = start[long], end[long], length[long]
    if not len(start):
        return
    direction = direction[long] / length[:, None]
    across = torch.eye(3, device=size.device, dtype=torch.float64) - direction[:, :, None] * direction[:, None]
    linear = -(across @ start.double()[:, :, None]).squeeze(2)
    constant = -(linear * start).sum(1)
    form = torch.cat([torch.cat([across, linear[:, :, None]], 2).flatten(1), linear, constant[:, None]], 1)
    form = form[:, [4 * i + j for i, j in PAIRS]]
    cell = (start / size).floor().long()
    step = torch.where(direction > 0, 1, -1)
    border = size * (cell + (step > 0)).float()
    still = direction == 0
    speed = torch.where(still, 1.0, direction)
    reach = torch.where(still, torch.inf, (border - start) / speed)  # length at which the next voxel begins, per axis
    stride = torch.where(still, torch.inf, size / speed.abs())
    walking = torch.arange(len(start), device=size.device)
    while len(walking):
        seen = ((cell >= 0) & (cell < count)).all(1)
        yield walking[seen], cell[seen], form
        x, y, z = reach.unbind(1)
        axis = torch.where(x < y, torch.where(x < z, 0, 2), torch.where(y < z, 1, 2))[:, None]
        on = reach.gather(1, axis).squeeze(1) <= length[walking]
        walking, axis = walking[on], axis[on]
        cell = cell[on].scatter_add(1, axis, step[walking].gather(1, axis))
        reach = reach[on].scatter_add(1, axis, stride[walking].gather(1, axis))


class _Quadratic:
    """One quadratic form p^T Q p, p = (x, y, z, 1), per voxel, float64."""

    def __init__(self, count: int, device: torch.device):
        self.entries = torch.zeros(count, len(PAIRS), dtype=torch.float64, device=device)

    def add(self, rows: Tensor, entries: Tensor) -> None:
        self.entries.index_add_(0, rows, entries)

    def add_planes(self, rows: Tensor, planes: Tensor, weight: float = 1.0) -> None:
        planes = planes.double()
        self.add(rows, weight * torch.stack([planes[:, i] * planes[:, j] for i, j in PAIRS], 1))

    def add_points(self, points: Tensor, weight: Tensor) -> None:
        form = torch.zeros_like(self.entries)
        for at, (i, j) in enumerate(PAIRS):
            if j < 3:
                form[:, at] = float(i == j)
            else:
                form[:, at] = -points[:, i] if i < 3 else points.square().sum(1)
        self.entries += weight[:, None] * form

    def matrix(self) -> Tensor:
        full = self.entries.new_empty(len(self.entries), 4, 4)
        for at, (i, j) in enumerate(PAIRS):
            full[:, i, j] = full[:, j, i] = self.entries[:, at]
        return full


def _constrained_minimum(form: Tensor, mean: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """The minimum [N, 3] of each form within its box: inside, else the best of the faces', edges' and corners' minima.

    Where a form does not decide, the point nearest to `mean` is taken.
    """
    best = _minimum(form, mean, [0, 1, 2])
    outside = torch.nonzero(~((best >= bottom) & (best <= top)).all(1)).squeeze(1)
    form, mean, bottom, top = form[outside], mean[outside], bottom[outside], top[outside]
    choice = torch.full_like(form[:, 0, 0], torch.inf)
    point = mean.clone()
    for fixed in range(1, 27):  # in base 3, per axis: free, at the bottom, at the top
        sides = [fixed // 3**axis % 3 for axis in range(3)]
        start = torch.stack([(mean, bottom, top)[side][:, axis] for axis, side in enumerate(sides)], 1)
        free = [axis for axis, side in enumerate(sides) if side == 0]
        candidate = _minimum(form, start, free) if free else start
        value = (candidate[:, None] @ form[:, :3, :3] @ candidate[:, :, None]).flatten()
        value = value + 2 * (candidate * form[:, :3, 3]).sum(1)  # the constant is the same for all candidates
        better = ((candidate >= bottom) & (candidate <= top)).all(1) & (value < choice)
        choice = torch.where(better, value, choice)
        point = torch.where(better[:, None], candidate, point)
    best[outside] = point
    return best


def _minimum(form: Tensor, start: Tensor, free: list[int]) -> Tensor:
    """The minimum over the `free` axes, the others kept at `start`; of several minima the one nearest to start."""
    gradient = (form[:, :3, :3] @ start[:, :, None]).squeeze(2) + form[:, :3, 3]
    block = form[:, free][:, :, free]
    step = torch.linalg.pinv(block, rtol=1e-9, hermitian=True) @ -gradient[:, free, None]
    moved = start.clone()
    moved[:, free] += step.squeeze(2)
    return moved


def _keys(cells: Tensor) -> Tensor:
    return pack_coords(torch.nn.functional.pad(cells, (1, 0)))


def _find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return rows, keys[rows] == wanted


def _frame(resolution: int | Sequence[int], aabb, device) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.tensor([resolution] * 3 if isinstance(resolution, int) else list(resolution), device=device)
    if int(count.min()) < 2:
        raise InputError(f"`resolution` is {resolution}; a dual grid needs at least 2 voxels on each axis.")
    low, high = (torch.tensor(corner, dtype=torch.float32, device=device) for corner in aabb)
    return low, (high - low) / count, count


def _check_mesh(vertices: Tensor, faces: Tensor, aabb) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(
            f"The mesh has vertices {list(vertices.shape)} and faces {list(faces.shape)}; both need [N, 3]."
        )
    if not len(faces):
        raise InputError("The mesh has no faces; at least one triangle is needed.")
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise InputError(f"The faces name vertices {int(faces.min())}..{int(faces.max())}; there are {len(vertices)}.")
    used = vertices[faces.flatten().long()]
    if not bool(torch.isfinite(used).all()):
        raise InputError("The mesh has vertices that are not finite numbers; every coordinate must be a number.")
    low, high = used.amin(0).tolist(), used.amax(0).tolist()
    if any(a < edge for a, edge in zip(low, aabb[0])) or any(b > edge for b, edge in zip(high, aabb[1])):
        raise InputError(
            f"The mesh spans {_row(low)} to {_row(high)}, more than the grid's {_row(aabb[0])} to {_row(aabb[1])}."
        )


def _row(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
