"""Meshes to try the toolkit on: procedural objects of one kind as colored GLB files."""

from __future__ import annotations

from pathlib import Path

from ...kernels.dual_grid import grid_to_mesh
from ...scene.errors import InputError
from ...scene.files import Outputs
from ...scene.frames import turn_points
from ...scene.gltf import Part, encode_glb
from ..procedural.objects import HELD_OUT_KINDS, KINDS, make_object
from ..procedural.volumes import distance_grid, dual_grid, material_table, nearest_primitive

RESOLUTION, HALF = 96, 0.48


def write_examples(folder: str | Path, kind: str, count: int, first_seed: int = 6_000_000) -> list[Path]:
    """`count` objects of a kind as GLB files, Y up and front to +Z, colors at the vertices; returns their paths.

    Raises InputError for an unknown kind, and where a file exists.
    """
    kinds = (*KINDS, *HELD_OUT_KINDS)
    if kind not in kinds:
        raise InputError(f"There is no kind {kind!r} of procedural objects; {', '.join(kinds)} would work.")
    folder, written = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    with Outputs() as outputs:
        for index in range(count):
            item = make_object(kind, first_seed + index)
            reach = max(float(p.outline_points().abs().max()) for p in item.primitives)
            parts = [p.moved((0.0, 0.0, 0.0), HALF / reach) for p in item.primitives]
            grid = dual_grid(distance_grid(parts, RESOLUTION, 4 / RESOLUTION))
            mesh = grid_to_mesh(grid.coords, grid.dual, grid.intersected, None, RESOLUTION)
            colors = material_table(parts)[nearest_primitive(parts, mesh.vertices), :3]
            part = Part(turn_points(mesh.vertices, "z_up", "y_up_front"), mesh.faces, name=kind, colors=colors)
            path = folder / f"{kind}_{index:02}.glb"
            outputs.file(str(path)).write(encode_glb([part]))
            written.append(path)
    return written
