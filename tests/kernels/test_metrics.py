import math
import sys
import types

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from sightline.kernels import metrics
from sightline.kernels.metrics import (
    contributions,
    fid,
    frechet_distance,
    input_view_bias,
    lpips,
    psnr,
    ssim,
    utilization,
)
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError, MissingDependency
from sightline.scene.splats import Splats


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_of_a_known_error():
    target = pictures(2, 3, 8, 8)
    found = psnr(target + torch.tensor([0.1, 0.01])[:, None, None, None], target)
    assert found.tolist() == pytest.approx([20, 40])
    assert psnr(target * 255 + 25.5, target * 255, data_range=255).tolist() == pytest.approx([20, 20])
    assert psnr(target, target).tolist() == [math.inf, math.inf]


def ssim_by_hand(a, b, data_range):
    """One channel, with scipy's two-dimensional convolution: another road to the same definition."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    mean = lambda x: convolve2d(x, window, mode="valid")  # noqa: E731
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    return (((2 * mu_a * mu_b + c1) * (2 * cov + c2)) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean()


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("size", [(11, 11), (16, 23)])
def test_ssim_is_its_definition(data_range, size):
    a, b = pictures(2, 3, *size) * data_range, pictures(2, 3, *size, seed=1) * data_range
    b = 0.7 * a + 0.3 * b
    by_hand = [[ssim_by_hand(a[i, c].numpy(), b[i, c].numpy(), data_range) for c in range(3)] for i in range(2)]
    assert ssim(a, b, data_range, reduction="none").tolist() == pytest.approx(np.mean(by_hand, axis=1), abs=1e-12)
    assert ssim(a, b, data_range).item() == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_ssim_of_equal_and_of_opposite_pictures():
    a = pictures(1, 3, 16, 16)
    assert ssim(a, a).item() == pytest.approx(1)
    assert ssim(a, 1 - a).item() < 0


def test_ssim_has_the_right_gradient():
    a, b = pictures(1, 2, 12, 12).requires_grad_(), pictures(1, 2, 12, 12, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(ssim, (a, b))


def test_pictures_that_cannot_be_compared_are_refused():
    a = pictures(1, 3, 16, 16)
    for call in (
        lambda: psnr(a, a[..., 1:]),
        lambda: ssim(a, a[:, :2]),
        lambda: ssim(a[..., :10, :], a[..., :10, :]),
        lambda: ssim(a[0], a[0]),
        lambda: ssim(a, a, reduction="sum"),
        lambda: lpips(a, a[..., 1:]),
    ):
        with pytest.raises(InputError):
            call()


def test_frechet_distance_of_known_gaussians():
    """Samples whose mean and covariance are exact, so the closed form is."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(500, 4))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)  # covariance 1
    scales, shift = np.array([1.0, 2, 0.5, 3]), np.array([1.0, 0, -2, 0])
    expected = (shift**2).sum() + ((scales - 1) ** 2).sum()
    assert frechet_distance(torch.tensor(x), torch.tensor(x * scales + shift)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(torch.tensor(x), torch.tensor(x)) == pytest.approx(0, abs=1e-9)
    for wrong in ((x[:1], x), (x, x[:, :2]), (x[0], x[0])):
        with pytest.raises(InputError):
            frechet_distance(*map(torch.tensor, wrong))


def test_frechet_distance_matches_the_matrix_root_of_scipy():
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(1)
    a = generator.normal(size=(300, 6)) @ generator.normal(size=(6, 6))
    b = generator.normal(size=(200, 6)) @ generator.normal(size=(6, 6)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-6)


def test_missing_networks_are_named_and_nothing_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(metrics, "_installed", lambda package: False)
    a = torch.rand(2, 3, 16, 16)
    with pytest.raises(MissingDependency, match="pip install lpips"):
        lpips(a, a)
    with pytest.raises(MissingDependency, match="pip install torch-fidelity"):
        fid(a, a)
    monkeypatch.setattr(metrics, "_installed", lambda package: True)
    with pytest.raises(MissingDependency, match="vgg16-397923af.pth"):
        lpips(a, a)
    with pytest.raises(MissingDependency, match="weights-inception-2015-12-05-6726825d.pth"):
        fid(a, a)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def forget_networks():
    yield
    metrics._lpips_network.cache_clear()
    metrics._fid_network.cache_clear()


def test_installed_networks_get_pictures_in_their_range(monkeypatch, tmp_path, forget_networks):
    (tmp_path / "checkpoints").mkdir()
    for name in (metrics.LPIPS_BACKBONE, metrics.FID_BACKBONE):
        (tmp_path / "checkpoints" / name).write_bytes(b"weights")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(metrics, "_installed", lambda package: True)
    seen = {}

    class Network(torch.nn.Module):
        def __init__(self, *names, **options):
            super().__init__()

        def forward(self, *given):
            seen["given"] = given
            if len(given) == 2:
                return (given[0] - given[1]).abs().mean(dim=(1, 2, 3), keepdim=True)
            return (given[0].float().mean(dim=(2, 3)),)

    package = types.ModuleType("lpips")
    package.LPIPS = Network
    fidelity = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    fidelity.FeatureExtractorInceptionV3 = Network
    monkeypatch.setitem(sys.modules, "lpips", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, fidelity.__name__, fidelity)
    a, b = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    assert lpips(a, b).shape == (3,)
    torch.testing.assert_close(seen["given"][0], a * 2 - 1)
    assert fid(a, b) > 0
    assert seen["given"][0].shape == (3, 3, 299, 299) and seen["given"][0].dtype == torch.uint8


def test_bias_is_the_gap_of_means_over_finite_values():
    bias = input_view_bias(
        {"psnr": torch.tensor([20.0, 24.0]), "ssim": torch.tensor([0.9])},
        {"psnr": torch.tensor([18.0, math.inf]), "ssim": torch.tensor([0.7]), "other": torch.tensor([1.0])},
    )
    assert bias == {"psnr": pytest.approx(4), "ssim": pytest.approx(0.2)}
    assert math.isnan(input_view_bias({"psnr": torch.tensor([math.inf])}, {"psnr": torch.tensor([1.0])})["psnr"])


def row_of(opacities, spacing=0.3):
    """Equal Gaussians side by side."""
    count = len(opacities)
    means = torch.zeros(count, 3)
    means[:, 1] = spacing * (torch.arange(count) - (count - 1) / 2)
    rotations = torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4)
    return Splats.from_rgb(
        means, torch.full((count, 3), 0.02), rotations, torch.tensor(opacities), torch.rand(count, 3)
    )


FRONT = orbit(0, 0, 1.3, 52, 64, 64)


def test_contributions_are_what_reaches_the_pixels():
    splats = row_of([0.9, 0.3, 0.0])
    weights = contributions(splats, FRONT)
    # an isolated Gaussian of standard deviation s pixels covers 2 pi s^2 pixels, times its opacity
    sigma = 0.02 * FRONT.intrinsics[0, 0, 0].item() / 1.3
    assert weights[0].item() == pytest.approx(0.9 * 2 * math.pi * (sigma**2 + 0.3), rel=0.05)
    assert (weights[0] / weights[1]).item() == pytest.approx(3, rel=0.05)
    assert weights[2] == 0


def test_what_is_hidden_contributes_less():
    splats = row_of([0.999, 0.999], spacing=0.0)
    splats.means[:, 0] = torch.tensor([0.2, -0.2])  # one behind the other, seen from +X
    weights = contributions(splats, FRONT)
    assert weights[1] < 0.4 * weights[0]
    both = contributions(splats, orbit([0, 180], 0, 1.3, 52, 64, 64))
    assert both[0].item() == pytest.approx(both[1].item(), rel=1e-3)


def test_utilization_counts_equal_shares():
    ring = orbit([0, 20], 0, 1.3, 52, 64, 64)
    even = utilization(row_of([0.5, 0.5, 0.5]), ring)
    assert even["count"] == 3 and even["opaque"] == 1
    assert even["effective"] == pytest.approx(3, rel=0.02) and even["effective_fraction"] == pytest.approx(1, rel=0.02)
    single = utilization(row_of([0.9, 0.04, 0.0]), ring)
    assert single["opaque"] == pytest.approx(1 / 3)
    assert 1 <= single["effective"] < 1.3
    assert utilization(row_of([0.0, 0.0]), ring)["effective"] == 0
    assert "effective" not in utilization(row_of([0.5]))
    with pytest.raises(InputError, match="no splats"):
        utilization(row_of([]))
