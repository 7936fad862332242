"""Pictures of decoded surfaces: equal surfaces cost nothing, gradients arrive, and what LPIPS needs is said."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sightline.kernels import metrics
from sightline.scene.errors import MissingDependency
from sightline.training.trellis2.networks import build_networks
from sightline.training.trellis2.recipe import LossOptions
from sightline.training.trellis2.stages import ShapeVae
from sightline.training.trellis2.surface_terms import View, picture, random_view, surface_terms

from .tiny_data import tiny_recipe

SIDE, SIZE = 12, 40


@pytest.fixture(scope="module")
def ball():
    """The dual grid of a ball: coords [N, 3], vertices [N, 3], flags [N, 3]."""
    line = torch.linspace(-1, 1, SIDE + 1)
    inside = sum(axis.square() for axis in torch.meshgrid(line, line, line, indexing="ij")) < 0.5
    solid = F.avg_pool3d(inside[None].float(), 2, 1)[0]
    coords = torch.nonzero((solid > 0) & (solid < 1)).int()
    x, y, z = (coords.long() + 1).T
    near = torch.stack([inside[x - 1, y, z], inside[x, y - 1, z], inside[x, y, z - 1]], 1)
    return coords, torch.full((len(coords), 3), 0.5), near != inside[x, y, z][:, None]


def terms(ball, vertex, crossed=None, **options):
    coords, true, flags = ball
    given = F.pad(coords, (1, 0)), true, vertex, flags, flags if crossed is None else crossed
    chosen = LossOptions(**{"depth": 10.0, "normal": 1.0, "mask": 1.0, "ssim": 0.2, "render_size": SIZE, **options})
    return surface_terms(*given, torch.ones(len(coords), 1), SIDE, 1, chosen, torch.Generator().manual_seed(2))


def test_the_true_surface_costs_nothing(ball):
    found = terms(ball, ball[1])
    assert set(found) == {"depth", "normal", "ssim", "mask"}
    assert max(abs(float(value)) for value in found.values()) < 1e-6


def test_gradients_reach_the_vertices(ball):
    moved = (ball[1] + 0.2 * torch.randn(ball[1].shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    found = terms(ball, moved)
    assert all(found[name] > 1e-4 for name in ("depth", "normal", "ssim"))
    for name in ("depth", "normal", "ssim"):
        (gradient,) = torch.autograd.grad(found[name], moved, retain_graph=True)
        assert gradient.isfinite().all() and gradient.abs().max() > 0
    nothing = terms(ball, moved, torch.zeros_like(ball[2]))
    assert nothing["mask"] > 0.2 and nothing["depth"] > 0


def test_lpips_of_the_normals(ball, monkeypatch):
    seen = []

    def network(image, target):
        seen.append(image)
        return (image - target).abs().mean(dim=(1, 2, 3), keepdim=True)

    monkeypatch.setattr(metrics, "_installed", lambda package: True)
    monkeypatch.setattr(metrics, "_missing_weights", lambda name, file: None)
    monkeypatch.setattr(metrics, "_lpips_network", lambda device: network)
    moved = (ball[1] * 1.2).requires_grad_()
    found = terms(ball, moved, lpips=0.2)
    assert (
        seen[0].shape == (1, 3, SIZE, SIZE) and -1 <= float(seen[0].detach().min()) < float(seen[0].detach().max()) <= 1
    )
    assert float(found["lpips"]) == pytest.approx(0.2 * 2 * float(found["normal"]), rel=1e-5)
    assert torch.autograd.grad(found["lpips"], moved)[0].abs().max() > 0


def test_the_near_plane_opens_the_surface(ball):
    coords, vertex, crossed = ball
    generator = torch.Generator().manual_seed(0)
    view = random_view(generator)
    given = coords, vertex, crossed, torch.ones(len(coords), 1), SIDE
    radius = float(torch.linalg.vector_norm(view.matrix[:, 3]))
    assert radius - 1 <= view.near <= radius
    whole, open_, gone = (
        picture(*given, View(view.matrix, view.focal, near), SIZE) for near in (0, radius, radius + 1)
    )
    assert whole[2].sum() > 200 and 0.9 < open_[2].sum() / whole[2].sum() <= 1 and gone[2].sum() == 0
    seen = open_[2] > 0
    assert (open_[0][seen] > radius - 0.05).all() and float(whole[0][seen].min()) < radius - 0.25
    assert (whole[1][whole[2] > 0][:, 2] >= 0.5).all() and (whole[1][whole[2] == 0] == 0.5).all()


def test_without_its_network_lpips_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    monkeypatch.setattr(metrics, "_installed", lambda package: False)
    recipe = tiny_recipe("shape_vae")
    recipe = replace(recipe, losses=replace(recipe.losses, normal=1.0, lpips=0.2))
    with pytest.raises(MissingDependency, match=r"pip install.*--set losses.lpips=0 trains without it\.$"):
        ShapeVae(recipe, build_networks(recipe))
