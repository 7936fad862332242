"""View-dependent color, and drawing the scene's own objects."""

import math

import pytest
import torch

from sightline.kernels.splat import evaluate_sh, rasterize, render_splats
from sightline.scene.cameras import turntable
from sightline.scene.errors import InputError
from sightline.scene.splats import Splats

C1 = math.sqrt(3 / (4 * math.pi))


def splats(seed=0, count=60, degree=0):
    g = torch.Generator().manual_seed(seed)
    return Splats(
        (torch.rand(count, 3, generator=g) - 0.5),
        0.03 + 0.05 * torch.rand(count, 3, generator=g),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.rand(count, generator=g),
        torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.4,
    )


def test_degree_0_is_the_color_of_all_directions():
    s = splats()
    colors = evaluate_sh(s.sh, s.means, torch.randn(4, 3))
    assert colors.shape == (4, 60, 3)
    torch.testing.assert_close(colors, s.rgb.clamp(min=0).expand(4, 60, 3))


def test_degree_1_by_hand():
    """The three functions of degree 1 are -C1 y, C1 z, -C1 x, for the direction from the camera to the Gaussian."""
    sh = torch.zeros(1, 4, 3)
    sh[0, 1, 0], sh[0, 2, 1], sh[0, 3, 2] = 0.5, 0.6, 0.7
    mean, center = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    x, y, z = torch.nn.functional.normalize(mean - center, dim=-1)[0]
    expected = torch.stack([0.5 - 0.5 * C1 * y, 0.5 + 0.6 * C1 * z, 0.5 - 0.7 * C1 * x])
    torch.testing.assert_close(evaluate_sh(sh, mean, center)[0, 0], expected)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_turned_splats_look_the_same_from_turned_cameras(degree):
    s = splats(1, degree=degree)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    turn = turn * torch.linalg.det(turn)
    centers = torch.tensor([[2.0, 0, 1], [0, -3.0, 0.5]])
    turned = s.rotated(turn)
    torch.testing.assert_close(
        evaluate_sh(turned.sh, turned.means, centers @ turn.mT),
        evaluate_sh(s.sh, s.means, centers),
        atol=2e-5,
        rtol=1e-4,
    )


def test_gradient_reaches_the_coefficients():
    s = splats(2, 10, degree=2)
    sh = (s.sh * 0.1).requires_grad_()
    evaluate_sh(sh, s.means, torch.tensor([[2.0, 0, 0]])).sum().backward()
    assert (sh.grad.abs().amax((0, 2)) > 0).all()


@pytest.mark.parametrize("degree", [0, 2])
def test_render_splats(degree):
    s, cameras = splats(3, degree=degree), turntable(3, 20, 2.0, 40, 40, 32)
    seen = []
    render = render_splats(s, cameras, background=(1, 1, 1), callback=lambda *a: seen.append(a))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    colors = evaluate_sh(s.sh, s.means, cameras.centers)
    whole = rasterize(
        s.means,
        s.quats,
        s.scales,
        s.opacities,
        colors,
        cameras.world_to_camera,
        cameras.intrinsics,
        40,
        32,
        background=(1, 1, 1),
    )
    assert render.color.shape == (3, 32, 40, 3) and render.alpha.max() > 0.5
    for a, b in zip(render, whole):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_render_splats_of_no_camera():
    render = render_splats(splats(), turntable(3, 20, 2.0, 40, 40, 32)[:0])
    assert render.color.shape == (0, 32, 40, 3) and render.depth.shape == (0, 32, 40)


def test_render_splats_stops_when_told():
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        render_splats(splats(), turntable(3, 20, 2.0, 40, 16, 16), callback=stop)


def test_wrong_count_of_harmonics():
    with pytest.raises(InputError, match="5 spherical harmonics"):
        evaluate_sh(torch.zeros(2, 5, 3), torch.zeros(2, 3), torch.ones(1, 3))
