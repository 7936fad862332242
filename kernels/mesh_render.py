"""Pictures of triangle meshes: a z-buffer in plain torch, with vertex colors or a texture.

World frame: the cameras' (Z up in this package; turn a MESH with `scene.frames.turn_points` first).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.cameras import Cameras
from ..scene.errors import InputError
from .raster import rasterize, rasterize_dense
from .surface_sampling import sample_texture

NEAR = 1e-3  # of the farthest depth: what comes closer to the camera plane is cut off
GRAY = 0.75
Progress = Callable[[int, int], None]


class MeshViews(NamedTuple):
    """Pictures of V cameras: rgb [V, H, W, 3] over the background, mask [V, H, W] bool (some surface), depth [V, H, W]
    along the view axis (inf where none), face [V, H, W] int64 (-1 where none), weights [V, H, W, 3] of the corners
    (true barycentric coordinates of the seen point, 0 where none)."""

    rgb: Tensor
    mask: Tensor
    depth: Tensor
    face: Tensor
    weights: Tensor


def render_mesh(
    vertices: Tensor,
    faces: Tensor,
    cameras: Cameras,
    *,
    vertex_colors: Tensor | None = None,
    uv: Tensor | None = None,
    texture: Tensor | None = None,
    normals: Tensor | None = None,
    shading: str = "lit",
    background: float | tuple[float, float, float] = 1.0,
    samples: int = 1,
    progress: Progress | None = None,
) -> MeshViews:
    """The mesh seen by every camera, both sides of every face visible.

    vertices: [N, 3] float, the frame of the cameras; faces: [F, 3]. vertex_colors: [N, 3 or more] in [0, 1]. uv: [N, 2]
    or per corner [F, 3, 2], (0, 0) the lower left corner, repeated outside of [0, 1]; texture: [H, W, 3 or more] in
    [0, 1] or uint8, first row on top; it goes before vertex colors; without either the mesh is gray. normals: [N, 3]
    of smooth shading, else the faces' own. shading: "lit" (a light beside the camera), "flat" (the colors alone) or
    "normal" (world normals as colors). samples: rays per pixel along each axis; mask, depth, face and weights are those
    of one of them. progress(done, total): after each camera. Raises InputError for what does not fit.
    """
    if shading not in ("lit", "flat", "normal"):
        raise InputError(f"`shading` is {shading!r}; choose 'lit', 'flat' or 'normal'.")
    if texture is not None and uv is None:
        raise InputError("`texture` needs `uv`; unwrap the mesh, or give vertex colors.")
    if samples < 1:
        raise InputError(f"`samples` is {samples}; it must be at least 1.")
    fine = cameras.resized(cameras.width * samples, cameras.height * samples).to(vertices.device)
    parts = []
    for done, camera in enumerate(fine, 1):
        mask, depth, face, weights = trace_mesh(vertices, faces, camera)
        rgb = vertices.new_empty(*mask.shape, 3)
        rgb[:] = torch.as_tensor(background, dtype=rgb.dtype, device=rgb.device)
        shown = torch.nonzero(mask.flatten()).squeeze(1)
        which, where = face.flatten()[shown], weights.flatten(0, 1)[shown]
        color = _colors(faces, which, where, vertex_colors, uv, texture).to(rgb.dtype)
        if shading != "flat":
            normal = _normals(vertices, faces, which, where, normals)
            color = _shade(color, normal, vertices, faces, which, where, camera, shading)
        rgb.view(-1, 3)[shown] = color
        if samples > 1:
            rgb = F.avg_pool2d(rgb.movedim(-1, 0)[None], samples)[0].movedim(0, -1)
            half = samples // 2
            mask, depth, face, weights = (x[half::samples, half::samples] for x in (mask, depth, face, weights))
        parts.append(MeshViews(rgb, mask, depth, face, weights))
        if progress is not None:
            progress(done, len(fine))
    return MeshViews(*(torch.stack(field) for field in zip(*parts)))


def trace_mesh(
    vertices: Tensor, faces: Tensor, camera: Cameras, *, dense: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What one camera sees: mask [H, W], depth [H, W], face [H, W], weights [H, W, 3]; see `MeshViews`.

    dense: try every face at every pixel, the definition.
    """
    if len(camera) != 1:
        raise InputError(f"{len(camera)} cameras were given; one is traced at a time.")
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise InputError(f"`faces` has shape {list(faces.shape)}; a picture needs [F, 3], F at least 1.")
    pose, lens = camera.world_to_camera[0].double(), camera.intrinsics[0].double()
    seen = vertices.double() @ pose[:3, :3].mT + pose[:3, 3]
    corners = seen[faces.long()]
    z = corners[..., 2]
    near = NEAR * float(z.nan_to_num(0, 0, 0).amax())
    if near <= 0:
        near = torch.inf
    owner = torch.nonzero((z > near).all(1)).squeeze(1)
    cut = torch.nonzero((z > near).any(1) & ~(z > near).all(1)).squeeze(1)
    solid = corners[owner]
    if len(cut):
        pieces, piece_owner = _clip(corners[cut], near)
        solid, owner = torch.cat([solid, pieces]), torch.cat([owner, cut[piece_owner]])
        owner, order = torch.sort(owner, stable=True)
        solid = solid[order]
    flat = solid @ lens.mT
    nearness = 1 / flat[..., 2]
    draw = rasterize_dense if dense else rasterize
    found = draw(flat[..., :2] * nearness[..., None], (camera.height, camera.width), nearness).face
    mask = found >= 0
    face = torch.where(mask, owner[found.clamp(min=0)] if len(owner) else found, found)
    depth = torch.full(mask.shape, torch.inf, dtype=torch.float64, device=mask.device)
    weights = torch.zeros(*mask.shape, 3, dtype=torch.float64, device=mask.device)
    row, column = torch.nonzero(mask, as_tuple=True)
    pixels = torch.stack([column + 0.5, row + 0.5, torch.ones_like(column, dtype=torch.float64)], 1).double()
    rays = pixels @ torch.linalg.inv(lens).mT
    where, distance = _meet(corners[face[mask]], rays)
    depth[mask], weights[mask] = distance, where
    return mask, depth.to(vertices.dtype), face, weights.to(vertices.dtype)


def _clip(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """The parts of triangles [C, 3, 3] beyond z = near as triangles, and which each came from; every triangle has
    corners on both sides."""
    beyond = corners[..., 2] > near
    single = beyond.sum(1) == 1  # the corner that stands alone on its side goes first
    first = torch.where(single, beyond.int().argmax(1), (~beyond).int().argmax(1))
    turn = (first[:, None] + torch.arange(3, device=first.device)) % 3
    a, b, c = corners.gather(1, turn[..., None].expand(-1, -1, 3)).unbind(1)

    def crossing(p: Tensor, q: Tensor) -> Tensor:
        t = (near - p[:, 2]) / (q[:, 2] - p[:, 2])
        return p + t[:, None] * (q - p)

    ab, ac = crossing(a, b), crossing(a, c)
    number = torch.arange(len(corners), device=corners.device)
    one, two = torch.nonzero(single).squeeze(1), torch.nonzero(~single).squeeze(1)
    pieces = [
        torch.stack([a, ab, ac], 1)[one],
        torch.stack([ab, b, c], 1)[two],
        torch.stack([ab, c, ac], 1)[two],
    ]
    return torch.cat(pieces), torch.cat([number[one], number[two], number[two]])


def _meet(corners: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Barycentric weights [P, 3] and distance along rays [P, 3] from the origin where they meet triangles' planes."""
    a, b, c = corners.unbind(1)
    volumes = torch.stack([(rays * torch.linalg.cross(p, q)).sum(1) for p, q in ((b, c), (c, a), (a, b))], 1)
    volumes = volumes.abs()  # of one sign inside; rounding at the border must not give a negative weight
    weights = volumes / volumes.sum(1, keepdim=True).clamp(min=torch.finfo(volumes.dtype).tiny)
    return weights, (weights * corners[..., 2]).sum(1)


def _colors(faces, which, where, vertex_colors, uv, texture) -> Tensor:
    if texture is not None:
        corner_uv = uv[which] if uv.ndim == 3 else uv[faces[which].long()]
        shown = sample_texture(texture[..., :3].float(), (corner_uv * where[..., None]).sum(1))
        return shown / 255 if texture.dtype == torch.uint8 else shown
    if vertex_colors is not None:
        return (vertex_colors[..., :3].to(where.dtype)[faces[which].long()] * where[..., None]).sum(1)
    return where.new_full((len(which), 3), GRAY)


def _normals(vertices, faces, which, where, normals) -> Tensor:
    if normals is not None:
        return F.normalize((normals.to(where.dtype)[faces[which].long()] * where[..., None]).sum(1), dim=1)
    a, b, c = vertices[faces[which].long()].unbind(1)
    return F.normalize(torch.linalg.cross(b - a, c - a), dim=1, eps=1e-30)


def _shade(color, normal, vertices, faces, which, where, camera, shading) -> Tensor:
    if shading == "normal":
        return 0.5 + 0.5 * normal
    place = (vertices[faces[which].long()] * where[..., None]).sum(1)
    pose = camera.world_to_camera[0].to(place)
    # the light stands a little to the right of and above the camera, as seen in the picture
    light = camera.centers[0].to(place) + (pose[0, :3] * 0.35 - pose[1, :3] * 0.5) * place.std().clamp(min=1e-6) * 2
    facing = (normal * F.normalize(light - place, dim=1)).sum(1).abs()
    return color * (0.35 + 0.65 * facing[:, None])
