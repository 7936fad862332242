"""Signed-distance primitives with a material and a rigid transform, and their ray intersections.

Every primitive is defined in its own local frame, centered at the origin. ``rotation`` and ``center`` map local
points to the object's frame (right-handed, Z up): ``p = rotation @ p_local + center``. Coordinates travel as three
separate tensors (x, y, z), because the origins of a view's rays are one point and their directions are thousands:
the components broadcast without being stored twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

MISS = float("inf")
_TINY = 1e-9


class Material(NamedTuple):
    """Surface appearance: linear-looking display RGB in [0, 1], metallic and roughness in [0, 1]."""

    color: tuple[float, float, float]
    metallic: float = 0.0
    roughness: float = 0.6


Vector = tuple[float, float, float]
Components = tuple[Tensor, Tensor, Tensor]


def _identity() -> Tensor:
    return torch.eye(3)


@dataclass(frozen=True)
class Primitive:
    """One solid: a shape, where it is, and what it is made of.

    Subclasses give ``local_sdf`` (exact, or a lower bound outside), ``half_extent`` (half size of the local bounding
    box) and, where a closed form exists, ``local_intersect``; the fallback is sphere tracing of ``local_sdf``.
    """

    material: Material = Material((0.5, 0.5, 0.5))
    center: Vector = (0.0, 0.0, 0.0)
    rotation: Tensor = field(default_factory=_identity)  # [3, 3], local -> object

    # Defined by subclasses.
    def half_extent(self) -> Vector:
        raise TypeError(f"{type(self).__name__} has no shape of its own")

    def local_sdf(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} has no shape of its own")

    def scaled_shape(self, factor: float) -> Primitive:
        raise TypeError(f"{type(self).__name__} has no shape of its own")

    # Shared by all.
    def to_local(self, x: Tensor, y: Tensor, z: Tensor, *, direction: bool = False) -> Components:
        """Bring points (or directions) of the object's frame into the local frame; any broadcastable shapes."""
        r = self.rotation.tolist()
        if not direction:
            cx, cy, cz = self.center
            x, y, z = x - cx, y - cy, z - cz
        if r == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]:
            return x, y, z
        return tuple(r[0][k] * x + r[1][k] * y + r[2][k] * z for k in range(3))

    def sdf(self, points: Tensor) -> Tensor:
        """Signed distance of points [..., 3] (object frame) to the surface, negative inside; returns [...]."""
        return self.local_sdf(*self.to_local(*points.unbind(-1)))

    def intersect(self, origins: Components, directions: Components) -> Tensor:
        """Ray parameter of the first hit, ``inf`` where the ray misses; rays start outside the object."""
        return self.local_intersect(self.to_local(*origins), self.to_local(*directions, direction=True))

    def local_intersect(self, o: Components, d: Components) -> Tensor:
        return sphere_trace(self, o, d)

    def normals(self, points: Tensor) -> Tensor:
        """Unit outward normals [..., 3] (object frame) at surface points [..., 3], from central differences."""
        x, y, z = self.to_local(*points.unbind(-1))
        h = 1e-3 * max(self.half_extent())
        f = self.local_sdf
        gradient = torch.stack(
            [
                f(x + h, y, z) - f(x - h, y, z),
                f(x, y + h, z) - f(x, y - h, z),
                f(x, y, z + h) - f(x, y, z - h),
            ],
            -1,
        )
        normal = torch.nn.functional.normalize(gradient, dim=-1, eps=1e-12)
        return normal @ self.rotation.T.to(normal)

    def bounds_points(self) -> Tensor:
        """Points [n, 3] (object frame) whose bounding box and ball contain the primitive, tight for boxes."""
        e = torch.tensor(self.half_extent())
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        return (signs * e) @ self.rotation.T + torch.tensor(self.center)

    def outline_points(self) -> Tensor:
        """Points [n, 3] (object frame) that bound the primitive from every side: like `bounds_points`, or tighter."""
        return self.bounds_points()

    def moved(self, offset: Vector, factor: float = 1.0) -> Primitive:
        """The primitive after ``p -> factor * (p + offset)`` of the whole object."""
        shape = self.scaled_shape(factor)
        return replace(shape, center=tuple(factor * (c + o) for c, o in zip(self.center, offset)))


def turned(primitive: Primitive, turn: Tensor) -> Primitive:
    """The primitive after ``p -> turn @ p`` of the whole object; turn [3, 3] is a rotation."""
    center = (turn.double() @ torch.tensor(primitive.center, dtype=torch.float64)).tolist()
    return replace(primitive, center=tuple(center), rotation=(turn.double() @ primitive.rotation.double()).float())


def sphere_trace(primitive: Primitive, o: Components, d: Components, steps: int = 160) -> Tensor:
    """First hits of local rays by marching along the signed distance from the bounding ball on.

    Only rays through the bounding box, widened by the distance that counts as a hit, are marched.
    """
    shape = torch.broadcast_shapes(*(c.shape for c in (*o, *d)))
    radius = sum(e * e for e in primitive.half_extent()) ** 0.5
    close = 2e-4 * radius
    dd = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    od = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    oo = o[0] * o[0] + o[1] * o[1] + o[2] * o[2]
    disc = (od * od - dd * (oo - radius * radius)).expand(shape)
    near, far = box_interval(o, d, tuple(e + close for e in primitive.half_extent()))
    result = torch.full(shape, MISS, dtype=dd.dtype).flatten()
    alive = torch.nonzero(((disc > 0) & (near < far).expand(shape)).flatten()).squeeze(1)
    if alive.numel() == 0:
        return result.view(shape)
    o = [c.expand(shape).flatten()[alive] for c in o]
    d = [c.expand(shape).flatten()[alive] for c in d]
    root = disc.flatten()[alive].sqrt()
    dd = dd.expand(shape).flatten()[alive]
    od = od.expand(shape).flatten()[alive]
    t = ((-od - root) / dd).clamp_min(0.0)
    end = torch.minimum((-od + root) / dd, far.expand(shape).flatten()[alive])
    speed = dd.rsqrt()
    for _ in range(steps):
        distance = primitive.local_sdf(*(c + t * e for c, e in zip(o, d)))
        hit = distance < close
        result[alive[hit]] = t[hit]
        t = t + distance * speed
        keep = ~hit & (t < end)
        if not bool(keep.any()):
            break
        alive, t, end, speed = alive[keep], t[keep], end[keep], speed[keep]
        o, d = [c[keep] for c in o], [c[keep] for c in d]
    return result.view(shape)


def box_interval(o: Components, d: Components, half: Vector) -> tuple[Tensor, Tensor]:
    """Ray parameters at which local rays enter and leave the box of half sizes ``half``; a miss has near > far."""
    near = far = None
    for oc, dc, h in zip(o, d, half):
        inverse = 1.0 / torch.where(dc.abs() < _TINY, torch.full_like(dc, _TINY), dc)
        middle, reach = -oc * inverse, h * inverse.abs()
        a, b = middle - reach, middle + reach
        near = a if near is None else torch.maximum(near, a)
        far = b if far is None else torch.minimum(far, b)
    return near, far


def _interval(near: Tensor, far: Tensor) -> Tensor:
    return torch.where((near < far) & (near > 0), near, torch.full_like(near, MISS))


@dataclass(frozen=True)
class Box(Primitive):
    """Axis-aligned box (local frame) of half sizes ``half``."""

    half: Vector = (0.5, 0.5, 0.5)

    def half_extent(self) -> Vector:
        return self.half

    def scaled_shape(self, factor):
        return replace(self, half=tuple(factor * h for h in self.half))

    def local_sdf(self, x, y, z):
        qx, qy, qz = x.abs() - self.half[0], y.abs() - self.half[1], z.abs() - self.half[2]
        outside = (qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2 + qz.clamp_min(0) ** 2).sqrt()
        return outside + torch.maximum(qx, torch.maximum(qy, qz)).clamp_max(0)

    def local_intersect(self, o, d):
        near, far = box_interval(o, d, self.half)
        return _interval(near, far)


@dataclass(frozen=True)
class RoundedBox(Primitive):
    """Box of outer half sizes ``half`` whose edges are rounded with ``radius``."""

    half: Vector = (0.5, 0.5, 0.5)
    radius: float = 0.1

    def half_extent(self) -> Vector:
        return self.half

    def scaled_shape(self, factor):
        return replace(self, half=tuple(factor * h for h in self.half), radius=factor * self.radius)

    def local_sdf(self, x, y, z):
        r = min(self.radius, *self.half)
        qx, qy, qz = (c.abs() - (h - r) for c, h in zip((x, y, z), self.half))
        outside = (qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2 + qz.clamp_min(0) ** 2).sqrt()
        return outside + torch.maximum(qx, torch.maximum(qy, qz)).clamp_max(0) - r


@dataclass(frozen=True)
class Ellipsoid(Primitive):
    """Ellipsoid with semi-axes ``half``; its distance is the usual first-order bound, exact for spheres."""

    half: Vector = (0.5, 0.5, 0.5)

    def half_extent(self) -> Vector:
        return self.half

    def scaled_shape(self, factor):
        return replace(self, half=tuple(factor * h for h in self.half))

    def local_sdf(self, x, y, z):
        a, b, c = self.half
        k0 = ((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2).sqrt()
        k1 = ((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2).sqrt().clamp_min(_TINY)
        # Far outside the quotient can overshoot for flat ellipsoids; the smallest axis bounds it safely.
        return torch.minimum(k0 * (k0 - 1.0) / k1, (k0 - 1.0) * max(self.half)).maximum((k0 - 1.0) * min(self.half))

    def local_intersect(self, o, d):
        o = [c / h for c, h in zip(o, self.half)]
        d = [c / h for c, h in zip(d, self.half)]
        a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
        c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
        disc = b * b - a * c
        t = (-b - disc.clamp_min(0).sqrt()) / a
        return torch.where((disc > 0) & (t > 0), t, torch.full_like(t, MISS))

    def normals(self, points):
        local = torch.stack(self.to_local(*points.unbind(-1)), -1)
        normal = torch.nn.functional.normalize(local / torch.tensor(self.half).to(local) ** 2, dim=-1)
        return normal @ self.rotation.T.to(normal)

    def bounds_points(self) -> Tensor:
        z = torch.linspace(-1, 1, 9)
        angle = torch.arange(16) * (2 * torch.pi / 16)
        ring = (1 - z * z).clamp_min(0).sqrt()
        unit = torch.stack(
            [ring[:, None] * angle.cos(), ring[:, None] * angle.sin(), z[:, None].expand(9, 16)], -1
        ).reshape(-1, 3)
        return (unit * torch.tensor(self.half)) @ self.rotation.T + torch.tensor(self.center)


@dataclass(frozen=True)
class Frustum(Primitive):
    """Capped cone along local z: radius ``bottom`` at z = -height/2, ``top`` at z = +height/2 (equal: a cylinder)."""

    bottom: float = 0.5
    top: float = 0.5
    height: float = 1.0

    def half_extent(self) -> Vector:
        r = max(self.bottom, self.top)
        return (r, r, self.height / 2)

    def scaled_shape(self, factor):
        return replace(self, bottom=factor * self.bottom, top=factor * self.top, height=factor * self.height)

    def local_sdf(self, x, y, z):
        # Distance in the (radius, z) half plane to the trapezoid (0,-h) (bottom,-h) (top,h) (0,h).
        h, r1, r2 = self.height / 2, self.bottom, self.top
        q = (x * x + y * y).sqrt()
        cap_x = q - torch.where(z < 0, torch.full_like(q, r1), torch.full_like(q, r2)).minimum(q)
        cap_y = z.abs() - h
        k1x, k1y = r2 - r1, 2 * h
        along = (((r2 - q) * k1x + (h - z) * k1y) / (k1x * k1x + k1y * k1y)).clamp(0, 1)
        side_x, side_y = q - r2 + k1x * along, z - h + k1y * along
        inside = (side_x < 0) & (cap_y < 0)
        distance = torch.minimum(cap_x**2 + cap_y**2, side_x**2 + side_y**2).sqrt()
        return torch.where(inside, -distance, distance)

    def local_intersect(self, o, d):
        h = self.height / 2
        mid, slope = (self.bottom + self.top) / 2, (self.top - self.bottom) / self.height
        # Side: x^2 + y^2 = (mid + slope z)^2.
        ro, rd = mid + slope * o[2], slope * d[2]
        a = d[0] * d[0] + d[1] * d[1] - rd * rd
        b = o[0] * d[0] + o[1] * d[1] - ro * rd
        c = o[0] * o[0] + o[1] * o[1] - ro * ro
        a = torch.where(a.abs() < _TINY, torch.full_like(a, _TINY), a)
        disc = b * b - a * c
        root = disc.clamp_min(0).sqrt()
        best = torch.full_like(disc, MISS)
        for t in ((-b - root) / a, (-b + root) / a):
            z = o[2] + t * d[2]
            best = torch.where((disc > 0) & (t > 0) & (z.abs() <= h) & (t < best), t, best)
        dz = torch.where(d[2].abs() < _TINY, torch.full_like(d[2], _TINY), d[2])
        for level, radius in ((-h, self.bottom), (h, self.top)):
            t = (level - o[2]) / dz
            x, y = o[0] + t * d[0], o[1] + t * d[1]
            best = torch.where((x * x + y * y <= radius * radius) & (t > 0) & (t < best), t, best)
        return best

    def bounds_points(self) -> Tensor:
        angle = torch.arange(16) * (2 * torch.pi / 16)
        rings = [
            torch.stack([r * angle.cos(), r * angle.sin(), torch.full_like(angle, z)], -1)
            for r, z in ((self.bottom, -self.height / 2), (self.top, self.height / 2))
        ]
        return torch.cat(rings) @ self.rotation.T + torch.tensor(self.center)


@dataclass(frozen=True)
class Torus(Primitive):
    """Torus around local z: ring radius ``ring``, tube radius ``tube``."""

    ring: float = 0.4
    tube: float = 0.1

    def half_extent(self) -> Vector:
        r = self.ring + self.tube
        return (r, r, self.tube)

    def scaled_shape(self, factor):
        return replace(self, ring=factor * self.ring, tube=factor * self.tube)

    def local_sdf(self, x, y, z):
        q = (x * x + y * y).sqrt() - self.ring
        return (q * q + z * z).sqrt() - self.tube

    def outline_points(self) -> Tensor:
        around, tube = (torch.arange(n) * (2 * torch.pi / n) for n in (24, 8))
        radius, height = self.ring + self.tube * tube.cos(), self.tube * tube.sin()
        points = torch.stack(
            [radius * around.cos()[:, None], radius * around.sin()[:, None], height.expand(24, 8)], -1
        ).reshape(-1, 3)
        return points @ self.rotation.T + torch.tensor(self.center)


@dataclass(frozen=True)
class Convex(Primitive):
    """Convex polyhedron ``normals @ p <= offsets`` with its vertices; the distance is a lower bound outside."""

    planes: tuple[tuple[float, float, float, float], ...] = ()  # unit normal x, y, z and offset
    vertices: tuple[Vector, ...] = ()

    @classmethod
    def prism(cls, outline, half_width: float, **keys) -> Convex:
        """A prism: ``outline`` is a counter-clockwise convex polygon of (x, z), extruded to y = -/+ half_width."""
        planes = [(0.0, 1.0, 0.0, half_width), (0.0, -1.0, 0.0, half_width)]
        for (x0, z0), (x1, z1) in zip(outline, outline[1:] + outline[:1]):
            nx, nz = z1 - z0, x0 - x1
            length = (nx * nx + nz * nz) ** 0.5
            planes.append((nx / length, 0.0, nz / length, (nx * x0 + nz * z0) / length))
        vertices = [(x, y, z) for x, z in outline for y in (-half_width, half_width)]
        return cls(planes=tuple(planes), vertices=tuple(vertices), **keys)

    @classmethod
    def tapered(cls, half: Vector, top: tuple[float, float], shift: float = 0.0, **keys) -> Convex:
        """A box of half sizes ``half`` whose upper face has half sizes ``top``, moved by ``shift`` along x."""
        hx, hy, hz = half
        tx, ty = top
        planes = [(0.0, 0.0, 1.0, hz), (0.0, 0.0, -1.0, hz)]
        for sign in (1.0, -1.0):
            for axis, (b, t) in enumerate(((hx, sign * shift + tx), (hy, ty))):
                n = [0.0, 0.0, b - t]
                n[axis] = sign * 2 * hz
                length = (n[0] ** 2 + n[1] ** 2 + n[2] ** 2) ** 0.5
                planes.append((n[0] / length, n[1] / length, n[2] / length, (2 * hz * b - (b - t) * hz) / length))
        vertices = [(sx * hx, sy * hy, -hz) for sx in (-1, 1) for sy in (-1, 1)]
        vertices += [(shift + sx * tx, sy * ty, hz) for sx in (-1, 1) for sy in (-1, 1)]
        return cls(planes=tuple(planes), vertices=tuple(vertices), **keys)

    def half_extent(self) -> Vector:
        return tuple(max(abs(v[k]) for v in self.vertices) for k in range(3))

    def scaled_shape(self, factor):
        return replace(
            self,
            planes=tuple((a, b, c, factor * w) for a, b, c, w in self.planes),
            vertices=tuple(tuple(factor * q for q in v) for v in self.vertices),
        )

    def local_sdf(self, x, y, z):
        return torch.stack([a * x + b * y + c * z - w for a, b, c, w in self.planes]).amax(0)

    def local_intersect(self, o, d):
        near, far = None, None
        for a, b, c, w in self.planes:
            slope = a * d[0] + b * d[1] + c * d[2]
            gap = w - (a * o[0] + b * o[1] + c * o[2])
            t = gap / torch.where(slope.abs() < _TINY, torch.full_like(slope, _TINY), slope)
            enter = torch.where(slope < 0, t, torch.full_like(t, -MISS))
            leave = torch.where(slope < 0, torch.full_like(t, MISS), t)
            near = enter if near is None else torch.maximum(near, enter)
            far = leave if far is None else torch.minimum(far, leave)
        return _interval(near, far)

    def bounds_points(self) -> Tensor:
        return torch.tensor(self.vertices) @ self.rotation.T + torch.tensor(self.center)
