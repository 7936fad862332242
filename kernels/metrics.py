"""How good pictures are (PSNR, SSIM, LPIPS, FID) and how splats are used (input-view bias, utilization).

PSNR and SSIM are ours and differentiable. LPIPS and FID need trained networks: they run where those are installed,
and say what is missing where they are not; nothing is ever downloaded here.
Input-view bias and utilization are **our definitions** (the paper names both; its formulas were not available), so do
not compare them with published numbers.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.cameras import Cameras
from ..scene.errors import InputError, MissingDependency
from ..scene.splats import Splats

SSIM_WINDOW, SSIM_SIGMA, SSIM_K = 11, 1.5, (0.01, 0.03)
LPIPS_BACKBONE = "vgg16-397923af.pth"  # torchvision's file name of the VGG-16 that LPIPS-VGG runs on
FID_BACKBONE = "weights-inception-2015-12-05-6726825d.pth"  # torch-fidelity's file name of the FID Inception
UTILIZATION_OPACITY = 0.05


def psnr(image: Tensor, target: Tensor, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture, 10 log10(data_range^2 / MSE); infinite where they are equal.

    image, target: [..., C, H, W] (or any layout with three trailing axes), same shape. Returns [...].
    """
    _check_pair(image, target)
    mse = (image - target).square().mean(dim=(-3, -2, -1))
    return -10 * torch.log10(mse / data_range**2)


def ssim(image: Tensor, target: Tensor, data_range: float = 1.0, reduction: str = "mean") -> Tensor:
    """Structural similarity (Wang et al. 2004) with an 11x11 Gaussian window, sigma 1.5, K = (0.01, 0.03).

    image, target: [B, C, H, W], H and W at least 11; only full windows count. Differentiable.
    reduction: "mean" for a scalar, "none" for [B].
    """
    _check_pair(image, target)
    if image.ndim != 4 or min(image.shape[-2:]) < SSIM_WINDOW:
        raise InputError(f"SSIM got pictures of shape {list(image.shape)}; it needs [B, C, H, W] of 11x11 or larger.")
    c1, c2 = (SSIM_K[0] * data_range) ** 2, (SSIM_K[1] * data_range) ** 2
    channels = image.shape[1]
    # one depthwise pass over the five fields whose windowed means make up the index
    fields = torch.cat([image, target, image * image, target * target, image * target], dim=1)
    offsets = torch.arange(SSIM_WINDOW, dtype=fields.dtype, device=fields.device) - SSIM_WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).expand(5 * channels, 1, -1)
    means = F.conv2d(fields, window[..., :, None], groups=5 * channels)
    means = F.conv2d(means, window[..., None, :], groups=5 * channels)
    mu_x, mu_y, xx, yy, xy = means.split(channels, dim=1)
    covariance = xy - mu_x * mu_y
    variances = xx - mu_x.square() + yy - mu_y.square()
    structure = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mu_x * mu_y + c1) / (mu_x.square() + mu_y.square() + c1)
    per_image = (luminance * structure).mean(dim=(1, 2, 3))
    if reduction == "none":
        return per_image
    if reduction != "mean":
        raise InputError(f"The reduction {reduction!r} is unknown; choose 'mean' or 'none'.")
    return per_image.mean()


# ---- networks that others trained ----------------------------------------------------------------------------------


def lpips(image: Tensor, target: Tensor) -> Tensor:
    """LPIPS with the VGG-16 backbone (Zhang et al. 2018), by the package `lpips` or `torchmetrics`.

    image, target: [B, 3, H, W] in [0, 1]. Returns [B], differentiable. Raises MissingDependency where the package or
    the weights of its backbone are not installed.
    """
    _check_pair(image, target)
    missing = lpips_missing()
    if missing:
        raise MissingDependency(missing)
    return _lpips_network(image.device)(image.float() * 2 - 1, target.float() * 2 - 1).reshape(-1)


def lpips_missing() -> str | None:
    """One sentence that says what LPIPS still needs, or None where it can run."""
    if not (_installed("lpips") or _installed("torchmetrics")) or not _installed("torchvision"):
        return "LPIPS needs the packages lpips and torchvision (pip install lpips torchvision)."
    return _missing_weights("LPIPS", LPIPS_BACKBONE)


@lru_cache(maxsize=1)
def _lpips_network(device: torch.device):
    if _installed("lpips"):
        import lpips as package

        return package.LPIPS(net="vgg", verbose=False).eval().requires_grad_(False).to(device)
    from torchmetrics.functional.image.lpips import _LPIPS

    return _LPIPS(pretrained=True, net="vgg").eval().requires_grad_(False).to(device)


def fid(images: Tensor, targets: Tensor, batch: int = 16) -> float:
    """Frechet Inception Distance (Heusel et al. 2017) on the 2048 pooled features of torch-fidelity's Inception-v3.

    images, targets: [N, 3, H, W] and [M, 3, H, W] in [0, 1], any size (resized to 299x299, bilinear).
    Raises MissingDependency where the package or its weights are not installed.
    """
    missing = fid_missing()
    if missing:
        raise MissingDependency(missing)
    network = _fid_network(images.device)

    def features(pictures: Tensor) -> Tensor:
        parts = []
        for chunk in pictures.float().split(batch):
            chunk = F.interpolate(chunk, size=(299, 299), mode="bilinear", align_corners=False)
            with torch.no_grad():
                parts.append(network((chunk * 255).clamp(0, 255).byte())[0])
        return torch.cat(parts)

    return frechet_distance(features(images), features(targets))


@lru_cache(maxsize=1)
def _fid_network(device: torch.device):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval().to(device)


def fid_missing() -> str | None:
    """One sentence that says what FID still needs, or None where it can run."""
    if not _installed("torch_fidelity"):
        return "FID needs the package torch-fidelity (pip install torch-fidelity)."
    return _missing_weights("FID", FID_BACKBONE)


def frechet_distance(features: Tensor, targets: Tensor) -> float:
    """Squared 2-Wasserstein distance of the Gaussians fitted to two sets of features [N, D] and [M, D].

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); in float64, the trace of the root from the eigenvalues of S1 S2.
    """
    if features.ndim != 2 or targets.ndim != 2 or features.shape[1] != targets.shape[1]:
        raise InputError(
            f"The features have shapes {list(features.shape)} and {list(targets.shape)}; both need [N, D]."
        )
    if min(len(features), len(targets)) < 2:
        raise InputError("A Frechet distance needs at least two pictures on either side.")
    features, targets = features.double().cpu(), targets.double().cpu()
    difference = features.mean(dim=0) - targets.mean(dim=0)
    first, second = torch.cov(features.mT), torch.cov(targets.mT)
    first, second = torch.atleast_2d(first), torch.atleast_2d(second)
    root = torch.linalg.eigvals(first @ second).real.clamp_min(0).sqrt().sum()
    return float(difference @ difference + first.trace() + second.trace() - 2 * root)


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _missing_weights(metric: str, name: str) -> str | None:
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return None
    return (
        f"{metric} needs the weights {name}, which are not in {path.parent}; put the file there (none is downloaded)."
    )


# ---- our own figures ------------------------------------------------------------------------------------------------


def input_view_bias(given: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, float]:
    """How much better the conditioning views are than the others (our definition).

    given, others: metric name -> values of the conditioning views [Nc] and of the other views [No].
    Returns metric -> mean(given) - mean(others) over finite values: positive PSNR or SSIM means that the model repeats
    its inputs better than it knows the object.
    """
    bias = {}
    for name in given.keys() & others.keys():
        means = [torch.as_tensor(v).double().flatten() for v in (given[name], others[name])]
        means = [v[torch.isfinite(v)] for v in means]
        bias[name] = float(means[0].mean() - means[1].mean()) if all(len(v) for v in means) else math.nan
    return bias


def utilization(splats: Splats, cameras: Cameras | None = None) -> dict[str, float]:
    """How many of the Gaussians take part in the picture (our definition).

    Returns `count`; `opaque` = fraction with opacity above 0.05; and, given a ring of cameras, `effective` =
    (sum w)^2 / sum w^2 with w = what a Gaussian contributes to all pixels of all views (alpha times transmittance):
    the number of equally contributing Gaussians that would be as concentrated; `effective_fraction` = effective/count.
    """
    count = len(splats)
    if not count:
        raise InputError("There are no splats; utilization needs at least one.")
    report = {"count": count, "opaque": float((splats.opacities > UTILIZATION_OPACITY).float().mean())}
    if cameras is not None:
        weights = contributions(splats, cameras).double()
        total = float(weights.sum())
        report["effective"] = total**2 / float(weights.square().sum()) if total > 0 else 0.0
        report["effective_fraction"] = report["effective"] / count
    return report


def contributions(splats: Splats, cameras: Cameras) -> Tensor:
    """What each Gaussian adds to all pixels of all cameras, the sum of alpha times transmittance, [N] float32.

    The rendered color is linear in the Gaussians' colors, so this is the gradient of its sum with respect to them.
    """
    from .splat import rasterize

    splats, cameras = splats.detach(), cameras.to(splats.device)
    with torch.enable_grad():
        total = torch.zeros(len(splats), device=splats.device)
        for camera in cameras:
            color = torch.ones(len(splats), 1, device=splats.device, requires_grad=True)
            picture = rasterize(
                splats.means, splats.quats, splats.scales, splats.opacities, color,
                camera.world_to_camera, camera.intrinsics, camera.width, camera.height,
            )  # fmt: skip
            if picture.color.requires_grad:
                total += torch.autograd.grad(picture.color.sum(), color)[0][:, 0]
    return total


def _check_pair(image: Tensor, target: Tensor) -> None:
    if image.shape != target.shape:
        raise InputError(
            f"The picture has shape {list(image.shape)} and its target {list(target.shape)}; both must be the same."
        )
