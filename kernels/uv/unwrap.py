"""Unwrapping: a surface to charts of little distortion, packed into one square.

The surface is cut into patches; worker processes flatten them with xatlas, each within a time limit; what fails or
takes too long is laid on the sides of a box instead, which always works.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...scene.errors import InputError, MissingDependency
from ..backends import is_installed
from ..raster import rasterize
from .pack import pack_charts, uv_areas, uv_boxes
from .patches import as_tensor, box_charts, components, cut_patches, face_vectors, weld
from .pool import Flat, Patch, flatten_patches

Progress = Callable[[int, int], None]
PATCH_FACES = 1000  # of a patch: larger ones have fewer seams and take longer
TIME_LIMIT = 30.0  # seconds for one patch
PATCH_TEXELS = 256.0  # xatlas rounds charts to whole texels: a patch has about as many across, to lose little shape
TILES = 4096  # charts looked at for folds
PEELS = 4  # layers into which a folded box chart is taken apart before its faces stand alone
MAX_TEXTURE = 16384


@dataclass(frozen=True)
class Unwrapped:
    """A surface with texture coordinates.

    source: [V'] int64, the given vertex that each new one copies; faces: [F, 3] int64, in the given order and winding;
    uv: [V', 2] float32 in [0, 1], glTF (v down); chart: [F] int64. fill: the share of the square that charts cover.
    boxes: how many patches were laid on a box instead of flattened.
    """

    source: Tensor
    faces: Tensor
    uv: Tensor
    chart: Tensor
    fill: float
    boxes: int

    @property
    def charts(self) -> int:
        """How many charts there are."""
        return int(self.chart.max()) + 1


def check_surface(vertices: Tensor, faces: Tensor) -> None:
    """Raise InputError unless vertices [V, 3] are finite and faces [F, 3], F at least 1, name them."""
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError(f"`vertices` has shape {list(vertices.shape)}; a mesh needs [V, 3].")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point():
        raise InputError(f"`faces` is {faces.dtype} {list(faces.shape)}; a mesh needs integers [F, 3].")
    if not len(faces):
        raise InputError("The mesh has no faces; connect a mesh that has some.")
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise InputError(f"The faces name vertices {low} to {high}, but the mesh has {len(vertices)}; it is damaged.")
    broken = int((~torch.isfinite(vertices)).any(1).sum())
    if broken:
        raise InputError(f"{broken} vertices of the mesh are not finite numbers; clean it with Mesh Finish first.")


def check_texture_size(size: int, padding: float = 0) -> None:
    """Raise InputError for textures that are too small or too large to make."""
    if not 16 <= size <= MAX_TEXTURE:
        raise InputError(f"A texture of {size} texels was asked for; 16 to {MAX_TEXTURE} can be made.")
    if not 0 <= padding <= size / 8:
        raise InputError(f"A padding of {padding:g} texels was asked for; 0 to {size // 8} fit {size} texels.")


def unwrap(
    vertices: Tensor,
    faces: Tensor,
    resolution: int = 2048,
    padding: float = 4,
    *,
    method: str = "xatlas",
    patch_faces: int = PATCH_FACES,
    time_limit: float = TIME_LIMIT,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Unwrapped:
    """Texture coordinates for a surface; vertices are doubled along the borders of charts and nowhere else.

    vertices: [V, 3]; faces: [F, 3]. resolution: texels of the texture they are for; padding: texels between charts.
    method: "xatlas", or "box" without it. patch_faces: faces flattened at once. time_limit: seconds for a patch.
    workers: processes, by default one per core up to 8. progress(done, total): thousandths of the work, often; where
    it raises, the processes end and so does this. Raises InputError for a mesh or numbers that cannot be used and
    MissingDependency where xatlas is not installed.
    """
    check_surface(vertices, faces)
    check_texture_size(resolution, padding)
    if method not in ("xatlas", "box"):
        raise InputError(f"`method` is {method!r}; unwrap knows 'xatlas' and 'box'.")
    if method == "xatlas" and not is_installed("xatlas"):
        raise MissingDependency("Unwrapping uses xatlas; run `pip install xatlas`, or choose box charts.")
    tell = progress or (lambda done, total: None)
    tell(0, 1000)
    welded, first = weld(vertices, faces)
    place = vertices.detach().cpu().float().numpy()[first]
    tell(10, 1000)
    parts = cut_patches(place, welded, patch_faces)
    patches, corners = [], []
    for part in parts:
        used, inverse = np.unique(welded[part], return_inverse=True)
        patch = place[used]
        patch = patch - patch.mean(0)
        extent = float(np.ptp(patch, axis=0).max())
        patches.append(Patch(patch, inverse.reshape(-1, 3).astype(np.int32), PATCH_TEXELS / max(extent, 1e-30)))
        corners.append(used)
    tell(30, 1000)
    flats: list[Flat | None] = [None] * len(patches)
    if method == "xatlas":
        count = workers or min(8, os.cpu_count() or 1)
        flats = flatten_patches(patches, count, time_limit, lambda done, total: tell(30 + 670 * done // total, 1000))
    lost = [i for i, flat in enumerate(flats) if flat is None or not _usable(flat, patches[i])]
    if lost:  # all of them together
        faces_lost = np.concatenate([parts[i] for i in lost])
        used, inverse = np.unique(welded[faces_lost], return_inverse=True)
        patch = Patch(place[used], inverse.reshape(-1, 3).astype(np.int32), 1.0)
        flats = [flat for i, flat in enumerate(flats) if i not in set(lost)] + [_box(patch)]
        parts, patches, corners = (
            [x for i, x in enumerate(old) if i not in set(lost)] + [new]
            for old, new in ((parts, faces_lost), (patches, patch), (corners, used))
        )
    tell(720, 1000)
    uv, chart, source, face_chart = [], [], [], np.zeros(len(welded), np.int64)
    vertex_base = chart_base = 0
    out_faces = np.zeros((len(welded), 3), np.int64)
    for part, patch, flat, used in zip(parts, patches, flats, corners):
        flat_uv, flat_chart, flat_source, flat_faces = _even(flat, patch)
        out_faces[part] = flat_faces + vertex_base
        face_chart[part] = flat_chart[flat_faces[:, 0]] + chart_base
        uv.append(flat_uv)
        chart.append(flat_chart + chart_base)
        source.append(used[flat_source])
        vertex_base += len(flat_uv)
        chart_base += int(flat_chart.max()) + 1
    packed = pack_charts(
        np.concatenate(uv), np.concatenate(chart), out_faces, resolution, padding,
        lambda done, total: tell(720 + 280 * done // total, 1000),
    )  # fmt: skip
    tell(1000, 1000)
    like = vertices
    return Unwrapped(
        as_tensor(_own_vertices(np.concatenate(source), out_faces, first, faces, len(vertices)), like),
        as_tensor(out_faces, like),
        as_tensor(packed.uv, like),
        as_tensor(face_chart, like),
        packed.fill,
        len(lost),
    )


def _own_vertices(source, out_faces, first, faces, count) -> np.ndarray:
    """The given vertex of every new one: where the mesh was not welded, one that its own faces use, for their colors
    and normals."""
    given = faces.detach().cpu().numpy().astype(np.int64).reshape(-1)
    if len(first) == count:
        return first[source]
    chosen = first[source]
    chosen[out_faces.reshape(-1)[::-1]] = given[::-1]
    return chosen


def _usable(flat: Flat, patch: Patch) -> bool:
    return bool(
        len(flat.source)
        and np.isfinite(flat.uv).all()
        and flat.chart.min(initial=0) >= 0
        and np.array_equal(flat.source[flat.faces], patch.faces)
    )


def _even(flat: Flat, patch: Patch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """uv, chart, source, faces of a patch: charts numbered without gaps, as large in uv as on the surface, not
    mirrored, and vertices that no face uses dropped."""
    kept, inverse = np.unique(flat.faces, return_inverse=True)
    faces = inverse.reshape(-1, 3)
    _, chart = np.unique(flat.chart[kept], return_inverse=True)
    uv, source = flat.uv[kept].astype(np.float64), flat.source[kept].astype(np.int64)
    count = int(chart.max()) + 1
    of_face = chart[faces[:, 0]]
    signed = np.bincount(of_face, uv_areas(uv, faces), count)
    flatted = np.bincount(of_face, np.abs(uv_areas(uv, faces)), count)
    area = np.bincount(
        of_face, np.linalg.norm(face_vectors(patch.vertices.astype(np.float64), patch.faces), axis=1) / 2, count
    )
    scale = np.sqrt(area / np.maximum(flatted, 1e-30))
    scale = np.where((flatted > 0) & (area > 0), scale, 1 / patch.density)
    uv *= scale[chart, None]
    # v runs down: a chart seen from outside turns the other way round than in a v-up plane
    uv[:, 0] *= np.where(signed > 0, -1.0, 1.0)[chart]
    return uv, chart.reshape(-1), source, faces


def _box(patch: Patch) -> Flat:
    """A patch on the sides of a box; where a piece folds over itself, what lies behind becomes charts of its own."""
    vertices, faces = patch.vertices, patch.faces.astype(np.int64)
    rest = np.arange(len(faces))
    found, vertex_base, chart_base = [], 0, 0
    out = np.zeros((len(faces), 3), np.int64)
    for peel in range(PEELS + 1):
        source, chart, index, uv = _soup(faces[rest], vertices) if peel == PEELS else box_charts(vertices, faces[rest])
        hidden = np.zeros(len(rest), bool) if peel == PEELS else _hidden(uv, chart, index)
        kept = np.flatnonzero(~hidden)
        out[rest[kept]] = index[kept] + vertex_base
        found.append((source, chart + chart_base, uv))
        vertex_base += len(source)
        chart_base += int(chart.max()) + 1
        rest = rest[hidden]
        if not len(rest):
            break
    source, chart, uv = (np.concatenate(field) for field in zip(*found))
    # a chart of which faces were taken away may have come apart
    first, second = _linked(out)
    piece = components(len(out), first, second)
    number = np.full(len(source), -1, np.int64)
    number[out.reshape(-1)] = np.repeat(piece, 3)
    number[number < 0] = 0
    return Flat(source, number, out, (uv * patch.density).astype(np.float32))


def _linked(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of faces that share a vertex, enough of them to connect all that do."""
    corner = faces.reshape(-1)
    order = np.argsort(corner, kind="stable")
    same = corner[order][1:] == corner[order][:-1]
    return order[:-1][same] // 3, order[1:][same] // 3


def _soup(faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every face a chart."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    along = b - a
    length = np.maximum(np.linalg.norm(along, axis=1), 1e-30)
    x = ((c - a) * along).sum(1) / length
    y = np.linalg.norm(np.cross(along, c - a), axis=1) / length
    zero = np.zeros(len(faces))
    uv = np.stack([np.stack([zero, zero], 1), np.stack([length, zero], 1), np.stack([x, y], 1)], 1)
    number = np.arange(3 * len(faces))
    return faces.reshape(-1), number // 3, number.reshape(-1, 3), uv.reshape(-1, 2).astype(np.float32)


def _hidden(uv: np.ndarray, chart: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces [F] of which others of their chart cover more than a little in uv, in the larger charts."""
    faces_of = np.bincount(chart[faces[:, 0]])
    large = np.argsort(-faces_of, kind="stable")[:TILES]
    large = large[faces_of[large] > 2]
    tile = np.full(len(faces_of), -1)
    tile[large] = np.arange(len(large))
    some = np.flatnonzero(tile[chart[faces[:, 0]]] >= 0)
    if not len(some):
        return np.zeros(len(faces), bool)
    across = int(np.ceil(np.sqrt(len(large))))
    side = max(24, min(256, 1024 // across))
    low, high = uv_boxes(uv, chart, len(faces_of))
    scale = (side - 2) / np.maximum((high - low).max(1), 1e-30)
    place = (uv - low[chart]) * scale[chart, None] + 1
    place += np.stack([tile[chart] % across, tile[chart] // across], 1) * side
    corners = torch.from_numpy(place[faces[some]].astype(np.float32))
    size = (across * side, across * side)
    forth = rasterize(corners, size, backend="torch").face.flatten()
    back = rasterize(corners.flip(0), size, backend="torch").face.flatten()
    back = torch.where(back >= 0, len(some) - 1 - back, back)
    seen = torch.bincount(forth[forth >= 0], minlength=len(some))
    # pixels on shared edges belong to two faces: they are few, where a face has an inside
    twice = torch.bincount(torch.maximum(forth, back)[forth != back], minlength=len(some))
    hidden = np.zeros(len(faces), bool)
    hidden[some] = ((twice > 2) & (twice > 0.3 * (seen + twice))).numpy()
    return hidden
