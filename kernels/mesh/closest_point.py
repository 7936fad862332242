"""The closest point of a triangle mesh to each of many points, exactly.

A k-d tree over triangle centers proposes candidates; where the distance of the last proposal proves that no other
triangle can be nearer, the best of them is the answer. The few points left over descend a hierarchy of boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ...scene.errors import InputError
from ..patience import Later
from ..rows import by_rows, dot, pick
from ..surface_sampling import closest_on_triangles

CHUNK = 1 << 13  # points looked up at once
PAIRS = 1 << 17  # point-box and point-triangle pairs examined at once
NEIGHBORS = 12  # proposals of the tree
FEW = 64  # triangles up to which all are tried
LEAF, BRANCH = 4, 8  # triangles in a leaf and children of a box
SPLITS = 24  # halvings of long triangles at most

Callback = Callable[[int, int], None]


class Closest(NamedTuple):
    """points: [Q, 3] float32 on the surface; face: [Q] int64; squared: [Q] float32 squared distances; barycentric:
    [Q, 3] float32 weights of the corners of `face`."""

    points: Tensor
    face: Tensor
    squared: Tensor
    barycentric: Tensor


def closest_points(
    queries: Tensor, vertices: Tensor, faces: Tensor, *, callback: Callback | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each point, the closest point of the surface: (points, face, squared distance, barycentric), as `Closest`.

    queries: [Q, 3]; vertices: [V, 3] float; faces: [F, 3] integers, any winding, triangles without area included.
    callback(done, total) counts points. To ask the same mesh more than once, keep a `ClosestPoint`.
    Raises InputError for a mesh without faces, faces out of range, and numbers that are not finite.
    """
    return ClosestPoint(vertices, faces)(queries, callback=callback)


def closest_points_dense(queries: Tensor, vertices: Tensor, faces: Tensor) -> Closest:
    """`closest_points` by trying every triangle: the definition. Ties go to the lowest face."""
    _check(vertices, faces)
    _check_queries(queries)
    corners = vertices.double()[faces.long()]
    points, face = queries.double(), torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    count = max(1, PAIRS // len(faces))
    for start in range(0, len(points), count):
        part = points[start : start + count].repeat_interleave(len(faces), 0)
        weights = closest_on_triangles(part, corners.repeat(len(part) // len(faces), 1, 1))
        gap = torch.einsum("pfk,fkc->pfc", weights.view(-1, len(faces), 3), corners) - part.view(-1, len(faces), 3)
        face[start : start + count] = gap.square().sum(-1).argmin(1)
    weights = closest_on_triangles(points, corners[face])
    place = torch.einsum("pk,pkc->pc", weights, corners[face])
    return Closest(place.float(), face, (place - points).square().sum(1).float(), weights.float())


class ClosestPoint:
    """A mesh made ready for many questions; computes on the CPU, answers on the device of the questions.

    vertices: [V, 3] float; faces: [F, 3] integers. About 250 bytes for each face. Among triangles whose distances
    differ by no more than the rounding of float32 coordinates, any may be taken. beat() is called several times a
    second meanwhile, and may raise to stop. Raises InputError as `closest_points` does.
    """

    def __init__(self, vertices: Tensor, faces: Tensor, beat: Callable[[], None] | None = None) -> None:
        _check(vertices, faces)
        count, tick = len(faces), None if beat is None else lambda done, total: beat()
        vertices, faces = vertices.detach().cpu(), faces.detach().cpu().long()
        low, high = vertices.double().amin(0), vertices.double().amax(0)
        self.middle = (low + high) / 2
        self.low, self.high = low - self.middle, high - self.middle
        self.vertices = vertices.double() - self.middle
        # Triangles that are near each other lie together in memory: in the boxes below, and in the caches.
        key = torch.empty(count, dtype=torch.int64)

        def find_key(rows: slice) -> None:
            key[rows] = morton(pick(self.vertices, faces[rows]).mean(1), self.low, self.high)

        by_rows(count, find_key, beat=tick)
        self.order = Later(lambda: torch.argsort(key)).result(beat)
        self.faces = pick(faces, self.order)
        self.slack = float((self.high - self.low).norm()) * 1e-6  # what float32 may be off by
        self.tree, self.boxes, self.lock = None, None, Lock()
        if count > FEW:
            centers, radii, self.owner = _proposals(self.vertices, self.faces, tick)
            self.radii, self.reach = radii.float() + self.slack, float(radii.amax()) + self.slack
            tree = Later(lambda: cKDTree(centers.numpy(), balanced_tree=False))
        self.frames = torch.empty(count, 16)

        def frame(rows: slice) -> None:
            self.frames[rows] = _frames(pick(self.vertices, self.faces[rows]))

        by_rows(count, frame, beat=tick)
        if count > FEW:
            self.tree = tree.result(beat)

    def __call__(self, queries: Tensor, *, callback: Callback | None = None) -> Closest:
        """The closest points of `queries` [Q, 3], see `closest_points`."""
        _check_queries(queries)
        points = queries.detach().cpu().double() - self.middle
        face = torch.zeros(len(points), dtype=torch.int64)
        squared, weights, nearest = torch.zeros(len(points)), torch.zeros(len(points), 3), torch.zeros(len(points), 3)
        order = torch.argsort(morton(points, self.low, self.high))

        def look(rows: slice) -> None:
            part = order[rows]
            at = pick(points, part)
            local = self._search(at)
            corners = pick(self.vertices, pick(self.faces, local))
            found = closest_on_triangles(at, corners)
            place = torch.einsum("pk,pkc->pc", found, corners)
            face[part], weights[part] = self.order[local], found.float()
            squared[part] = (place - at).square().sum(1).float()
            nearest[part] = (place + self.middle).float()

        by_rows(len(points), look, CHUNK, callback)
        return Closest(*(one.to(queries.device) for one in (nearest, face, squared, weights)))

    def _search(self, points: Tensor) -> Tensor:
        """The nearest faces (in our order) of some points [P, 3], float64."""
        at = points.float()
        best = torch.full((len(at),), torch.inf)
        face = torch.zeros(len(at), dtype=torch.int64)
        if self.tree is None:
            row = torch.arange(len(at)).repeat_interleave(len(self.faces))
            self._try(at, row, torch.arange(len(self.faces)).repeat(len(at)), best, face)
            return face
        known = min(NEIGHBORS, self.tree.n)
        gap, near = self.tree.query(points.numpy(), k=known)
        gap, near = torch.from_numpy(gap).float(), torch.from_numpy(near)
        for column in range(known):  # a triangle around a center at distance g is nowhere nearer than g - its radius
            bound = gap[:, column] - self.radii[near[:, column]]
            row = torch.nonzero((bound <= 0) | (bound.square() <= best)).squeeze(1)
            self._try(at, row, self.owner[near[row, column]], best, face, once=True)
        if known < self.tree.n:
            left = torch.nonzero((gap[:, -1] - self.reach).clamp(min=0).square() <= best).squeeze(1)
            if len(left):
                best[left], face[left] = self._descend(at[left], best[left], face[left])
        return face

    def _try(self, at: Tensor, row: Tensor, face: Tensor, best: Tensor, taken: Tensor, once: bool = False) -> None:
        """Puts the nearest of the candidates of each row into `taken`; once: every row occurs once at most."""
        for rows, candidates in zip(row.split(PAIRS), face.split(PAIRS)):
            gap = _squared_distance(pick(at, rows), pick(self.frames, candidates))
            if once:
                better = torch.nonzero(gap < best[rows]).squeeze(1)
                where = rows[better]
                best[where], taken[where] = gap[better], candidates[better]
                continue
            least = best.scatter_reduce(0, rows, gap, "amin")
            winner = torch.nonzero((gap == least[rows]) & (gap < best[rows])).squeeze(1)
            taken[rows[winner]] = candidates[winner]
            best.copy_(least)

    def _descend(self, at: Tensor, best: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        """Improves `best` and `face` by whatever triangle lies in a box that is nearer."""
        with self.lock:
            if self.boxes is None:
                self.boxes = box_levels(pick(self.vertices.float(), self.faces), self.slack)
        top = len(self.boxes) - 1
        roots = len(self.boxes[top])
        row = torch.arange(len(at)).repeat_interleave(roots)
        work = [(top, row, torch.arange(roots).repeat(len(at)))]
        while work:
            level, row, box = work.pop()
            if len(row) > PAIRS:  # the first half first: what it finds spares work in the second
                half = len(row) // 2
                work += [(level, row[half:], box[half:]), (level, row[:half], box[:half])]
                continue
            bounds, here = pick(self.boxes[level], box), pick(at, row)
            gap = (bounds[:, :3] - here).clamp_(min=0) + (here - bounds[:, 3:]).clamp_(min=0)
            near = torch.nonzero(gap.square_().sum(1) < best[row]).squeeze(1)
            width, end = (BRANCH, len(self.boxes[level - 1])) if level else (LEAF, len(self.faces))
            row = row[near].repeat_interleave(width)
            child = (box[near, None] * width + torch.arange(width)).reshape(-1)
            if end % width:
                inside = child < end
                row, child = row[inside], child[inside]
            if level:
                work.append((level - 1, row, child))
            else:
                self._try(at, row, child, best, face)
        return best, face


def morton(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """[P] int64 places of points [P, 3] on a curve through the box from low to high [3] that keeps neighbors together,
    20 bits an axis."""
    cell = ((points - low) / (high - low).clamp(min=1e-30)).clamp(0, 1).mul((1 << 20) - 1).long()
    spread = torch.arange(1 << 10)  # ten bits, two places left free after each
    for shift, mask in ((16, 0xFF0000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):
        spread = (spread | (spread << shift)) & mask
    spread = spread.to(cell.device)
    cell = (pick(spread, cell >> 10) << 30) | pick(spread, cell & 1023)
    return cell[:, 0] | (cell[:, 1] << 1) | (cell[:, 2] << 2)


def _frames(corners: Tensor) -> Tensor:
    """Each triangle in a plane of its own, as float32 [F, 16] (one line of cache): its longest edge from the origin to
    (length, 0), its third corner at (x, y), y >= 0.

    Columns: origin (3), the axes along the edge, up in the plane, and out of it (9), length, x, y, nothing.
    """
    edges = _squared_edges(corners)
    turn = (edges.argmax(1)[:, None] + torch.arange(3)) % 3
    a, b, c = corners.gather(1, turn[..., None].expand(-1, -1, 3)).unbind(1)
    length = (b - a).norm(dim=1)
    along = (b - a) / length.clamp(min=1e-300)[:, None]
    along[length == 0] = along.new_tensor([1.0, 0.0, 0.0])
    x = dot(c - a, along)
    rise = c - a - x[:, None] * along
    y = rise.norm(dim=1)
    # Without area any direction across the edge will do.
    flat = y <= 1e-9 * length
    up = rise
    if bool(flat.any()):
        other = torch.nn.functional.one_hot(along.abs().argmin(1), 3).to(along)
        up = torch.where(flat[:, None], other - dot(other, along)[:, None] * along, rise)
    up = up / up.norm(dim=1, keepdim=True)
    out = torch.linalg.cross(along, up)
    y = torch.where(flat, 0.0, y)
    return torch.cat([a, along, up, out, torch.stack([length, x, y, y], 1)], 1).float()


def _squared_distance(points: Tensor, frames: Tensor) -> Tensor:
    """[P] squared distances of points [P, 3] to the triangles of `_frames` [P, 16]."""
    columns = frames.unbind(1)
    dx, dy, dz = points[:, 0] - columns[0], points[:, 1] - columns[1], points[:, 2] - columns[2]
    x = dx * columns[3] + dy * columns[4] + dz * columns[5]
    y = dx * columns[6] + dy * columns[7] + dz * columns[8]
    z = dx * columns[9] + dy * columns[10] + dz * columns[11]
    length, cx, cy = columns[12], columns[13], columns[14]
    back = length - cx
    base = (x - torch.minimum(x.clamp(min=0), length)).square_() + y * y
    left = _to_segment(x, y, cx, cy)
    right = _to_segment(length - x, y, back, cy)
    inside = (y > 0) & (x * cy > y * cx) & ((length - x) * cy > y * back)
    edge = torch.minimum(base, torch.minimum(left, right))
    return edge.masked_fill_(inside, 0.0).addcmul_(z, z)


def _to_segment(x: Tensor, y: Tensor, ex: Tensor, ey: Tensor) -> Tensor:
    """Squared distance of (x, y) to the segment from the origin to (ex, ey)."""
    t = ((x * ex + y * ey) / (ex * ex + ey * ey).clamp_(min=1e-30)).clamp_(0, 1)
    return (x - t * ex).square_().add_((y - t * ey).square_())


def _proposals(vertices: Tensor, faces: Tensor, beat: Callback | None) -> tuple[Tensor, Tensor, Tensor]:
    """Balls around the triangles: centers [P, 3], radii [P], and the triangles they are around [P].

    Triangles much longer than most are halved until they are not, so that one large triangle does not spoil the bound
    of all.
    """
    count = len(faces)
    centers, radii, length = vertices.new_empty(count, 3), vertices.new_empty(count), vertices.new_empty(count)

    def surround(rows: slice) -> None:
        corners = pick(vertices, faces[rows])
        length[rows] = _squared_edges(corners).amax(1)
        centers[rows], radii[rows] = _balls(corners)

    by_rows(count, surround, beat=beat)
    limit = float(length[:: max(1, count // 100_000)].quantile(0.95)) * 2
    while limit > 0:
        who = torch.nonzero(length > limit).squeeze(1)
        if not len(who):
            break
        short, parts, done, owners = count - len(who), pick(vertices, pick(faces, who)), [], []
        for turn in range(SPLITS):
            edges = _squared_edges(parts)
            long = edges.amax(1) > limit
            if not bool(long.any()):
                first, kept = _balls(torch.cat([*done, parts])), length <= limit
                whole = torch.nonzero(kept).squeeze(1)
                return (torch.cat([centers[kept], first[0]]), torch.cat([radii[kept], first[1]]),
                        torch.cat([whole, *owners, who]))  # fmt: skip
            if turn:
                done.append(parts[~long])
                owners.append(who[~long])
            parts, who = torch.cat(_halves(parts[long], edges[long])), who[long].repeat(2)
            if short + sum(map(len, done)) + len(parts) > 2 * count + 4096:
                break
        limit *= 4
    return centers, radii, torch.arange(count)


def _squared_edges(corners: Tensor) -> Tensor:
    """[P, 3] squared lengths of the edges from each corner of triangles [P, 3, 3] to the next."""
    along = corners.roll(-1, 1) - corners
    return dot(along, along)


def _halves(corners: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Triangles [P, 3, 3] cut through the middle of the longest of their `edges` [P, 3], and the corner opposite."""
    turn = (edges.argmax(1)[:, None] + torch.arange(3)) % 3
    a, b, c = corners.gather(1, turn[..., None].expand(-1, -1, 3)).unbind(1)
    middle = (a + b) / 2
    return torch.stack([a, middle, c], 1), torch.stack([middle, b, c], 1)


def _balls(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Centers and radii of the smallest balls around triangles [F, 3, 3], or of slightly larger ones."""
    edges = _squared_edges(corners).roll(-1, 1)  # opposite to each corner
    x, y, z = edges.unbind(1)
    weights = edges * ((x + y + z)[:, None] - 2 * edges)  # of the center of the circumscribed circle
    obtuse = torch.nonzero((weights <= 0).any(1)).squeeze(1)
    weights[obtuse] = 1.0
    weights[obtuse, edges[obtuse].argmax(1)] = 0.0
    x, y, z = weights.unbind(1)
    weights = weights / (x + y + z)[:, None]
    centers = torch.einsum("pk,pkc->pc", weights, corners)
    reach = corners - centers[:, None]
    return centers, dot(reach, reach).amax(1).sqrt()


def box_levels(corners: Tensor, slack: float) -> list[Tensor]:
    """Lower and upper corners [N, 6] of the boxes of each level, the leaves first, wider by `slack`.

    A box holds `BRANCH` consecutive ones of the level below, a leaf `LEAF` consecutive faces.
    """
    low, high, width, levels = corners.amin(1) - slack, corners.amax(1) + slack, LEAF, []
    while True:
        room = -len(low) % width
        if room:
            low = torch.cat([low, low[-1:].expand(room, 3)])
            high = torch.cat([high, high[-1:].expand(room, 3)])
        low, high = low.view(-1, width, 3).amin(1), high.view(-1, width, 3).amax(1)
        levels.append(torch.cat([low, high], 1))
        if len(low) <= BRANCH:
            return levels
        width = BRANCH


def _check(vertices: Tensor, faces: Tensor) -> None:
    if not len(faces):
        raise InputError("The mesh has no face; a surface is needed.")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise InputError(f"`faces` names vertices {low}..{high}; the mesh has 0..{len(vertices) - 1}.")
    if not bool(torch.isfinite(vertices).all()):
        raise InputError("`vertices` holds values that are not finite; the mesh is damaged.")


def _check_queries(queries: Tensor) -> None:
    if queries.ndim != 2 or queries.shape[1] != 3:
        raise InputError(f"`queries` has shape {list(queries.shape)}; [Q, 3] is needed.")
    if not bool(torch.isfinite(queries).all()):
        raise InputError("`queries` holds values that are not finite.")
