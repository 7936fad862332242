"""The rasterisers against each other and against what can be computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_scenes import assert_same, planes, scene

from sightline.kernels.splat import blend, rasterize, release_memory
from sightline.kernels.splat import tiled as tiled_module
from sightline.scene.errors import InputError

EYE = torch.eye(4)[None]
K = torch.tensor([[[20.0, 0, 8.5], [0, 20.0, 8.5], [0, 0, 1]]])


def both(inputs, *cameras, **options):
    return [planes(rasterize(*inputs, *cameras, backend=backend, **options)) for backend in ("dense", "tiled")]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    count=st.sampled_from([1, 2, 31, 32, 33, 64, 150, 400]),
    width=st.integers(1, 70),
    height=st.integers(1, 50),
    size=st.sampled_from([1e-5, 0.005, 0.05, 0.3, 3.0]),
    channels=st.sampled_from([1, 3, 5]),
)
def test_tiled_is_dense(seed, count, width, height, size, channels):
    dense, tiled = both(*scene(seed, (), 2, count, width, height, size, channels))
    assert_same(tiled, dense)


@pytest.mark.parametrize("tile", [4, 8, 16, 32])
@pytest.mark.parametrize("pairs", [1, 100, 1 << 22])
def test_neither_tile_size_nor_bands_change_the_picture(monkeypatch, tile, pairs):
    args = scene(3, (2,), 2, 120, 45, 37)
    expected = planes(rasterize(*args[0], *args[1:], backend="dense"))
    whole = tiled_module.rasterize_tiled
    monkeypatch.setattr("sightline.kernels.splat.api.rasterize_tiled", lambda *a: whole(*a, tile=tile, pairs=pairs))
    assert_same(planes(rasterize(*args[0], *args[1:], backend="tiled")), expected)


def test_a_scene_of_a_thousand_splats_a_pixel():
    """Long lists over many chunks, most of them behind saturated pixels."""
    (means, quats, scales, opacities, colors), *cameras = scene(5, (), 1, 3000, 24, 20, 0.2)
    for factor in (0.02, 1.0):
        dense, tiled = both((means, quats, scales, opacities * factor, colors), *cameras)
        assert_same(tiled, dense, atol=1e-4)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_nothing_to_draw(backend):
    inputs, viewmats, Ks, width, height = scene(0, (2,), 3, 0)
    render = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=(0.2, 0.4, 0.6))
    assert render.color.shape == (2, 3, height, width, 3) and render.alpha.shape == render.depth.shape == (
        2,
        3,
        height,
        width,
    )
    assert torch.equal(render.color, torch.tensor([0.2, 0.4, 0.6]).expand_as(render.color))
    assert not render.alpha.any() and not render.depth.any()


@pytest.mark.parametrize("backend", ["dense", "tiled"])
@pytest.mark.parametrize(
    "change",
    [
        dict(means=torch.tensor([[0.0, 0, -1]])),  # behind the camera
        dict(means=torch.tensor([[0.0, 0, 0.009]])),  # nearer than near
        dict(means=torch.tensor([[0.0, 0, 0]])),  # in the camera
        dict(means=torch.tensor([[9.0, 0, 1]])),  # off the image
        dict(opacities=torch.tensor([1 / 255 - 1e-5])),  # too faint
        dict(opacities=torch.tensor([0.0])),
    ],
)
def test_culled(backend, change):
    inputs = dict(
        means=torch.tensor([[0.0, 0, 1]]),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        scales=torch.full((1, 3), 0.1),
        opacities=torch.tensor([0.9]),
        colors=torch.ones(1, 3),
    )
    assert rasterize(**inputs, viewmats=EYE, Ks=K, width=17, height=17, backend=backend).alpha.max() > 0.8
    leaves = {name: t.clone().requires_grad_() for name, t in {**inputs, **change}.items()}
    render = rasterize(**leaves, viewmats=EYE, Ks=K, width=17, height=17, backend=backend)
    assert not render.alpha.any() and not render.color.any() and not render.depth.any()
    (render.color.sum() + render.depth.sum()).backward()
    assert all(not t.grad.any() for t in leaves.values()), "what is not drawn has no gradient"


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_a_covariance_that_overflows_is_culled(backend):
    inputs, viewmats, Ks, width, height = scene(0, (), 2, 20)
    expected = rasterize(*(t[1:] for t in inputs), viewmats, Ks, width, height, backend=backend)
    inputs[2][0] = 1e30
    found = rasterize(*inputs, viewmats, Ks, width, height, backend=backend)
    torch.testing.assert_close(planes(found), planes(expected))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_one_gaussian_by_hand(backend):
    """An isotropic Gaussian on the axis: sigma^2 = (f s / z)^2 + 0.3 pixels^2."""
    z, scale, opacity = 2.0, 0.2, 0.7
    render = rasterize(
        torch.tensor([[0.0, 0, z]]),
        torch.tensor([[2.0, 0, 0, 0]]),
        torch.full((1, 3), scale),
        torch.tensor([opacity]),
        torch.tensor([[0.1, 0.5, 0.9]]),
        EYE,
        K,
        17,
        17,
        backend=backend,
    )
    variance = (20 * scale / z) ** 2 + 0.3
    axis = torch.arange(17) + 0.5 - 8.5
    alpha = opacity * torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * variance))
    alpha = torch.where(alpha < 1 / 255, 0.0, alpha)
    torch.testing.assert_close(render.alpha[0], alpha, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(render.color[0], alpha[..., None] * torch.tensor([0.1, 0.5, 0.9]), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(render.depth[0], torch.where(alpha > 0, z, 0.0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_alpha_cap_and_stop(backend):
    """Alpha is capped at 0.999, and a Gaussian that would leave at most 1e-4 of the light is not added."""
    depths = torch.tensor([1.0, 2.0, 3.0])
    means = torch.stack([torch.zeros(3), torch.zeros(3), depths], -1)
    colors = torch.eye(3)
    for opacities, expected in [
        ([1.0, 1.0, 1.0], [0.999, 0, 0]),
        ([0.5, 0.9, 0.9], [0.5, 0.45, 0.045]),
        ([0.99, 0.995, 0.5], [0.99, 0, 0]),
        ([0.99, 0.98, 0.4], [0.99, 0.0098, 0.00008]),
    ]:
        render = rasterize(
            means,
            torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4),
            torch.full((3, 3), 0.5),
            torch.tensor(opacities),
            colors,
            EYE,
            K,
            17,
            17,
            backend=backend,
        )
        torch.testing.assert_close(render.color[0, 8, 8], torch.tensor(expected), atol=2e-6, rtol=0)
        torch.testing.assert_close(render.alpha[0, 8, 8], torch.tensor(sum(expected)), atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_equal_depths_are_drawn_in_index_order(backend):
    means = torch.tensor([[0.0, 0, 1]]).expand(4, 3)
    render = rasterize(
        means,
        torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4),
        torch.full((4, 3), 0.2),
        torch.full((4,), 0.5),
        torch.eye(4),
        EYE,
        K,
        17,
        17,
        backend=backend,
    )
    torch.testing.assert_close(render.color[0, 8, 8], torch.tensor([0.5, 0.25, 0.125, 0.0625]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_a_batch_is_its_scenes(backend):
    inputs, viewmats, Ks, width, height = scene(8, (2, 3), 2, 50)
    together = planes(rasterize(*inputs, viewmats, Ks, width, height, backend=backend))
    assert together.shape == (2, 3, 2, height, width, 5)
    for i in range(2):
        for j in range(3):
            alone = rasterize(*(t[i, j] for t in inputs), viewmats[i, j], Ks[i, j], width, height, backend=backend)
            torch.testing.assert_close(together[i, j], planes(alone), atol=2e-6, rtol=0)


def test_many_views_are_drawn_in_parts(monkeypatch):
    inputs, viewmats, Ks, width, height = scene(9, (2,), 5, 30)
    colors = torch.rand(2, 5, 30, 3, generator=torch.Generator().manual_seed(1))
    background = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(2))
    args = (*inputs[:4], colors, viewmats, Ks, width, height)
    whole = rasterize(*args, background=background)
    monkeypatch.setattr("sightline.kernels.splat.api._ITEMS", 70)
    parts = rasterize(*args, background=background)
    torch.testing.assert_close(planes(parts), planes(whole), atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_background(backend):
    inputs, viewmats, Ks, width, height = scene(4, (2,), 3, 50)
    bare = rasterize(*inputs, viewmats, Ks, width, height, backend=backend)
    one = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=[0.1, 0.2, 0.3])
    each = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    many = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=each)
    light = (1 - bare.alpha)[..., None]
    torch.testing.assert_close(one.color, bare.color + light * torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(many.color, bare.color + light * each[:, :, None, None])
    assert torch.equal(one.alpha, bare.alpha) and torch.equal(one.depth, bare.depth)


def test_colors_of_each_view():
    inputs, viewmats, Ks, width, height = scene(6, (), 3, 50)
    colors = torch.rand(3, 50, 3, generator=torch.Generator().manual_seed(0))
    together = rasterize(*inputs[:4], colors, viewmats, Ks, width, height)
    for view in range(3):
        alone = rasterize(*inputs[:4], colors[view], viewmats[view : view + 1], Ks[view : view + 1], width, height)
        torch.testing.assert_close(together.color[view], alone.color[0], atol=2e-6, rtol=0)


def test_depth_lies_between_the_gaussians():
    inputs, viewmats, Ks, width, height = scene(7, (), 2, 200)
    render = rasterize(*inputs, viewmats, Ks, width, height)
    z = (viewmats[:, None, 2, :3] * inputs[0]).sum(-1) + viewmats[:, 2, 3, None]
    seen = render.alpha > 0
    for view in range(2):
        inside = render.depth[view][seen[view]]
        assert inside.min() > max(z[view].min().item(), 0.01) - 1e-3 and inside.max() < z[view].max() + 1e-3
    assert not render.depth[~seen].any()


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_half_precision_and_autocast_are_computed_in_float32(backend):
    inputs, viewmats, Ks, width, height = scene(1, (), 1, 60)
    expected = rasterize(*(t.half().float() for t in inputs), viewmats, Ks, width, height, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rasterize(*(t.half() for t in inputs), viewmats, Ks, width, height, backend=backend)
    assert found.color.dtype == torch.float32
    torch.testing.assert_close(planes(found), planes(expected))


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_everything_is_made_on_the_device_of_the_input(backend):
    """With another default device, a tensor made without naming its device would not fit the others."""
    inputs, viewmats, Ks, width, height = scene(1, (), 2, 60)
    inputs = [t.requires_grad_() for t in inputs]
    expected = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=(1, 1, 1))
    gradients = torch.autograd.grad(expected.color.sum(), inputs)
    with torch.device("meta"):
        found = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=(1, 1, 1))
        others = torch.autograd.grad(found.color.sum(), inputs)
    assert torch.equal(planes(found), planes(expected))
    assert all(torch.equal(a, b) for a, b in zip(gradients, others))


def test_memory_of_a_step_serves_the_next():
    release_memory()
    inputs, viewmats, Ks, width, height = scene(2, (), 2, 60)
    inputs = [t.requires_grad_() for t in inputs]
    grads = []
    for _ in range(3):
        render = rasterize(*inputs, viewmats, Ks, width, height)
        grads.append(torch.autograd.grad(render.color.square().sum(), inputs))
    assert len(blend._arenas) == 1
    for again in grads[1:]:
        for a, b in zip(grads[0], again):
            assert torch.equal(a, b)
    release_memory()
    assert not blend._arenas


def bad(**change):
    inputs, viewmats, Ks, width, height = scene(0, (), 2, 5)
    names = ("means", "quats", "scales", "opacities", "colors")
    return {**dict(zip(names, inputs)), "viewmats": viewmats, "Ks": Ks, "width": width, "height": height, **change}


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(means=torch.zeros(5, 2)), "`means` has shape [5, 2]"),
        (dict(quats=torch.ones(5, 3)), "`quats` has shape [5, 3]"),
        (dict(opacities=torch.ones(4)), "`opacities` has shape [4]"),
        (dict(colors=torch.ones(3, 5, 3)), "`colors` has shape [3, 5, 3]"),
        (dict(viewmats=torch.eye(4)), "`viewmats` has shape [4, 4]"),
        (dict(Ks=torch.zeros(2, 3, 3)), "focal length"),
        (dict(Ks=torch.tensor([[9.0, 1, 4], [0, 9, 4], [0, 0, 1]]).expand(2, 3, 3)), "skew"),
        (dict(scales=torch.full((5, 3), math.nan)), "`scales` holds numbers that are not finite"),
        (dict(width=0), "image size is 0x32"),
        (dict(near=0.0), "`near` is 0.0"),
        (dict(backend="cuda"), "`backend` is 'cuda'"),
        (dict(background=torch.ones(4)), "`background` has shape [4]"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(InputError) as error:
        rasterize(**bad(**change))
    assert words in str(error.value) and "\n" not in str(error.value)
