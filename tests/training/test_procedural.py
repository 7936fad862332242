"""Procedural objects: deterministic, well-formed, and their rays agree with their distances."""

import math

import pytest
import torch

from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError
from sightline.training.procedural import (
    HELD_OUT_KINDS,
    KINDS,
    Box,
    Convex,
    Ellipsoid,
    Frustum,
    Material,
    RoundedBox,
    Torus,
    composite,
    make_object,
    render_views,
)
from sightline.training.procedural.palette import rotation
from sightline.training.procedural.primitives import Primitive, sphere_trace

TURN = rotation("x", 35.0) @ rotation("z", 50.0)
SHAPES = [
    Box(half=(0.3, 0.2, 0.25), center=(0.1, -0.05, 0.0), rotation=TURN),
    RoundedBox(half=(0.3, 0.2, 0.25), radius=0.08, center=(0.1, 0.0, 0.05), rotation=TURN),
    Ellipsoid(half=(0.4, 0.2, 0.3), center=(0.0, 0.1, 0.0), rotation=TURN),
    Frustum(bottom=0.3, top=0.1, height=0.5, rotation=TURN),
    Frustum(bottom=0.2, top=0.2, height=0.6, center=(0.05, 0.0, 0.0), rotation=TURN),
    Torus(ring=0.3, tube=0.08, rotation=TURN),
    Convex.prism([(-0.3, -0.2), (0.3, -0.2), (0.0, 0.3)], 0.2, rotation=TURN),
    Convex.tapered((0.3, 0.25, 0.2), (0.15, 0.1), 0.05, rotation=TURN),
]


def random_rays(count=3000):
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * 1.5
    targets = torch.randn(count, 3, generator=generator) * 0.2
    return origins, targets - origins


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_hits_lie_on_the_surface(shape):
    origins, directions = random_rays()
    t = shape.intersect(origins.unbind(1), directions.unbind(1))
    hit = torch.isfinite(t)
    assert 0.1 < float(hit.float().mean()) < 0.99
    points = origins[hit] + directions[hit] * t[hit, None]
    assert float(shape.sdf(points).abs().max()) < 2e-3
    # Nothing of the solid lies before the hit, nor anywhere on a ray that misses.
    for fraction in (0.5, 0.9, 0.98):
        assert float(shape.sdf(origins[hit] + directions[hit] * t[hit, None] * fraction).min()) > -1e-4
    along = torch.linspace(0.2, 1.8, 60)
    missed = origins[~hit, None] + directions[~hit, None] * along[:, None]
    assert float(shape.sdf(missed).min()) > -2e-3


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_closed_form_equals_sphere_tracing(shape):
    origins, directions = random_rays(1000)
    o = shape.to_local(*origins.unbind(1))
    d = shape.to_local(*directions.unbind(1), direction=True)
    traced, exact = sphere_trace(shape, o, d, steps=400), shape.local_intersect(o, d)
    both = torch.isfinite(traced) & torch.isfinite(exact)
    assert float((torch.isfinite(traced) != torch.isfinite(exact)).float().mean()) < 0.02  # grazing rays
    assert float((traced - exact)[both].abs().quantile(0.98)) < 5e-3


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_normals_point_outward(shape):
    origins, directions = random_rays()
    t = shape.intersect(origins.unbind(1), directions.unbind(1))
    hit = torch.isfinite(t)
    points = origins[hit] + directions[hit] * t[hit, None]
    normals = shape.normals(points)
    assert torch.allclose(normals.norm(dim=1), torch.ones(len(normals)), atol=1e-3)
    assert float(((normals * directions[hit]).sum(1) < 1e-2).float().mean()) > 0.99
    assert float((shape.sdf(points + 0.01 * normals) > 0).float().mean()) > 0.99


def test_scaling_scales_distances():
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1)) * 0.5
    for shape in SHAPES:
        moved = shape.moved((0.1, -0.2, 0.3), 0.5)
        expected = 0.5 * shape.sdf(points)
        assert torch.allclose(moved.sdf((points + torch.tensor([0.1, -0.2, 0.3])) * 0.5), expected, atol=1e-5)


def test_a_primitive_without_shape_says_so():
    with pytest.raises(TypeError, match="no shape"):
        Primitive().sdf(torch.zeros(1, 3))


@pytest.mark.parametrize("kind", KINDS + HELD_OUT_KINDS)
def test_objects_are_deterministic_and_fit(kind):
    first, again, other = make_object(kind, 5), make_object(kind, 5), make_object(kind, 6)
    views = orbit([0.0, 120.0], [20.0, 35.0], 1.3, 52.0, 32, 32)
    assert torch.equal(render_views(first, views), render_views(again, views))
    assert not torch.equal(render_views(first, views), render_views(other, views))
    points = torch.cat([p.bounds_points() for p in first.primitives])
    assert 0.44 < float(points.norm(dim=1).max()) < 0.5001
    assert len({p.material.color for p in first.primitives}) >= 1
    alpha = render_views(first, views)[..., 3]
    assert 0.02 < float(alpha.mean()) < 0.6
    border = torch.cat([alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]], 1)
    assert float(border.max()) == 0.0


def test_the_catalogue_has_cars_many_kinds_and_colors():
    assert "car" in KINDS and len(KINDS) >= 8 and not set(KINDS) & set(HELD_OUT_KINDS)
    hues = {tuple(round(c, 1) for c in p.material.color) for s in range(10) for p in make_object("car", s).primitives}
    assert len(hues) > 20


def test_rendering_shades_and_antialiases():
    ball = make_object("snowman", 0).__class__("ball", 0, (Ellipsoid(Material((0.8, 0.2, 0.1)), half=(0.4, 0.4, 0.4)),))
    view = orbit([0.0], [0.0], 1.3, 52.0, 64, 64)
    rgba = render_views(ball, view, samples=2, lamp_azimuth=0.0, lamp_elevation=80.0)[0]
    alpha = rgba[..., 3]
    # A sphere of radius r at distance d covers a disc of radius f r / sqrt(d^2 - r^2).
    radius = 32 / math.tan(math.radians(26)) * 0.4 / math.sqrt(1.3**2 - 0.4**2)
    assert float(alpha.sum()) == pytest.approx(math.pi * radius**2, rel=0.01)
    assert set(alpha.unique().tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    inside = alpha == 1
    assert torch.allclose(rgba[inside][:, 1] / rgba[inside][:, 0], torch.tensor(0.25), atol=1e-4)
    assert float(rgba[20, 32, 0]) > float(rgba[44, 32, 0])  # lit from above
    white = composite(rgba)
    assert torch.equal(white[alpha == 0], torch.ones_like(white[alpha == 0]))


def test_unknown_kind_and_seed_are_refused():
    with pytest.raises(InputError, match="dragon"):
        make_object("dragon", 0)
    with pytest.raises(InputError, match="-1"):
        make_object("car", -1)
