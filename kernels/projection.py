"""Back-projection: every 3D token reads the picture features at the pixel its point projects to.

Points are in the mesh frame of Pixal3D: right-handed, Y up, z toward the camera of the (first) picture, the generated
cube being [-1, 1]^3. The world of `Cameras` is Z up, the cube there [-0.5, 0.5]^3 / mesh_scale.
Pixels: (0, 0) is the top-left corner of the picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..scene.cameras import Cameras, intrinsics_from_fov
from ..scene.errors import InputError


def grid_points(resolution: int, coords: Tensor | None = None) -> Tensor:
    """The points [N, 3] float32 in [-1, 1] of voxels `coords` [N, 3] (default: the whole grid, x-major).

    Voxel i of R maps to 2i/(R-1) - 1: the end voxels' points lie on the faces of the cube. (Their centers would be at
    (2i+1)/R - 1; the published networks are trained with the former.)
    Raises InputError for coordinates outside 0..R-1. Source: Pixal3D, projection grid.
    """
    if resolution < 1:
        raise InputError(f"`resolution` is {resolution}; a grid needs at least 1 voxel per axis.")
    line = torch.linspace(-1.0, 1.0, resolution, device=None if coords is None else coords.device)
    if coords is None:
        return torch.cartesian_prod(line, line, line)
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise InputError(f"`coords` has shape {list(coords.shape)}; grid_points needs [N, 3] columns x, y, z.")
    if coords.numel() and not 0 <= int(coords.min()) <= int(coords.max()) < resolution:
        raise InputError(f"`coords` spans {int(coords.min())}..{int(coords.max())}; the grid is 0..{resolution - 1}.")
    return line[coords.long()]


def distance_from_fov(fov: Tensor | float, mesh_scale: Tensor | float = 1.0) -> Tensor:
    """The distance at which the cube's middle section fills the picture's width: 0.5 / (mesh_scale tan(fov/2)).

    fov: horizontal field of view in radians, in (0, pi); mesh_scale above 0. Numbers or tensors, broadcast; float32.
    """
    fov, mesh_scale = _positive("fov", fov, math.pi), _positive("mesh_scale", mesh_scale)
    return 0.5 / (mesh_scale * torch.tan(fov / 2))


def front_uv(
    points: Tensor, fov: Tensor | float, distance: Tensor | float, mesh_scale: Tensor | float, size: int
) -> tuple[Tensor, Tensor]:
    """Pixels [..., N, 2] and depths [..., N] of mesh-frame points for the upright camera in front of the object.

    points: [N, 3] or [..., N, 3]. fov (radians), distance, mesh_scale: numbers, or tensors that broadcast against
    [..., N]: [B, 1] for one camera per item, [N] for one per token. size: picture side in pixels.
    Points behind the camera are not treated apart. Raises InputError for a camera that cannot exist.
    Source: Pixal3D, projection grid, in closed form.
    """
    fov, distance = _positive("fov", fov, math.pi), _positive("distance", distance)
    mesh_scale = _positive("mesh_scale", mesh_scale)
    fov, distance, mesh_scale = (value.to(points.device) for value in (fov, distance, mesh_scale))
    x, y, z = (points / mesh_scale[..., None] / 2).unbind(-1)
    depth = distance - z
    focal = 16.0 / torch.tan(fov / 2) * size / 32.0
    u = focal * x / (depth + 1e-8) + size / 2
    v = -focal * y / (depth + 1e-8) + size / 2
    return torch.stack([u, v], -1), depth


def front_camera(fov: float, distance: float, size: int) -> Cameras:
    """The same camera as `front_uv` uses, as one of `Cameras`: at (0, -distance, 0), looking along +y, Z up.

    fov: radians; size: picture side in pixels.
    """
    fov, distance = float(_positive("fov", fov, math.pi)), float(_positive("distance", distance))
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, distance], [0, 0, 0, 1]])
    return Cameras(pose[None], intrinsics_from_fov(math.degrees(fov), size, size), size, size)


def posed_uv(points: Tensor, cameras: Cameras, mesh_scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Pixels [V, N, 2] and depths [V, N] of mesh-frame points [N, 3] for V cameras of any pose and intrinsics.

    The cameras' world is Z up with the first picture's camera on its -y side; mesh (x, y, z) is world (x, -z, y) / (2
    mesh_scale). `posed_uv(points, front_camera(fov, d, size), s)` equals `front_uv(points, fov, d, s, size)`.
    """
    x, y, z = (points / float(_positive("mesh_scale", mesh_scale)) / 2).unbind(-1)
    return cameras.project(torch.stack([x, -z, y], -1))


def in_view(uv: Tensor, depth: Tensor, width: int, height: int) -> Tensor:
    """[...] bool, whether pixels uv [..., 2] lie inside the picture and in front of the camera."""
    u, v = uv.unbind(-1)
    return (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth > 0)


def bilinear_corners(
    uv: Tensor, size: tuple[int, int], width: int, height: int, as_released: bool = True
) -> tuple[Tensor, Tensor]:
    """The four cells of a [height, width] feature map around each pixel, and their weights.

    uv: [..., 2] pixels of a picture of `size` (width, height), which the map covers whole. Returns row-major cell
    indices [..., 4] int64 and weights [..., 4] float32 that sum to 1; outside the picture the border cell is taken.
    as_released: read half a picture pixel to the lower right of uv, as Pixal3D does (it adds 0.5 to coordinates that
    count from the corner already) and its networks expect; False reads at uv.
    """
    shift = 0.5 if as_released else 0.0
    scale = uv.new_tensor(size)
    cells = uv.new_tensor([width, height])
    g = (uv + shift) / scale * 2 - 1
    place = ((g + 1) * cells - 1) / 2
    place = place.clamp(min=torch.zeros_like(cells), max=cells - 1).nan_to_num(0.0)
    low = place.floor()
    fx, fy = (place - low).unbind(-1)
    x0, y0 = low.long().unbind(-1)
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    index = torch.stack([y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1], -1)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], -1)
    return index, weight


def sample_map(
    features: Tensor,
    uv: Tensor,
    size: tuple[int, int] | int,
    item: Tensor | None = None,
    as_released: bool = True,
    backend: str = "gather",
) -> Tensor:
    """Features [N, C] at the pixels of N tokens, bilinear, border values outside the picture.

    features: [B, C, h, w], covering pictures of `size` (width, height). uv: [N, 2] pixels. item: [N] int64, which of
    the B maps each token reads (default 0). as_released: see `bilinear_corners`.
    backend: "grid_sample" is the definition, "gather" reads four rows of the transposed map per token.
    Raises InputError for shapes that do not fit. Source: Pixal3D, projection grid.
    """
    width_height = (size, size) if isinstance(size, int) else size
    if features.ndim != 4 or uv.ndim != 2 or uv.shape[1] != 2:
        raise InputError(
            f"`features` is {list(features.shape)} and `uv` {list(uv.shape)}; sample_map needs [B, C, h, w] and [N, 2]."
        )
    if item is not None and item.shape != uv.shape[:1]:
        raise InputError(f"`item` has shape {list(item.shape)}; {uv.shape[0]} tokens need [{uv.shape[0]}].")
    if item is None and features.shape[0] != 1:
        raise InputError(f"`features` holds {features.shape[0]} maps; say in `item` which one each token reads.")
    if backend == "grid_sample":
        return _grid_sample(features, uv, width_height, item, as_released)
    if backend != "gather":
        raise InputError(f"`backend` is {backend!r}; sample_map knows 'gather' and 'grid_sample'.")
    b, c, h, w = features.shape
    index, weight = bilinear_corners(uv, width_height, w, h, as_released)
    if item is not None:
        index = index + (item * (h * w))[:, None]
    rows = features.permute(0, 2, 3, 1).reshape(b * h * w, c).to(torch.promote_types(features.dtype, torch.float32))
    return weighted_rows(rows, index, weight).to(features.dtype)


def weighted_rows(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """sum_k weight[n, k] rows[index[n, k]]: [N, C] from rows [M, C], index [N, K] int64 and weight [N, K]."""
    rows, index = rows.contiguous(), index.to(torch.int32)  # several times faster than strided rows, wide indices
    return torch.nn.functional.embedding_bag(index, rows, per_sample_weights=weight.to(rows.dtype), mode="sum")


def _grid_sample(features: Tensor, uv: Tensor, size: tuple[int, int], item: Tensor | None, as_released: bool) -> Tensor:
    shift = 0.5 if as_released else 0.0
    grid = ((uv + shift) / uv.new_tensor(size) * 2 - 1).to(features.dtype)
    out = features.new_empty(uv.shape[0], features.shape[1])
    for i in range(features.shape[0]):
        chosen = slice(None) if item is None else torch.nonzero(item == i).squeeze(1)
        sampled = torch.nn.functional.grid_sample(
            features[i : i + 1], grid[chosen][None, :, None], "bilinear", "border", align_corners=False
        )
        out[chosen] = sampled[0, :, :, 0].T
    return out


def sample_views(features: Tensor, uv: Tensor, size: tuple[int, int] | int, as_released: bool = True) -> Tensor:
    """The mean [N, C] over V views of the features at each view's pixels.

    features: [V, C, h, w]; uv: [V, N, 2]. One view reduces to `sample_map`. Occluded and outside points count like any
    other, as in Pixal3D's multi-view networks.
    """
    if features.shape[0] != uv.shape[0]:
        raise InputError(f"`features` holds {features.shape[0]} views, `uv` {uv.shape[0]}; they must agree.")
    total = 0
    for one, pixels in zip(features, uv):
        total = total + sample_map(one[None], pixels, size, as_released=as_released)
    return total / features.shape[0]


def _positive(name: str, value: Tensor | float, below: float = math.inf) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32)
    if not bool(((value > 0) & (value < below)).all()):
        found = float(value) if value.ndim == 0 else [float(value.min()), float(value.max())]
        limit = "above 0" if below == math.inf else "between 0 and pi (180 degrees)"
        raise InputError(f"`{name}` is {found}; it must be {limit}, both excluded.")
    return value
