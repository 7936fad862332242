"""Pictures of the scene's own value objects."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...scene.cameras import Cameras
from ...scene.splats import Splats
from .api import Render, rasterize
from .sh import evaluate_sh


def render_splats(
    splats: Splats,
    cameras: Cameras,
    *,
    background: Sequence[float] | Tensor | None = None,
    backend: str = "auto",
    callback: Callable[[int, int], None] | None = None,
) -> Render:
    """Draw `splats` from every camera, in the world frame both share (Z up), with view-dependent color.

    background: an RGB color, None leaves the colors premultiplied by alpha. Camera by camera, so that memory does not
    grow with their number and `callback(done, total)` counts pictures; what it raises ends the work.
    Returns color [V, H, W, 3] in the range of the colors (not clamped above), alpha and depth [V, H, W].
    """
    centers = cameras.centers
    parts = []
    for i in range(len(cameras)):
        colors = evaluate_sh(splats.sh, splats.means, centers[i : i + 1])
        parts.append(
            rasterize(
                splats.means,
                splats.quats,
                splats.scales,
                splats.opacities,
                colors,
                cameras.world_to_camera[i : i + 1],
                cameras.intrinsics[i : i + 1],
                cameras.width,
                cameras.height,
                background=background,
                backend=backend,
            )
        )
        if callback:
            callback(i + 1, len(cameras))
    if not parts:
        empty = splats.means.new_zeros(0, cameras.height, cameras.width)
        return Render(empty[..., None].expand(*empty.shape, 3), empty, empty)
    return Render(*(torch.cat(found) for found in zip(*parts)))
