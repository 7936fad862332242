"""Pictures: the inputs the workflows ship, and a sheet of unseen objects beside what the family makes of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...models.trellis2.cascade import Cascade
from ...models.trellis2.image_condition import FrontCamera
from ...models.trellis2.latents import decode_latents
from ...models.trellis2.preprocess import PIXAL3D_PADDING, crop_to_object
from ..procedural.objects import make_object
from ..procedural.placement import Placed, make_placed, place
from .data import KINDS, draw_picture
from .evaluate import make
from .rendering import mesh_view, turn_matrix

FOV = 49.13434207760448  # degrees; what the command assumes where it is given none
FIRST_PICTURE, FIRST_OF_SHEET = 4_000_000, 5_000_000  # seeds no stage has seen
SIZE = 512
Progress = Callable[[int, int], None] | None


def picture_object(kind: str) -> Placed:
    """The object of a shipped picture: the first seed's, seen with the command's own field of view."""
    seed = FIRST_PICTURE + KINDS.index(kind)
    view = make_placed(kind, seed)
    for elevation in (view.elevation, 20.0, 12.0):
        placed = place(make_object(kind, seed), view.azimuth, elevation, FOV, 0.8)
        if placed:
            return placed
    return view


def write_pictures(folder: Path | str) -> list[Path]:
    """`pixal3d_<kind>.png` (RGBA) for every kind, and `pixal3d_inputs.json` with seeds and cameras; returns paths."""
    from PIL import Image

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written, notes = [], {}
    for kind in KINDS:
        placed = picture_object(kind)
        rgba, _ = draw_picture(placed, SIZE)
        path = folder / f"pixal3d_{kind}.png"
        Image.fromarray(rgba.mul(255).round().byte().numpy()).save(path, optimize=True)
        notes[path.name] = {
            "kind": kind, "seed": placed.seed, "azimuth": round(placed.azimuth, 2),
            "elevation": round(placed.elevation, 2), "fov": round(placed.fov, 4),
        }  # fmt: skip
        written.append(path)
    path = folder / "pixal3d_inputs.json"
    path.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
    return [*written, path]


def sheet(
    cascade: Cascade,
    objects: list[tuple[str, int]],
    side: int = 128,
    callback: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """One column per object: input, result from the input camera, result turned by 60 degrees; uint8 [3 S, N S, 3].

    The input goes the user's way: a picture with alpha, cropped to the object.
    """
    columns = []
    for number, (kind, seed) in enumerate(objects):
        placed = make_placed(kind, seed)
        rgba = draw_picture(placed, SIZE)[0].mul(255).round().byte().numpy()
        picture = crop_to_object(rgba, PIXAL3D_PADDING)
        mesh = decode_latents(cascade, make(cascade, picture, FrontCamera(math.radians(placed.fov))))
        colors, column = mesh.attributes[:, :3].clamp(0, 1), [_resized(picture, side)]
        for degrees in (0.0, 60.0):
            turn = turn_matrix(placed.elevation, degrees)
            view = mesh_view(mesh.vertices, mesh.faces, colors, placed.fov, turn, side, "lit", 1.0)
            column.append(view.rgb[0].clamp(0, 1).mul(255).round().byte().numpy())
        columns.append(np.concatenate(column))
        if callback:
            callback(number + 1, len(objects))
    return np.concatenate(columns, axis=1)


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def sheet_objects(count: int = 20) -> list[tuple[str, int]]:
    """The first unseen objects, kinds in turn; none is chosen."""
    return [(KINDS[k % len(KINDS)], FIRST_OF_SHEET + k) for k in range(count)]


def write_sheet(cascade: Cascade, path: Path | str, count: int = 20, per_row: int = 10, callback: Progress = None):
    """Write the sheet of `count` unseen objects as a picture file."""
    from PIL import Image

    strips = sheet(cascade, sheet_objects(count), callback=callback)
    side = strips.shape[0] // 3
    rows = [strips[:, k * side : (k + per_row) * side] for k in range(0, count, per_row)]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 8), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)
