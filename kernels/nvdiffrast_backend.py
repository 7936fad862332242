"""nvdiffrast as a rasterizer of flat triangles (CUDA; its licence forbids commercial use, so it is never required)."""

from __future__ import annotations

import torch
from torch import Tensor

_contexts: dict = {}


def rasterize_nvdiffrast(corners: Tensor, size: tuple[int, int]):
    """`raster.rasterize` without nearness: corners [F, 3, 2] pixels on CUDA, size (height, width) up to 2048."""
    import nvdiffrast.torch as dr

    from .raster import Fragments

    height, width = size
    device = corners.device
    if device not in _contexts:
        _contexts[device] = dr.RasterizeCudaContext(device=device)
    count = len(corners)
    flat = corners.float().nan_to_num(-1e6, -1e6, -1e6) * corners.new_tensor([2 / width, 2 / height]).float() - 1
    order = torch.linspace(-0.999, 0.999, max(count, 2), device=device)[:count]  # the first face is the nearest
    order = order[:, None, None].expand(count, 3, 1)
    place = torch.cat([flat, order, torch.ones_like(order)], 2).reshape(1, -1, 4).contiguous()
    triangles = torch.arange(3 * count, dtype=torch.int32, device=device).reshape(-1, 3)
    u, v, _, number = dr.rasterize(_contexts[device], place, triangles, [height, width])[0][0].unbind(-1)
    face = number.long() - 1
    weights = torch.stack([u, v, 1 - u - v], -1) * (face >= 0)[..., None]
    return Fragments(face, weights.to(corners.dtype))


def compare(device: torch.device) -> float:
    """The worst difference of weights to the torch code, or 1 where another face was found.

    Corners lie on its sub-pixel grid of 1/16, to which it would round them; pixels on an edge are left out, since it
    gives those to one side only.
    """
    from .raster import rasterize

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 1, 2, generator=generator) * 60 + torch.randn(200, 3, 2, generator=generator) * 4
    corners = ((corners * 16).round() / 16).to(device)
    ours, theirs = rasterize(corners, (64, 60), backend="torch"), rasterize_nvdiffrast(corners, (64, 60))
    clear = (ours.face < 0) | (ours.weights.amin(-1) > 1e-4)
    if not torch.equal(ours.face[clear], theirs.face[clear]):
        return 1.0
    return float((ours.weights - theirs.weights)[clear].abs().max())
