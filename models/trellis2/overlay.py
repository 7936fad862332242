"""The projected grid drawn on the photo, so that a wrong field of view is seen at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...kernels.projection import distance_from_fov, front_uv, grid_points, posed_uv
from ...scene.errors import InputError
from .image_condition import AnyCamera, FrontCamera

# from near to far; the ends differ in hue and in brightness, for readers who tell only one of the two apart
NEAR_TO_FAR = torch.tensor(
    [[1.0, 0.95, 0.40], [1.0, 0.58, 0.20], [0.92, 0.25, 0.48], [0.55, 0.35, 0.92], [0.25, 0.50, 0.95]]
)
LATTICE = 7  # points per axis drawn where no voxels are given
SQUARES = 8  # per side of the drawn walls
SCALE = 3  # drawn this much larger, then reduced: smooth lines


def project_view(points: Tensor, camera: AnyCamera, view: int, size: int) -> tuple[Tensor, Tensor]:
    """Pixels [N, 2] and depths [N] of mesh-frame points [N, 3] in the picture `view`, of size x size."""
    if not 0 <= view < len(camera):
        raise InputError(f"There is no view {view}; there are {len(camera)}, counted from 0.")
    if isinstance(camera, FrontCamera):
        distance = camera.distance or float(distance_from_fov(camera.fov, camera.mesh_scale))
        return front_uv(points, camera.fov, distance, camera.mesh_scale, size)
    uv, depth = posed_uv(points, camera.cameras[view].resized(size, size), camera.mesh_scale)
    return uv[0], depth[0]


def depth_colors(depth: Tensor, near: float, far: float) -> Tensor:
    """[N, 3] in [0, 1], from yellow at `near` to blue at `far`."""
    place = ((depth - near) / max(far - near, 1e-9)).clamp(0, 1) * (len(NEAR_TO_FAR) - 1)
    low = place.floor().long().clamp(max=len(NEAR_TO_FAR) - 2)
    part = (place - low)[:, None]
    return NEAR_TO_FAR[low] * (1 - part) + NEAR_TO_FAR[low + 1] * part


def cube_edges(pieces: int = 24) -> Tensor:
    """The 12 edges of the cube [-1, 1]^3 as points [12, pieces + 1, 3]."""
    corners = list(torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3))
    pairs = [(a, b) for i, a in enumerate(corners) for b in corners[i + 1 :] if int((a != b).sum()) == 1]
    t = torch.linspace(0, 1, pieces + 1)[:, None]
    return torch.stack([a * (1 - t) + b * t for a, b in pairs])


def wall_lines(squares: int = SQUARES, pieces: int = 24) -> Tensor:
    """The lines [4 (squares - 1), pieces + 1, 3] of a square pattern on the floor y = -1 and the back wall z = -1.

    Their vanishing point shows the field of view: parallel edges of the object must run toward the same one.
    """
    along = torch.linspace(-1, 1, pieces + 1)
    lines = []
    for at in torch.linspace(-1, 1, squares + 1)[1:-1]:
        here, wall = torch.full_like(along, float(at)), torch.full_like(along, -1.0)
        for x, y, z in ((here, wall, along), (along, wall, here), (here, along, wall), (along, here, wall)):
            lines.append(torch.stack([x, y, z], -1))
    return torch.stack(lines)


def grid_overlay(
    picture: np.ndarray,
    camera: AnyCamera,
    *,
    view: int = 0,
    coords: Tensor | None = None,
    resolution: int = LATTICE,
    size: int = 768,
    caption: str | None = None,
) -> np.ndarray:
    """The picture with the projected cube, its floor and back wall, and the tokens in it: near yellow, far blue.

    picture: uint8 [S, S, 3] as the networks see it. coords: [N, 3] voxels of a grid of `resolution`, default a lattice
    of resolution^3 points. With the right field of view the object's parallel edges run like the lines of the floor,
    and the tokens of a result cover the object. caption: default field of view and distance. Returns uint8
    [size, size, 3].
    """
    from PIL import Image, ImageDraw, ImageFont

    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(f"The picture is {picture.dtype} {list(picture.shape)}; uint8 [S, S, 3] would work.")
    big = size * SCALE
    canvas = Image.fromarray(picture).resize((big, big), Image.Resampling.BICUBIC)
    layer = Image.new("RGBA", (big, big))
    pen = ImageDraw.Draw(layer)
    corners, middle = (project_view(p, camera, view, big)[1] for p in (grid_points(2), torch.zeros(1, 3)))
    # a wide lens stands inside the cube: what lies that close is not drawn, and would take the whole scale of colors
    near, far = max(float(corners.min()), 0.1 * float(middle)), float(corners.max())
    for lines, width, alpha in ((wall_lines(), big / 900, 130), (cube_edges(), big / 330, 255)):
        _draw_lines(
            pen, *project_view(lines.reshape(-1, 3), camera, view, big), lines.shape[1], near, far, width, alpha
        )
    dots = grid_points(resolution, coords)
    _draw_points(pen, *project_view(dots, camera, view, big), near, far, big / 200 * (0.6 if coords is not None else 1))
    canvas.paste(layer, mask=layer)
    canvas = canvas.resize((size, size), Image.Resampling.LANCZOS)
    _write(ImageDraw.Draw(canvas), describe(camera, view) if caption is None else caption, ImageFont, size)
    return np.asarray(canvas)


def describe(camera: AnyCamera, view: int = 0) -> str:
    """Field of view, distance and scale in a line."""
    if isinstance(camera, FrontCamera):
        fov = math.degrees(camera.fov)
        distance = camera.distance or float(distance_from_fov(camera.fov, camera.mesh_scale))
    else:
        fov, distance = float(camera.cameras.fov_x[view]), float(camera.cameras.centers[view].norm())
    scale = f", mesh scale {camera.mesh_scale:.3g}" if camera.mesh_scale != 1 else ""
    which = f"view {view}: " if len(camera) > 1 else ""
    return f"{which}field of view {fov:.2f} degrees, distance {distance:.3f}{scale}"


def _draw_lines(pen, uv: Tensor, depth: Tensor, per_line: int, near, far, width, alpha) -> None:
    colors = (depth_colors(depth, near, far) * 255).round().int().tolist()
    place, visible = uv.clamp(-1e5, 1e5).tolist(), (depth > 0.5 * near).tolist()
    for i in range(len(place) - 1):
        if (i + 1) % per_line and visible[i] and visible[i + 1]:
            pen.line([*place[i], *place[i + 1]], fill=(*colors[i], alpha), width=max(1, round(width)))


def _draw_points(pen, uv: Tensor, depth: Tensor, near: float, far: float, radius: float) -> None:
    keep = depth > 0.5 * near
    uv, depth = uv[keep], depth[keep]
    colors = (depth_colors(depth, near, far) * 255).round().int().tolist()
    radii = (radius * ((near + far) / 2 / depth).clamp(0.6, 1.8)).tolist()
    place = uv.clamp(-1e5, 1e5).tolist()
    for i in torch.argsort(depth, descending=True).tolist():
        (x, y), r = place[i], radii[i]
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(*colors[i], 235), outline=(0, 0, 0, 150))


def _write(pen, text: str, fonts, size: int) -> None:
    if not text:
        return
    font = fonts.load_default(size=max(11, size // 42))
    box: Sequence[float] = pen.textbbox((size // 60, size // 60), text, font=font)
    pen.rectangle([box[0] - 5, box[1] - 4, box[2] + 5, box[3] + 4], fill=(0, 0, 0))
    pen.text((size // 60, size // 60), text, font=font, fill=(255, 255, 255))
