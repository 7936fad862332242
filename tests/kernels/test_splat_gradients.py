"""Gradients of the rasterisers: tiled against dense, both against finite differences."""

import pytest
import torch
from splat_scenes import planes, scene

from sightline.kernels.splat import blend, rasterize
from sightline.kernels.splat import tiled as tiled_module

NAMES = ("means", "quats", "scales", "opacities", "colors")


def gradients(args, backend, seed=0, background=None):
    inputs, *cameras = args
    inputs = [t.clone().requires_grad_() for t in inputs]
    out = planes(rasterize(*inputs, *cameras, backend=backend, background=background))
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
    return torch.autograd.grad((out * weights).sum(), inputs)


def assert_gradients(found, expected, tolerance=2e-4):
    for name, a, b in zip(NAMES, found, expected):
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-9)
        assert error <= tolerance, f"{name}: {error:.1e} of the largest"


@pytest.mark.parametrize(
    "seed, size, count", [(0, 0.02, 300), (1, 0.08, 100), (2, 0.3, 60), (3, 0.1, 700), (4, 1e-4, 50)]
)
def test_tiled_is_dense(seed, size, count):
    args = scene(seed, (2,), 2, count, 37, 29, size)
    assert_gradients(gradients(args, "tiled"), gradients(args, "dense"))


def test_with_a_background():
    args = scene(5, (), 2, 80)
    assert_gradients(
        gradients(args, "tiled", background=[1.0, 0.5, 0.2]), gradients(args, "dense", background=[1.0, 0.5, 0.2])
    )


def test_without_kept_weights(monkeypatch):
    """What does not fit the memory budget is computed again in the backward pass; the gradients are the same bits."""
    args = scene(6, (2,), 2, 400, 40, 40)
    kept = gradients(args, "tiled")
    for allowed in (0, 1 << 20):
        monkeypatch.setattr(blend, "_SAVE_BYTES", allowed)
        blend.release_memory()
        for a, b in zip(gradients(args, "tiled"), kept):
            assert torch.equal(a, b)


def test_under_autocast():
    args = scene(6, (), 2, 100)
    expected = gradients(args, "tiled")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(args, "tiled")
    for a, b in zip(found, expected):
        assert a.dtype == torch.float32 and torch.equal(a, b)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_precision_of_matrix_products_is_left_alone(precision):
    args = scene(6, (), 2, 100)
    expected = gradients(args, "tiled")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        found = gradients(args, "tiled")
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_in_bands(monkeypatch):
    args = scene(6, (2,), 2, 200, 40, 40)
    expected = gradients(args, "dense")
    whole = tiled_module.rasterize_tiled
    monkeypatch.setattr("sightline.kernels.splat.api.rasterize_tiled", lambda *a: whole(*a, pairs=500))
    assert_gradients(gradients(args, "tiled"), expected)


def test_a_graph_walked_twice():
    inputs, *cameras = scene(7, (), 2, 100)
    inputs = [t.requires_grad_() for t in inputs]
    loss = rasterize(*inputs, *cameras, backend="tiled").color.square().sum()
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    gradients(scene(8, (), 2, 100), "tiled")  # another step uses the memory in between
    for a, b in zip(torch.autograd.grad(loss, inputs), first):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_finite_differences(backend):
    """In float64, with opacities that keep clear of the cap and of the stop."""
    inputs, *cameras = scene(11, (), 2, 7, 13, 11, 0.15, dtype=torch.float64)
    inputs[3] = 0.3 + 0.4 * inputs[3]
    inputs = [t.requires_grad_() for t in inputs]
    loss_weights = torch.randn(2, 11, 13, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(*leaves):
        return (planes(rasterize(*leaves, *cameras, backend=backend)) * loss_weights).sum()

    assert torch.autograd.gradcheck(loss, inputs, eps=1e-7, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_no_gradient_through_the_cap(backend):
    """Where opacity * exp(-sigma) is above 0.999 the alpha is constant."""
    means = torch.tensor([[0.0, 0, 1]])
    opacities = torch.tensor([1.5], requires_grad=True)
    viewmats, Ks = torch.eye(4)[None], torch.tensor([[[20.0, 0, 8.5], [0, 20.0, 8.5], [0, 0, 1]]])
    render = rasterize(
        means,
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.2),
        opacities,
        torch.ones(1, 3),
        viewmats,
        Ks,
        17,
        17,
        backend=backend,
    )
    capped = torch.autograd.grad(render.alpha[0, 8, 8], opacities, retain_graph=True)[0]
    free = torch.autograd.grad(render.alpha[0, 8, 14], opacities)[0]
    assert capped == 0 and free > 0.1


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_descent_finds_a_picture(backend):
    """Gradient descent from a shifted scene gets most of the way back."""
    inputs, *cameras = scene(12, (), 3, 12, 24, 24, 0.12)
    target = rasterize(*inputs, *cameras, backend=backend).color
    means = (inputs[0] + 0.05).requires_grad_()
    optimizer = torch.optim.Adam([means], lr=5e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = (rasterize(means, *inputs[1:], *cameras, backend=backend).color - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
