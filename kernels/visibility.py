"""What is seen from where: ambient occlusion from many parallel depth pictures, and a photo laid onto what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.cameras import Cameras
from ..scene.errors import InputError
from .mesh_render import trace_mesh
from .raster import rasterize

FEW_FACES = 200_000  # above it, the depth pictures are made of points instead of triangles
MAP_SIDE = 256
CHUNK = 1 << 19
Progress = Callable[[int, int], None]


def directions_on_sphere(count: int) -> Tensor:
    """`count` directions [count, 3] float64, evenly spread (a Fibonacci spiral)."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / count
    angle = math.pi * (1 + 5**0.5) * i
    r = (1 - z * z).clamp(min=0).sqrt()
    return torch.stack([r * angle.cos(), r * angle.sin(), z], 1)


def ambient_occlusion(
    points: Tensor,
    normals: Tensor,
    vertices: Tensor,
    faces: Tensor,
    *,
    directions: int = 64,
    side: int = MAP_SIDE,
    progress: Progress | None = None,
) -> Tensor:
    """How open the sky is above points [P, 3] with normals [P, 3]: [P] in [0, 1], 1 where nothing is in the way.

    vertices [V, 3], faces [F, 3]: what blocks. Light comes from `directions` directions all around and counts by the
    cosine to the normal; whether it arrives is read from a depth picture of `side` pixels along that direction.
    progress(done, total) counts directions.
    """
    low, high = vertices.float().amin(0), vertices.float().amax(0)
    center, radius = (low + high) / 2, float((high - low).norm()) / 2 or 1.0
    place = (vertices.float() - center) / radius
    where = (points.float() - center) / radius
    if len(faces) > FEW_FACES:
        blockers, triangles = torch.cat([place, place[faces.long()].mean(1)]), None
        spacing = float(((place[faces[:: max(1, len(faces) // 4096), 0].long()]
                          - place[faces[:: max(1, len(faces) // 4096), 1].long()]).norm(dim=1)).mean())  # fmt: skip
        side = max(64, min(side, int(2 / max(spacing, 1e-6))))
    else:
        blockers, triangles = place, faces.long()
    bias = 2.5 * 2 / side
    got, total = torch.zeros(len(where)), torch.zeros(len(where))
    got, total = got.to(where), total.to(where)
    for done, way in enumerate(directions_on_sphere(directions).to(where), 1):
        helper = F.one_hot(way.abs().argmin(), 3).to(way)
        x = F.normalize(torch.linalg.cross(helper, way), dim=0)
        axes = torch.stack([x, torch.linalg.cross(way, x), way], 1)
        shadow = _shadow_map(blockers @ axes, triangles, side)
        facing = (normals.float() @ way).clamp(min=0)
        lit = torch.nonzero(facing > 0).squeeze(1)
        for part in lit.split(CHUNK):
            # start a little off the surface, so that it does not shade itself
            seen = (where[part] + normals[part].float() * bias) @ axes
            at = ((seen[:, :2] + 1) * (side / 2)).floor().clamp(0, side - 1).long()
            open_sky = seen[:, 2] + bias * 0.5 >= shadow[at[:, 1] * side + at[:, 0]]
            got[part] += facing[part] * open_sky
        total += facing
        if progress is not None:
            progress(done, directions)
    return torch.where(total > 0, got / total.clamp(min=1e-12), 1.0)


def _shadow_map(seen: Tensor, triangles: Tensor | None, side: int) -> Tensor:
    """The greatest third coordinate of a surface over every pixel of [-1, 1]^2, [side * side]; -2 where none."""
    pixels = (seen[:, :2] + 1) * (side / 2)
    if triangles is None:
        at = pixels.floor().clamp(0, side - 1).long()
        empty = seen.new_full((side * side,), -2.0)
        return empty.scatter_reduce(0, at[:, 1] * side + at[:, 0], seen[:, 2], "amax")
    height = seen[:, 2][triangles]
    found = rasterize(pixels[triangles], (side, side), height)
    face = found.face.flatten()
    depth = (found.weights.view(-1, 3) * height[face.clamp(min=0)]).sum(1)
    return torch.where(face >= 0, depth, -2.0)


def project_photo(
    points: Tensor,
    normals: Tensor,
    camera: Cameras,
    photo: Tensor,
    vertices: Tensor,
    faces: Tensor,
    *,
    sharpness: float = 2.0,
    grazing: float = 75.0,
) -> tuple[Tensor, Tensor]:
    """The colors [P, 3] a photo shows at points [P, 3] of a surface, and how far [P] in [0, 1] they can be trusted.

    normals: [P, 3]; camera: one, of the photo's size, the same frame as the points; photo: [H, W, 3] or with alpha
    [H, W, 4] in [0, 1]; vertices [V, 3], faces [F, 3]: what hides. The trust is 0 for what is hidden, out of the
    picture, transparent in it or seen at more than `grazing` degrees; else the cosine of the viewing angle, scaled to
    reach 0 there, to the power 1 / sharpness. Raises InputError for a photo of another size than the camera's.
    """
    if len(camera) != 1 or photo.ndim != 3 or photo.shape[2] not in (3, 4):
        raise InputError(
            f"`photo` has shape {list(photo.shape)} and there are {len(camera)} cameras; one of each works."
        )
    if (camera.height, camera.width) != tuple(photo.shape[:2]):
        found = f"{photo.shape[1]}x{photo.shape[0]}"
        raise InputError(
            f"The photo has {found} pixels and its camera {camera.width}x{camera.height}; they must agree."
        )
    mask, depth, _, _ = trace_mesh(vertices, faces, camera)
    alpha = photo[..., 3:] if photo.shape[2] == 4 else torch.ones_like(photo[..., :1])
    # the border of an object is mixed with what lies behind it: keep one pixel away
    solid = (alpha[..., 0] > 0.95) & mask
    solid = F.max_pool2d((~solid).float()[None, None], 3, 1, 1)[0, 0] == 0
    nearest = -F.max_pool2d(-torch.where(mask, depth, 1e30)[None, None], 3, 1, 1)[0, 0].flatten()
    color, trust = photo.new_zeros(len(points), 3), photo.new_zeros(len(points))
    center = camera.centers[0].to(points)
    floor = math.cos(math.radians(grazing))
    for part in torch.arange(len(points), device=points.device).split(CHUNK):
        pixel, distance = (field[0] for field in camera.project(points[part]))
        grid = pixel / pixel.new_tensor([camera.width, camera.height]) * 2 - 1
        inside = (grid.abs() < 1).all(1) & (distance > 0)
        at = pixel.nan_to_num(0, 0, 0).floor().long()
        at = at[:, 1].clamp(0, camera.height - 1) * camera.width + at[:, 0].clamp(0, camera.width - 1)
        size = distance / float(camera.intrinsics[0, 0, 0])  # of a pixel, there
        sight = F.normalize(center - points[part], dim=1)
        cosine = (sight * normals[part].to(sight)).sum(1)
        # a slanted surface is deeper at the far side of a pixel and its neighbors than at the near one
        reach = nearest[at] + 3 * size / cosine.clamp(min=floor)
        visible = inside & solid.flatten()[at] & (distance <= reach)
        weight = ((cosine - floor) / (1 - floor)).clamp(0, 1).pow(1 / sharpness)
        trust[part] = torch.where(visible, weight, 0.0).to(trust)
        grid = grid.nan_to_num(2, 2, 2)[None, None].to(photo)
        found = F.grid_sample(photo[..., :3].movedim(-1, 0)[None], grid, padding_mode="border", align_corners=False)
        color[part] = found[0, :, 0].mT
    return color, trust
