"""A decoded scene to one GLB: finished as a whole, divided among the chunks, each simplified, unwrapped and baked.

The parts share their vertices along the seams to the bit: simplifying keeps them, and nothing else moves them after the
division. GLB frame: Y up, (x, y, z) -> (x, z, -y).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..kernels.mesh.decimate import decimate
from ..kernels.mesh.holes import fill_holes
from ..kernels.mesh.remesh import LARGEST, remesh
from ..kernels.taubin import nearest_chunk, taubin_smooth
from ..kernels.uv.unwrap import unwrap
from ..models.genrecon.scene_files import WorldScene
from ..scene.errors import InputError
from ..scene.frames import turn_points
from ..scene.gltf import Material, Part, encode_glb
from ..scene.mesh_files import used_vertices
from ..scene.srgb import linear
from .mesh_bake import Voxels, bake_part

Progress = Callable[[str, int, int], None]


def finish_scene(
    scene: WorldScene, *, hole_perimeter: float = 1.0, remesh_cells: int = 0, band: float = 1.0,
    project_back: float = 0.9, smooth_iterations: int = 0, lam: float = 0.5, mu: float = -0.53,
    feature_angle: float = 25.0, progress: Progress | None = None,
) -> WorldScene:  # fmt: skip
    """The scene with holes up to `hole_perimeter` (world units) closed and, if wanted, remeshed and smoothed; unused
    vertices go.

    remesh_cells, band, project_back: see `kernels.mesh.remesh`; 0 cells for none. A step that takes long is named to
    progress(step, done, total). Source: GenRecon, specification 11.2.
    """
    faces, used = used_vertices(scene.faces, len(scene.vertices))
    vertices = scene.vertices[used]
    if hole_perimeter > 0:
        place, corners = vertices.double().numpy(), faces.long().numpy()
        more, middles, _, into = fill_holes(place, corners, hole_perimeter)
        vertices = torch.cat([vertices, torch.from_numpy(middles).float()])
        faces = torch.from_numpy(np.concatenate([into[corners], np.asarray(more, dtype=np.int64).reshape(-1, 3)]))
    if remesh_cells:
        tell = progress and (lambda done, total: progress("remesh", done, total))
        place, corners, _, _ = remesh(
            vertices.double().numpy(), faces.long().numpy(), remesh_cells, band=band, project_back=project_back,
            callback=tell,
        )  # fmt: skip
        vertices, faces = torch.from_numpy(place).float(), torch.from_numpy(corners)
    if smooth_iterations:
        vertices = taubin_smooth(vertices, faces, smooth_iterations, lam, mu, feature_angle)
    return replace(scene, vertices=vertices, faces=faces.int())


def remesh_cells(scene: WorldScene) -> int:
    """As many cells along the longest side as the released baker takes, one per voxel, but not more than `LARGEST`."""
    extent = float((scene.vertices.amax(0) - scene.vertices.amin(0)).max())
    return max(8, min(LARGEST, round(extent / scene.voxel_size)))


def simplified(vertices: Tensor, faces: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """A part with about `target` faces, or more: the vertices of its border, which other parts share, stay as they are.

    vertices: [V, 3] float32; faces: [F, 3]. target 0 keeps all.
    """
    if not target or len(faces) <= target:
        return vertices, faces
    done = decimate(vertices.double().numpy(), faces.long().numpy(), target, keep_border=True)
    return torch.from_numpy(done.vertices).float(), torch.from_numpy(done.faces).int()


def scene_parts(scene: WorldScene) -> list[tuple[int, Tensor, Tensor]]:
    """(chunk, vertices [V, 3], faces [F, 3]) of every chunk that owns a face, by the nearest chunk center."""
    owner = nearest_chunk(scene.vertices, scene.faces, scene.chunk_centers)
    parts = []
    for chunk in range(len(scene.chunk_centers)):
        mine = scene.faces[owner == chunk]
        if len(mine):
            faces, used = used_vertices(mine, len(scene.vertices))
            parts.append((chunk, scene.vertices[used], faces.int()))
    return parts


def _cube(scene: WorldScene, vertices: Tensor, pad: int = 4) -> tuple[Tensor, float, Voxels]:
    """Corner and side, in the world, of the cube of voxels around a part, and its voxels, Y up."""
    place = (vertices - scene.aabb[0]) / scene.voxel_size
    low = place.amin(0).floor().long() - pad
    count = int((place.amax(0).ceil().long() + pad - low).max())
    near = scene.coords.long() - low
    kept = ((near >= 0) & (near < count)).all(1)
    if not bool(kept.any()):
        raise InputError("A part of the scene has no voxel near it; bake with the voxels it was decoded with.")
    x, y, z = near[kept].unbind(1)
    voxels = Voxels(torch.stack([x, z, count - 1 - y], 1).int(), scene.attributes[kept], count)
    return scene.aabb[0] + low * scene.voxel_size, count * scene.voxel_size, voxels


def _name(scene: WorldScene, chunk: int) -> str:
    """As the released parts are called."""
    return f"chunk_{scene.names[chunk] if chunk < len(scene.names) else chunk:03d}"


def bake_chunk(
    scene: WorldScene, chunk: int, vertices: Tensor, faces: Tensor, size: int, method: str = "xatlas",
    target: int = 0, processes: int | None = None,
) -> Part:  # fmt: skip
    """One part, simplified to `target` faces (0: not), unwrapped and textured, in the GLB's frame.

    processes: that unwrap. Colors are those of the surface before it was simplified.
    """
    corner, side, voxels = _cube(scene, vertices)

    def local(points: Tensor) -> Tensor:
        return turn_points((points - corner) / side - 0.5, "z_up", "y_up").float()

    few, corners = simplified(vertices, faces, target)
    reference = (local(vertices), faces.long()) if len(corners) < len(faces) else None
    done = unwrap(local(few), corners, size, method=method, workers=processes)
    flat = Part(local(few)[done.source], done.faces, Material(), _name(scene, chunk), uv=done.uv)
    part = bake_part(flat, voxels, size, reference=reference, normal_map=False).part
    # the places themselves, not those of a round trip through the cube, so that seams stay closed
    return replace(part, vertices=turn_points(few[done.source], "z_up", "y_up"), tangents=None)


def bake_scene(
    scene: WorldScene, size: int = 1024, *, method: str = "xatlas", target: int = 0, workers: int = 1,
    progress: Progress | None = None,
) -> bytes:  # fmt: skip
    """The bytes of scene.glb: one textured primitive per chunk.

    size: texels along a side of each chunk's textures; method: of unwrapping; target: see `simplified`;
    workers: chunks at a time.
    """
    each = max(1, (os.cpu_count() or 1) // max(1, workers))
    return encode_glb(
        _each_part(
            scene, lambda chunk, *part: bake_chunk(scene, chunk, *part, size, method, target, each), workers, progress
        )
    )


def _each_part(
    scene: WorldScene, make: Callable[[int, Tensor, Tensor], Part], workers: int, progress: Progress | None
) -> list[Part]:
    """What `make` gives for every part, `workers` at a time, in their order."""
    parts = scene_parts(scene)
    if not parts:
        raise InputError("The scene has no face; there is nothing to bake.")
    made: list[Part] = []
    inference = torch.is_inference_mode_enabled()

    def one(part) -> Part:
        with torch.inference_mode(inference):  # which threads do not inherit
            return make(*part)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(one, part) for part in parts]
        try:
            for future in futures:
                made.append(future.result())
                if progress:
                    progress("bake", len(made), len(parts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return made


def _values(scene: WorldScene, points: Tensor) -> Tensor:
    """Attributes [P, 6] at points [P, 3]; those of the nearest voxel where a remesh left all of them."""
    values = scene.sample(points).clamp(0, 1)
    lost = (~values.any(1)).nonzero().squeeze(1)
    if len(lost):
        place = (points[lost] - scene.aabb[0]) / scene.voxel_size - 0.5
        _, near = cKDTree(scene.coords.numpy()).query(place.numpy())
        values[lost] = scene.attributes[torch.from_numpy(near)].clamp(0, 1)
    return values


def plain_glb(scene: WorldScene, *, target: int = 0, workers: int = 1, progress: Progress | None = None) -> bytes:
    """The bytes of a GLB with colored vertices, one primitive per chunk; quick, and without textures.

    target: see `simplified`; workers: chunks at a time.
    """

    def make(chunk: int, vertices: Tensor, faces: Tensor) -> Part:
        vertices, faces = simplified(vertices, faces, target)
        values = _values(scene, vertices)
        colors = torch.cat([linear(values[:, :3]), values[:, 5:]], 1)
        material = Material(
            metallic_factor=float(values[:, 3].mean()), roughness_factor=float(values[:, 4].mean()), double_sided=True
        )
        return Part(turn_points(vertices, "z_up", "y_up"), faces, material, _name(scene, chunk), colors=colors)

    return encode_glb(_each_part(scene, make, workers, progress))
