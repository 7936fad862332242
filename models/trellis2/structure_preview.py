"""A small shaded picture of a structure while it is sampled."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.projection import grid_points
from .image_condition import AnyCamera, FrontCamera
from .overlay import project_view

CANONICAL = FrontCamera(math.radians(40.0))  # for structures that know no picture's camera
LIGHT = (0.35, 0.75, 0.56)  # toward it, mesh frame: right, up, front
AMBIENT, FADE = 0.35, 0.35  # light from everywhere; how much darker the far side is
TINT = (0.93, 0.90, 0.84)
SHARE = 0.1  # of the sampling time that previews may take


def draw_structure(field: Tensor, camera: AnyCamera = CANONICAL, size: int = 192, z_up: bool = False) -> Tensor:
    """The voxels of `field` above 0 as the camera's first picture [3, size, size] in [0, 1] on black, CPU.

    field: [R, R, R] logits, x-major, mesh frame (Y up); z_up: of TRELLIS.2's frame instead. Nearest voxels win; they
    are lit by the slope of the field and darken with depth. NaN counts as empty.
    """
    field = torch.nan_to_num(field.detach().to("cpu", torch.float32), nan=-1.0)
    if z_up:
        field = field.transpose(1, 2).flip(2)  # (x, y, z) -> (x, z, -y)
    resolution = field.shape[0]
    inside = F.pad((field > 0).float(), (1,) * 6)[None, None]
    hidden = F.conv3d(inside, _cross())[0, 0] >= 6
    coords = torch.argwhere((field > 0) & ~hidden)
    if not len(coords):
        return torch.zeros(3, size, size)
    uv, depth = project_view(grid_points(resolution, coords), camera, 0, size)
    shade = _lit(field, coords)
    near, far = depth.min(), depth.max()
    shade = shade * (1 - FADE * (depth - near) / (far - near).clamp_min(1e-6))
    # a voxel's width in pixels where it lies nearest, from how far apart neighbours of a row are drawn
    ends = project_view(grid_points(2), camera, 0, size)
    width = float((ends[0].amax(0) - ends[0].amin(0)).max()) / resolution
    reach = min(max(math.ceil(width / 2), 1), size // 8)
    line = torch.arange(-reach, reach + 1)
    steps = torch.cartesian_prod(line, line)
    pixels = uv.floor().long()[:, None] + steps  # [N, K, (x, y)]
    valid = ((pixels >= 0) & (pixels < size)).all(-1) & (depth > 0)[:, None]
    place = (pixels[..., 1] * size + pixels[..., 0])[valid]
    depths, shades = (one[:, None].expand(valid.shape)[valid] for one in (depth, shade))
    nearest = torch.full((size * size,), torch.inf).scatter_reduce(0, place, depths, "amin")
    winners = depths <= nearest[place]
    picture = torch.zeros(size * size).scatter_reduce(0, place[winners], shades[winners], "amax")
    return (picture.view(1, size, size) * torch.tensor(TINT)[:, None, None]).clamp(0, 1)


def _cross() -> Tensor:
    kernel = torch.zeros(1, 1, 3, 3, 3)
    for axis in range(3):
        for side in (0, 2):
            at = [1, 1, 1]
            at[axis] = side
            kernel[(0, 0, *at)] = 1
    return kernel


def _lit(field: Tensor, coords: Tensor) -> Tensor:
    """Brightness [N] of voxels by a smoothed field's slope, which points inward."""
    soft = F.avg_pool3d(F.pad(field.clamp(-4, 4).sigmoid(), (2,) * 6)[None, None], 3, stride=1)[0, 0]  # R + 2
    x, y, z = (coords + 1).T
    slope = torch.stack(
        [soft[x + 1, y, z] - soft[x - 1, y, z], soft[x, y + 1, z] - soft[x, y - 1, z],
         soft[x, y, z + 1] - soft[x, y, z - 1]], dim=-1,
    )  # fmt: skip
    light = F.normalize(torch.tensor(LIGHT), dim=0)
    return AMBIENT + (1 - AMBIENT) * (-F.normalize(slope, dim=-1) @ light).clamp_min(0)


def guess_occupancy(latent: Tensor) -> Tensor:
    """A field [R, R, R], above 0 about where a structure latent [1, C, R, R, R] holds something, without its decoder.

    The corners of the grid are taken for empty; what differs from them by half of the largest difference is not.
    """
    corners = latent[0, :, :: latent.shape[2] - 1, :: latent.shape[3] - 1, :: latent.shape[4] - 1]
    difference = (latent[0] - corners.mean(dim=(1, 2, 3), keepdim=True)).norm(dim=0)
    return difference - 0.5 * difference.max()


class StructurePreview:
    """Shows the clean estimates of a structure's sampling, as often as costs little.

    decode: latent [1, C, R, R, R] -> logits [1, 1, S, S, S], or None where the decoder has no room at present; show:
    takes a picture [1, 3, H, W].
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor | None],
        show: Callable[[Tensor], None],
        camera: AnyCamera = CANONICAL,
        z_up: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.decode, self.show, self.camera, self.z_up, self.clock = decode, show, camera, z_up, clock
        self.begin, self.spent = clock(), 0.0

    @torch.no_grad()
    def __call__(self, latent: Tensor) -> None:
        """Draw and show it, unless previews took more than their share of the time so far."""
        now = self.clock()
        if self.spent > SHARE * (now - self.begin):
            return
        logits = self.decode(latent)
        field = guess_occupancy(latent) if logits is None else logits[0, 0]
        self.show(draw_structure(field, self.camera, z_up=self.z_up)[None])
        self.spent += self.clock() - now
