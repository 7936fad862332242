"""How good texture coordinates are: stretch, evenness, space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Quality(NamedTuple):
    """stretch: area-weighted L2 stretch, 1 for an isometry (Sander et al. 2001, scaled by the mean density);
    density_spread: area-weighted standard deviation of the log of texels per length; fill: share of the square the
    faces cover (overlaps counted twice); mirrored: share of the faces that are mirrored against their outside."""

    stretch: float
    density_spread: float
    fill: float
    mirrored: float


def uv_quality(vertices: Tensor, faces: Tensor, uv: Tensor) -> Quality:
    """Measures of uv [V, 2] (glTF, v down) on vertices [V, 3], faces [F, 3]; faces without area are left out."""
    place, corner = vertices.double().cpu().numpy(), faces.cpu().numpy()
    flat = uv.double().cpu().numpy()[corner]
    a, b, c = (place[corner[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1) / 2
    kept = area > 1e-20 * max(area.max(initial=0), 1e-300)
    a, b, c, normal, area, flat = a[kept], b[kept], c[kept], normal[kept], area[kept], flat[kept]
    x = (b - a) / np.linalg.norm(b - a, axis=1, keepdims=True)
    y = np.cross(normal / (2 * area[:, None]), x)
    inner = np.stack([np.stack([((p - a) * q).sum(1) for p in (b, c)], 1) for q in (x, y)], 1)
    outer = np.stack([flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]], 2)
    jacobian = outer @ np.linalg.inv(inner)  # from the surface to uv
    scale = np.linalg.svd(jacobian, compute_uv=False)
    flat_area = np.abs(np.linalg.det(jacobian)) * area
    mean = np.sqrt(flat_area.sum() / area.sum())
    inverse = mean / np.maximum(scale, 1e-9 * mean)  # from uv to the surface
    stretch = np.sqrt(((inverse**2).sum(1) / 2 * area).sum() / area.sum())
    density = np.log(np.maximum(scale.prod(1), 1e-18 * mean**2)) / 2
    middle = (density * area).sum() / area.sum()
    spread = np.sqrt((((density - middle) ** 2) * area).sum() / area.sum())
    return Quality(float(stretch), float(spread), float(flat_area.sum()), float((np.linalg.det(jacobian) > 0).mean()))
