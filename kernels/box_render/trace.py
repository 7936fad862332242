"""The closed form of the control picture: what one ray brings to the camera.

Front-to-back in scene-linear Rec.709: every face of a box (front and back, seen from either side) adds
0.025 (c + k c/pi E) of what is left and lets 0.975 of it through; the first edge or the floor ends the ray. Light on
the floor: sum over lights of P/(4 pi) cos/d^2, nothing behind an edge and 0.975 for each face crossed; light on the
faces is taken without shadows (below 0.1 of 255 levels). Source: spec section 3.2.

Edges are the beams of Blender's wireframe modifier, whose section is a kite between a rail outside the box's edge and
two rails inset on its faces. In coordinates where the box is [-1, 1]^3, a ray meets a beam where it meets the box
inflated to the outer rails and one of these holds: it misses the box; it enters (leaves) the two through different
sides; it enters (leaves) the box outside the inset square of that side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .scene import FACE_ALPHA, FACE_COLOR, FLOOR_ALBEDO, FLOOR_CENTER, FLOOR_HALF, INSET, LIGHT_POWER, OUTSET, BoxScene

UNDER_COAT = 0.955  # share of the diffuse light that passes the dielectric coat of a face
INTENSITY = LIGHT_POWER / (4.0 * math.pi)
DIM = math.log(1.0 - FACE_ALPHA)  # of what lies behind one face
TOUCHING = 2e-5  # relative depth within which two surfaces are the same
ON_FLOOR = 0.27  # share of the rays that meet a face lying on the floor before the floor, measured on Cycles' pictures
SLOPE = (OUTSET - 1.0) / (OUTSET - INSET)  # of a beam's outer side over the face it stands on
_TINY = 1e-9
# the 24 outer sides of the beams: face (axis i, sign s), the edge of it (axis j, sign r), and the axis along that edge
_SIDES = torch.tensor(
    [(i, s, j, r, 3 - i - j) for i in range(3) for s in (-1, 1) for j in range(3) if j != i for r in (-1, 1)]
).unbind(1)


@dataclass
class Crossings:
    """Where M (box, ray) pairs meet. Depths [M] are ray parameters, infinite where there is no such event.

    box, ray: [M]; enter, leave: the axis (0, 1, 2) of the side through which the box is entered and left; sign: [3, M]
    of the ray's direction in the box's coordinates.
    """

    box: Tensor
    ray: Tensor
    face_in: Tensor
    face_out: Tensor
    wire: Tensor
    enter: Tensor
    leave: Tensor
    sign: Tensor


def cross(origin: Tensor, direction: Tensor, near: float) -> Crossings:
    """Rays from one point against K boxes in the boxes' coordinates: origin [K, 3], direction [K, 3, R]."""
    inverse = 1.0 / torch.where(direction.abs() < _TINY, _TINY, direction)
    a = (-OUTSET - origin)[..., None] * inverse
    b = (OUTSET - origin)[..., None] * inverse
    first = torch.minimum(a, b).amax(1)
    last = torch.maximum(a, b).amin(1)
    pair = ((first < last) & (last > near)).view(-1).nonzero()[:, 0]
    return _meet(origin, direction, pair, near)


def _largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of three rows [3, M], and which one it is; `max` over so few is slow."""
    first, second, third = x
    top = torch.maximum(first, second)
    return torch.maximum(top, third), torch.where(third > top, 2, second > first)


def _smallest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest of three rows [3, M], and which one it is."""
    first, second, third = x
    low = torch.minimum(first, second)
    return torch.minimum(low, third), torch.where(third < low, 2, second < first)


def _meet(origin: Tensor, direction: Tensor, pair: Tensor, near: float) -> Crossings:
    """The pairs (box * rays + ray) that meet the inflated box, in coordinates in which the ray climbs on every axis."""
    count = direction.shape[2]
    box = torch.div(pair, count, rounding_mode="floor")
    ray = pair - box * count
    # rows are taken by `index_select` throughout, which is several times faster than indexing
    step = direction.transpose(0, 1).reshape(3, -1).index_select(1, pair)  # [3, M]
    sign = torch.where(step < 0, -1.0, 1.0)
    step = step.abs().clamp_min(_TINY)
    start = origin.mT.index_select(1, box) * sign
    inverse = 1.0 / step
    near_t = (-1.0 - start) * inverse
    far_t = (1.0 - start) * inverse
    margin = (OUTSET - 1.0) * inverse
    t_in, enter = _largest(near_t)
    t_out, leave = _smallest(far_t)
    wide_in, wide_enter = _largest(near_t - margin)
    _, wide_leave = _smallest(far_t + margin)
    through = t_in < t_out
    edge_in = _off_face(start, step, t_in, enter) | (enter != wide_enter)
    edge_out = _off_face(start, step, t_out, leave)
    before = torch.where(through, t_in, wide_in) > near  # the side of entry lies before the camera
    after = through & (t_out > near)
    wire_in = (~through | edge_in) & before
    wire_out = after & edge_out & ~wire_in
    beyond = after & ~edge_out & ~wire_in & (leave != wide_leave)  # out through a face, then under its rail
    wire = torch.where(wire_out, t_out * (1.0 - TOUCHING), math.inf)
    outer = (wire_in | beyond).nonzero()[:, 0]
    depth = _outer_depth(start.index_select(1, outer), step.index_select(1, outer))
    entered = (wire_in & through).index_select(0, outer)
    depth = torch.where(entered, torch.minimum(depth, t_in.index_select(0, outer)), depth)
    wire = wire.index_copy(0, outer, depth.clamp_min(near))
    clear = through & ~wire_in
    return Crossings(
        box=box,
        ray=ray,
        face_in=torch.where(clear & before, t_in, math.inf),
        face_out=torch.where(clear & after & ~wire_out, t_out, math.inf),
        wire=wire,
        enter=enter,
        leave=leave,
        sign=sign,
    )


def _off_face(start: Tensor, step: Tensor, t: Tensor, axis: Tensor) -> Tensor:
    """Whether the point at `t` lies outside the inset square of the side `axis`, [M]."""
    point = (start + t * step).abs()
    return point.scatter(0, axis[None], 0.0).amax(0) >= INSET


def _outer_depth(start: Tensor, step: Tensor) -> Tensor:
    """Where rays first meet the outer sides of the beams, [M]; infinite where they pass between box and rails.

    On the side u_i = s of the box these are four planes that rise from the inset square to the outer rail:
    s u_i = 1 + SLOPE (r u_j - INSET) for r u_j >= |u_k|.
    """
    i, s, j, r, k = (x.to(start.device) for x in _SIDES)
    s, r = s.to(start.dtype)[:, None], r.to(start.dtype)[:, None]
    rising = s * step[i] - SLOPE * r * step[j]
    t = (1.0 - SLOPE * INSET - s * start[i] + SLOPE * r * start[j]) / torch.where(rising == 0, _TINY, rising)
    out = r * (start[j] + t * step[j])
    on = (out >= INSET) & (out <= OUTSET) & ((start[k] + t * step[k]).abs() <= out)
    return torch.where(on, t, math.inf).amin(0)


def radiance(scene: BoxScene, directions: Tensor, boxes: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """What the camera receives along `directions` [R, 3] (of length 1 along the view axis), scene-linear [R, 3].

    boxes: indices [K] of the boxes that these rays may meet; pairs: the (light, box) pairs that may shade the floor
    where they end.
    """
    count = len(directions)
    floor = _floor_depth(scene, directions)
    color = directions.new_zeros(count, 3)
    if not len(boxes):
        return _add_floor(scene, color, directions, floor, floor, torch.zeros_like(floor), pairs)
    turn = scene.axes[boxes].mT / scene.halves[boxes][..., None]
    origin = (turn @ (scene.eye - scene.centers[boxes])[..., None])[..., 0]
    met = cross(origin, turn @ directions.mT, scene.near)
    depth = floor.scatter_reduce(0, met.ray, met.wire, "amin")
    # every face before that, one after the other
    hits, ray, axes = torch.cat([met.face_in, met.face_out]), met.ray.repeat(2), torch.cat([met.enter, met.leave])
    end = depth.index_select(0, ray)
    valid = (hits < end * (1.0 + TOUCHING)).nonzero()[:, 0]
    hits, ray, end, axis = (x.index_select(0, valid) for x in (hits, ray, end, axes))
    leaving = valid >= len(met.ray)
    which = met.box.repeat(2).index_select(0, valid)
    sign = met.sign.view(-1).index_select(0, axis * len(met.ray) + valid - leaving * len(met.ray))
    touching = hits > end * (1.0 - TOUCHING)
    columns = hits.new_full((2 * len(boxes), count), math.inf)
    columns.view(-1).index_copy_(0, (2 * which + leaving) * count + ray, hits)
    rank = (columns.index_select(1, ray) < hits).sum(0, dtype=torch.int32)
    total = torch.zeros_like(depth).index_add(0, ray, torch.ones_like(hits))
    points = scene.eye + hits[:, None] * directions.index_select(0, ray)
    lit = _face_light(scene, boxes.index_select(0, which), points, axis, sign)
    if scene.max_crossings:
        lit = torch.where(rank <= scene.max_crossings, lit, 0.0)
    amount = (FACE_ALPHA * FACE_COLOR) * torch.exp(DIM * rank) * (1.0 + UNDER_COAT / math.pi * lit)
    amount = torch.where(touching, ON_FLOOR * amount, amount)
    nearest = ((met.wire == depth.index_select(0, met.ray)) & torch.isfinite(met.wire)).nonzero()[:, 0]
    if scene.max_crossings:  # what emits is seen through one face more than what is lit
        amount = torch.where(rank <= scene.max_crossings + 1, amount, 0.0)
        nearest = nearest[total[met.ray[nearest]] <= scene.max_crossings + 1]
    color = color.index_copy(0, met.ray[nearest], scene.edge_colors[boxes][met.box[nearest]])
    color = _add_floor(scene, color, directions, floor, depth, total, pairs)
    # the local minus side is met when entering with a rising coordinate or leaving with a falling one
    minus = (sign > 0) ^ leaving
    channel = torch.where((axis == 0) & minus, 2, torch.where((axis == 1) & ~minus, 0, 1))
    color = color * torch.exp(DIM * total)[:, None]
    return color.view(-1).index_add(0, ray * 3 + channel, amount).view(count, 3)


def _face_light(scene: BoxScene, box: Tensor, points: Tensor, axis: Tensor, sign: Tensor) -> Tensor:
    """Irradiance [H] on the side that the ray sees of a face at `points` [H, 3], without shadows.

    axis, sign: [H], the local axis of the face's normal and the sign of the ray along it.
    """
    normal = scene.axes.mT.reshape(-1, 3).index_select(0, 3 * box + axis)  # [H, 3]
    height = normal @ scene.lights.mT - (normal * points).sum(-1, keepdim=True)  # of each light over the face, [H, L]
    square = points.square().sum(-1, keepdim=True) - 2.0 * points @ scene.lights.mT + scene.lights.square().sum(-1)
    root = square.clamp_min(_TINY).rsqrt()
    return INTENSITY * ((-sign[:, None] * height).clamp_min(0.0) * root * root * root).sum(-1)


def _floor_depth(scene: BoxScene, directions: Tensor) -> Tensor:
    """Depth [R] at which the floor is met, infinite where it is not."""
    if not scene.floor:
        return directions.new_full((len(directions),), math.inf)
    down = directions[:, 2]
    depth = -scene.eye[2] / torch.where(down.abs() < _TINY, _TINY, down)
    place = scene.eye[:2] + depth[:, None] * directions[:, :2]
    on = ((place - place.new_tensor(FLOOR_CENTER)).abs() <= FLOOR_HALF).all(-1) & (depth > scene.near)
    return torch.where(on, depth, math.inf)


def _add_floor(scene: BoxScene, color, directions, floor, depth, crossed, pairs) -> Tensor:
    """`color` with the floor in the rows that end on it; from below it is black, the lights being on the other side."""
    rows = ((floor <= depth) & torch.isfinite(floor)).nonzero()[:, 0]
    if not len(rows) or float(scene.eye[2]) <= 0:
        return color
    points = scene.eye + floor[rows, None] * directions[rows]
    points[:, 2] = 0.0
    light = (FLOOR_ALBEDO / math.pi) * floor_light(scene, points, crossed[rows], pairs)
    return color.index_copy(0, rows, light[:, None].expand(-1, 3))


def floor_light(scene: BoxScene, points: Tensor, crossed: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """Irradiance [R] on the floor at `points` [R, 3], shadowed by the (light, box) `pairs`.

    crossed: [R], the faces before the point; those that a ray to the light crosses count against the same limit.
    """
    square = (points.square().sum(-1) - 2.0 * scene.lights @ points.mT) + scene.lights.square().sum(-1, keepdim=True)
    root = square.clamp_min(_TINY).rsqrt()
    light = scene.lights[:, 2:].clamp_min(0.0) * root * root * root  # [L, R]
    if pairs:
        light_of, box = torch.tensor(pairs, device=points.device).unbind(1)
        turn = scene.axes[box].mT / scene.halves[box][..., None]  # world -> box coordinates
        origin = (turn @ (scene.lights[light_of] - scene.centers[box])[..., None])[..., 0]
        met = cross(origin, turn @ points.mT - turn @ scene.lights[light_of][..., None], 0.0)
        # what lies on or under the floor (parameter 1) casts no shadow on it; an edge counts as endless faces
        faces = (met.face_in < 1.0 - TOUCHING).to(light.dtype) + (met.face_out < 1.0 - TOUCHING).to(light.dtype)
        faces = torch.where(met.wire < 1.0, math.inf, faces)
        where = light_of.index_select(0, met.box) * light.shape[1] + met.ray
        faces = torch.zeros_like(light).view(-1).index_add(0, where, faces).view_as(light)
        if scene.max_crossings:
            faces = torch.where(faces + crossed > scene.max_crossings, math.inf, faces)
        light = light * torch.exp(DIM * faces)
    return INTENSITY * light.sum(0)
