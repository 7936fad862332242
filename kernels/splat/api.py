"""`rasterize`: one signature over the dense twin, the tiled rasteriser and gsplat."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...scene.errors import InputError
from .blend import full_precision
from .dense import rasterize_dense
from .projection import project
from .tiled import rasterize_tiled

BACKENDS = ("auto", "dense", "tiled", "gsplat")
_ITEMS = 1 << 22  # Gaussians times views projected at once where no gradient is wanted


class Render(NamedTuple):
    """What V cameras see, H x W pixels each."""

    color: Tensor  # [..., V, H, W, C], premultiplied by alpha, plus background * (1 - alpha) where one was given
    alpha: Tensor  # [..., V, H, W] in [0, 1]
    depth: Tensor  # [..., V, H, W] alpha-weighted mean of camera-space z in world units, 0 where alpha is 0


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    background: Tensor | Sequence[float] | None = None,
    near: float = 0.01,
    far: float = 1e10,
    backend: str = "auto",
) -> Render:
    """Draw 3D Gaussians as seen by pinhole cameras, differentiably.

    means: [..., N, 3] centers, world units. quats: [..., N, 4] wxyz, normalized here. scales: [..., N, 3] standard
    deviations, linear, world units. opacities: [..., N] in [0, 1]. colors: [..., N, C], or [..., V, N, C] where they
    depend on the view; any C. viewmats: [..., V, 4, 4] world -> camera (x right, y down, z forward). Ks: [..., V, 3, 3]
    pixels, without skew; pixel centers lie at +0.5. The leading dimensions are scenes; they must agree, and all scenes
    and views go through one pass. background: C numbers, [C] or [..., V, C]. near, far: camera-space z in world units.
    Half precision is computed in float32. Gradients reach means, quats, scales, opacities and colors.

    backend: "dense" (every Gaussian at every pixel: the definition), "tiled" (same result, quick), "gsplat" (its CUDA
    kernels), "auto" (gsplat for CUDA tensors where it is installed and agreed with the definition, else tiled).
    Raises InputError for shapes that do not fit and numbers that are not finite, MissingDependency where gsplat is
    asked for and not there.
    Source: 3D Gaussian Splatting (Kerbl et al. 2023) as gsplat 1.5.3 computes it (classic mode, eps2d 0.3).
    """
    if backend not in BACKENDS:
        raise InputError(f"`backend` is {backend!r}; one of {', '.join(BACKENDS)} would work.")
    per_view = colors.dim() == means.dim() + 1
    _check(means, quats, scales, opacities, colors, viewmats, Ks, width, height, near, far, per_view)
    dtype = torch.float64 if means.dtype == torch.float64 else torch.float32
    means, quats, scales, opacities, colors, viewmats, Ks = (
        t.to(dtype) for t in (means, quats, scales, opacities, colors, viewmats, Ks)
    )
    if background is not None:
        background = torch.as_tensor(background, dtype=dtype, device=means.device)
        lead, channels = viewmats.shape[:-2], colors.shape[-1]
        if background.shape not in ((channels,), (*lead, channels)):
            raise InputError(
                f"`background` has shape {list(background.shape)}; [{channels}] or {[*lead, channels]} would work."
            )
        background = background.expand(*lead, channels)
    if backend == "auto":
        backend = "gsplat" if means.is_cuda and _gsplat_agrees() else "tiled"

    tensors = (means, quats, scales, opacities, colors, viewmats, Ks)
    with full_precision(means.device.type):
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            return _in_parts(tensors, background, per_view, width, height, near, far, backend)
        return _render(tensors, background, per_view, width, height, near, far, backend)


def _in_parts(tensors, background, per_view: bool, width: int, height: int, *options) -> Render:
    """`_render`, a few views at a time where all of them together would need much memory."""
    means, *_, viewmats, _ = tensors
    lead, count = viewmats.shape[:-2], means.shape[-2]
    views, scenes = lead[-1], lead[:-1].numel()
    if lead.numel() * count <= _ITEMS or views < 2 and scenes < 2:
        return _render(tensors, background, per_view, width, height, *options)
    flat = [t.reshape(scenes, *t.shape[len(lead) - 1 :]) for t in tensors]
    back = None if background is None else background.reshape(scenes, views, -1)
    step = max(1, _ITEMS // max(1, count))
    parts = []
    for i in range(scenes):
        for j in range(0, views, step):
            cut = slice(j, j + step)
            part = [t[i] for t in flat[:4]] + [
                flat[4][i, cut] if per_view else flat[4][i],
                flat[5][i, cut],
                flat[6][i, cut],
            ]
            parts.append(_render(part, None if back is None else back[i, cut], per_view, width, height, *options))
    return Render(*(torch.cat(found).reshape(*lead, *found[0].shape[1:]) for found in zip(*parts)))


def _render(
    tensors, background, per_view: bool, width: int, height: int, near: float, far: float, backend: str
) -> Render:
    means, quats, scales, opacities, colors, viewmats, Ks = tensors
    lead, count = viewmats.shape[:-2], means.shape[-2]
    if not per_view:
        colors = colors.unsqueeze(-3).expand(*lead, count, colors.shape[-1])
    if backend == "gsplat":
        from .gsplat_backend import rasterize_gsplat

        blended, alpha = rasterize_gsplat(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height, near, far
        )
    elif count == 0 or lead.numel() == 0:
        zero = sum(t.sum() for t in (means, quats, scales, opacities, colors))  # keeps the graph whole
        blended = means.new_zeros(*lead, height, width, colors.shape[-1] + 1) + zero
        alpha = blended[..., 0]
    else:
        projected = project(means, quats, scales, opacities, viewmats, Ks, width, height, near, far)
        features = torch.cat([colors, projected.depth[..., None]], -1)
        blend = rasterize_dense if backend == "dense" else rasterize_tiled
        blended, alpha = blend(projected, opacities, features, width, height)
    color, depth = blended[..., :-1], blended[..., -1]
    depth = depth / torch.where(alpha > 0, alpha, 1.0)
    if background is not None:
        color = color + (1.0 - alpha)[..., None] * background[..., None, None, :]
    return Render(color, alpha, depth)


def _gsplat_agrees() -> bool:
    from .. import backends

    return backends.usable("gsplat")


def _check(means, quats, scales, opacities, colors, viewmats, Ks, width, height, near, far, per_view) -> None:
    """Raise InputError naming the first argument that cannot be used."""
    if means.dim() < 2 or means.shape[-1] != 3:
        raise InputError(f"`means` has shape {list(means.shape)}; [..., N, 3] would work.")
    scenes, count = means.shape[:-2], means.shape[-2]
    views = viewmats.shape[-3] if viewmats.dim() >= 3 else 0
    shapes = {
        "quats": (quats, (*scenes, count, 4)),
        "scales": (scales, (*scenes, count, 3)),
        "opacities": (opacities, (*scenes, count)),
        "viewmats": (viewmats, (*scenes, views, 4, 4)),
        "Ks": (Ks, (*scenes, views, 3, 3)),
        "colors": (colors, (*scenes, *((views,) if per_view else ()), count, colors.shape[-1] if colors.dim() else 0)),
    }
    for name, (tensor, wanted) in shapes.items():
        if tuple(tensor.shape) != wanted:
            raise InputError(
                f"`{name}` has shape {list(tensor.shape)}; with `means` {list(means.shape)} and {views} views "
                f"it must be {list(wanted)}."
            )
        if tensor.device != means.device:
            raise InputError(f"`{name}` is on {tensor.device} and `means` on {means.device}; put all on one device.")
    if int(width) < 1 or int(height) < 1:
        raise InputError(f"The image size is {width}x{height}; both must be at least 1 pixel.")
    if not 0 < near < far:
        raise InputError(f"`near` is {near} and `far` {far}; 0 < near < far is needed.")
    named = {"means": means, **{name: tensor for name, (tensor, _) in shapes.items()}}
    finite = torch.stack([torch.isfinite(t.detach()).all() for t in named.values()])
    if not bool(finite.all()):
        bad = next(name for name, good in zip(named, finite.tolist()) if not good)
        raise InputError(
            f"`{bad}` holds numbers that are not finite; NaN or infinite Gaussians and cameras cannot be drawn."
        )
    entries = Ks.detach().flatten(-2)
    if not bool(((entries[..., 0] > 0) & (entries[..., 4] > 0) & (entries[..., 1] == 0)).all()):
        raise InputError(
            "`Ks` holds a focal length that is not positive or a skew; [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] "
            "with fx, fy above 0 would work."
        )
