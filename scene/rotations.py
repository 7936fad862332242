"""Quaternions, rotation matrices, and rotated spherical harmonics: plain mathematics, no frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import InputError

SH_C0 = 0.28209479177387814  # the constant of the first spherical harmonic, 1 / (2 sqrt(pi))
MAX_SH_DEGREE = 4


def matrix_from_quaternion(quats: Tensor) -> Tensor:
    """Quaternions [..., 4] (w, x, y, z), normalized here -> rotation matrices [..., 3, 3] acting on columns."""
    if not bool((quats.detach().norm(dim=-1) > 1e-12).all()):
        raise InputError("A rotation quaternion is zero; it must have a length.")
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_matrix(matrix: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] acting on columns -> unit quaternions [..., 4] (w, x, y, z) with w >= 0.

    Of the four square roots that Shepperd's method offers, the largest is divided by: stable for every rotation.
    """
    a, b, c = matrix[..., 0, :], matrix[..., 1, :], matrix[..., 2, :]
    xx, yy, zz = a[..., 0], b[..., 1], c[..., 2]
    x1, y1, z1 = c[..., 1] - b[..., 2], a[..., 2] - c[..., 0], b[..., 0] - a[..., 1]
    xy, xz, yz = a[..., 1] + b[..., 0], a[..., 2] + c[..., 0], b[..., 2] + c[..., 1]
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], dim=-1)
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], x1, y1, z1], dim=-1),
            torch.stack([x1, squares[..., 1], xy, xz], dim=-1),
            torch.stack([y1, xy, squares[..., 2], yz], dim=-1),
            torch.stack([z1, xz, yz, squares[..., 3]], dim=-1),
        ],
        dim=-2,
    )
    best = squares.argmax(dim=-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quats = candidates.gather(-2, best).squeeze(-2)
    quats = quats / quats.norm(dim=-1, keepdim=True)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def quaternion_multiply(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product [..., 4] (w, x, y, z): the rotation `second`, then the rotation `first`."""
    a, b, c, d = first.unbind(-1)
    w, x, y, z = second.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )


def sh_degree(count: int) -> int:
    """The degree of `count` = (degree + 1)^2 spherical harmonics; raises InputError for any other count."""
    degree = math.isqrt(count) - 1 if count > 0 else -1
    if degree < 0 or (degree + 1) ** 2 != count or degree > MAX_SH_DEGREE:
        raise InputError(f"There are {count} spherical harmonics a color; 1, 4, 9, 16 or 25 would work.")
    return degree


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """The real spherical harmonics of unit directions [..., 3], in the order and signs of 3D Gaussian Splatting.

    Returns [..., (degree + 1)^2], degree by degree, order -n..n within each (Condon-Shortley phase kept). Computed
    from associated Legendre recurrences, so one formula serves all degrees (Sloan 2008, "Stupid SH Tricks").
    """
    if not 0 <= degree <= MAX_SH_DEGREE:
        raise InputError(f"Spherical harmonics of degree {degree} were asked for; 0 to {MAX_SH_DEGREE} are supported.")
    x, y, z = directions.unbind(-1)
    # sin^m(theta) cos(m phi) and sin^m(theta) sin(m phi) as polynomials in x and y
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(degree):
        c, s = cosines[-1], sines[-1]
        cosines.append(x * c - y * s)
        sines.append(x * s + y * c)
    # Legendre part divided by sin^m(theta): legendre[(degree, m)]
    legendre: dict[tuple[int, int], Tensor] = {}
    for m in range(degree + 1):
        legendre[m, m] = torch.full_like(x, (-1.0) ** m * math.prod(range(1, 2 * m, 2)))
        if m < degree:
            legendre[m + 1, m] = (2 * m + 1) * z * legendre[m, m]
        for n in range(m + 2, degree + 1):
            legendre[n, m] = ((2 * n - 1) * z * legendre[n - 1, m] - (n + m - 1) * legendre[n - 2, m]) / (n - m)
    values = []
    for n in range(degree + 1):
        for m in range(-n, n + 1):
            k = abs(m)
            norm = math.sqrt((2 * n + 1) / (4 * math.pi) * math.factorial(n - k) / math.factorial(n + k))
            if m == 0:
                values.append(norm * legendre[n, 0])
            else:
                values.append(math.sqrt(2) * norm * legendre[n, k] * (sines[k] if m < 0 else cosines[k]))
    return torch.stack(values, dim=-1)


def rotate_sh(sh: Tensor, rotation: Tensor) -> Tensor:
    """Spherical harmonics [..., K, C] of a function on directions, after its world is turned by `rotation` [3, 3].

    The result f' obeys f'(rotation @ d) = f(d) for every direction d. Each degree turns within itself by a
    (2n + 1)-square matrix, found exactly by solving B(samples) X = B(rotated samples) on well-spread directions.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        return sh
    rotation = rotation.to(dtype=torch.float64, device="cpu")
    index = torch.arange(64, dtype=torch.float64) + 0.5  # a Fibonacci sphere: well conditioned up to degree 4
    height = 1 - 2 * index / 64
    angle = index * math.pi * (3 - math.sqrt(5))
    ring = (1 - height**2).sqrt()
    samples = torch.stack([ring * angle.cos(), ring * angle.sin(), height], dim=-1)
    before, after = sh_basis(samples, degree), sh_basis(samples @ rotation.mT, degree)
    turned = [sh[..., :1, :]]
    for n in range(1, degree + 1):
        band = slice(n * n, (n + 1) ** 2)
        # after @ new == before @ old on all samples
        matrix = torch.linalg.lstsq(after[:, band], before[:, band]).solution.to(sh)
        turned.append(matrix @ sh[..., band, :])
    return torch.cat(turned, dim=-2)
