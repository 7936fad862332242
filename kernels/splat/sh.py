"""View-dependent color: spherical harmonics as 3D Gaussian Splatting stores them."""

import torch
from torch import Tensor

from ...scene.rotations import sh_basis, sh_degree


def evaluate_sh(sh: Tensor, means: Tensor, centers: Tensor) -> Tensor:
    """Colors of Gaussians as V cameras see them.

    sh: [..., N, K, C] coefficients, K = (degree + 1)^2, DC first. means: [..., N, 3] and centers: [..., V, 3] (camera
    centers) in one world frame. Returns [..., V, N, C], 0.5 added and not below 0 (above 1 is left alone). The
    direction of a Gaussian is from the camera to its center. Differentiable.
    Source: Kerbl et al. 2023; same order and signs as its reference code and gsplat's `spherical_harmonics`.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        colors = sh_basis(means.new_zeros(3), 0) * sh[..., 0, :]
        colors = colors.unsqueeze(-3).expand(*colors.shape[:-2], centers.shape[-2], *colors.shape[-2:])
    else:
        toward = means.unsqueeze(-3) - centers.unsqueeze(-2)  # [..., V, N, 3]
        basis = sh_basis(torch.nn.functional.normalize(toward, dim=-1), degree)  # [..., V, N, K]
        colors = torch.einsum("...vnk,...nkc->...vnc", basis, sh)
    return (colors + 0.5).clamp(min=0.0)
