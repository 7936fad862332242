"""A decoded scene to one GLB: holes filled once for all, divided among the chunks, each unwrapped and baked.

The parts share their vertices along the seams, since nothing moves them after the division. GLB frame: Y up,
(x, y, z) -> (x, z, -y).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..kernels.mesh.holes import fill_holes
from ..kernels.taubin import nearest_chunk, taubin_smooth
from ..models.genrecon.scene_files import WorldScene
from ..scene.errors import InputError
from ..scene.frames import turn_points
from ..scene.gltf import Material, Part, encode_glb
from ..scene.mesh_files import linear, used_vertices
from .mesh_bake import Voxels, bake_part, unwrap_part

Progress = Callable[[str, int, int], None]


def finish_scene(
    scene: WorldScene, *, hole_perimeter: float = 1.0, smooth_iterations: int = 0, lam: float = 0.5, mu: float = -0.53,
    feature_angle: float = 25.0,
) -> WorldScene:  # fmt: skip
    """The scene with holes up to `hole_perimeter` (world units) closed and, if wanted, smoothed; unused vertices go."""
    faces, used = used_vertices(scene.faces, len(scene.vertices))
    vertices = scene.vertices[used]
    if hole_perimeter > 0:
        place, corners = vertices.double().numpy(), faces.long().numpy()
        more, middles, _, into = fill_holes(place, corners, hole_perimeter)
        vertices = torch.cat([vertices, torch.from_numpy(middles).float()])
        faces = torch.from_numpy(np.concatenate([into[corners], np.asarray(more, dtype=np.int64).reshape(-1, 3)]))
    if smooth_iterations:
        vertices = taubin_smooth(vertices, faces, smooth_iterations, lam, mu, feature_angle)
    return replace(scene, vertices=vertices, faces=faces.int())


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


def bake_chunk(
    scene: WorldScene, chunk: int, vertices: Tensor, faces: Tensor, size: int, method: str = "xatlas"
) -> Part:
    """One part, unwrapped and textured, in the GLB's frame; named like the released ones."""
    corner, side, voxels = _cube(scene, vertices)
    local = turn_points((vertices - corner) / side - 0.5, "z_up", "y_up").float()
    name = f"chunk_{scene.names[chunk] if chunk < len(scene.names) else chunk:03d}"
    part, _ = unwrap_part(Part(local, faces, Material(), name), size, method=method)
    part = bake_part(part, voxels, size, normal_map=False).part
    world = turn_points(part.vertices, "y_up", "z_up") + 0.5
    return replace(part, vertices=turn_points(world * side + corner, "z_up", "y_up").float(), tangents=None)


def bake_scene(
    scene: WorldScene, size: int = 1024, *, method: str = "xatlas", workers: int = 1, progress: Progress | None = None
) -> bytes:
    """The bytes of scene.glb: one textured primitive per chunk.

    size: texels along a side of each chunk's textures; method: of unwrapping; workers: chunks at a time.
    """
    parts = scene_parts(scene)
    if not parts:
        raise InputError("The scene has no face; there is nothing to bake.")
    baked: list[Part] = []
    inference = torch.is_inference_mode_enabled()

    def bake(part) -> Part:
        with torch.inference_mode(inference):  # which threads do not inherit
            return bake_chunk(scene, *part, size, method)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        for part in pool.map(bake, parts):
            baked.append(part)
            if progress:
                progress("bake", len(baked), len(parts))
    return encode_glb(baked)


def plain_glb(scene: WorldScene) -> bytes:
    """The bytes of a GLB with colored vertices, one primitive per chunk; quick, and without textures."""
    parts = []
    for chunk, vertices, faces in scene_parts(scene):
        values = scene.sample(vertices).clamp(0, 1)
        colors = torch.cat([linear(values[:, :3]), values[:, 5:]], 1)
        material = Material(
            metallic_factor=float(values[:, 3].mean()), roughness_factor=float(values[:, 4].mean()), double_sided=True
        )
        name = f"chunk_{scene.names[chunk] if chunk < len(scene.names) else chunk:03d}"
        parts.append(Part(turn_points(vertices, "z_up", "y_up"), faces, material, name, colors=colors))
    if not parts:
        raise InputError("The scene has no face; there is nothing to write.")
    return encode_glb(parts)
