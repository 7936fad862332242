"""Draw workflows/relaxflow-trellis.jpg: ``python workflows/draw_relaxflow_trellis.py [FILE]``.

What the known layout of the workflow tells without any weights: its control picture, and which voxels of a true chair
in the chair's box the camera sees (green) and which the board or the chair itself hides (red), from the camera and from
behind. With TRELLIS the voxels are those of its own structure.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

from sightline.models.relaxflow.layout import scene_view
from sightline.models.relaxflow.visibility import VisibilitySettings
from sightline.models.relaxflow.visibility_preview import mask_picture
from sightline.pipelines.layout_render import render_layout
from sightline.scene.document import parse_document
from sightline.scene.frames import rotation_about_z
from sightline.scene.images import to_pillow
from sightline.training.procedural.objects import make_object
from sightline.training.procedural.primitives import turned
from sightline.training.procedural.volumes import distance_grid

HERE = Path(__file__).parent
SEED, SIDE, RESOLUTION = 4_000_000, 384, 64
SETTINGS = VisibilitySettings(tolerance=3.0, dilate=1.0, resolution=RESOLUTION)  # as in the workflow


def chair() -> torch.Tensor:
    """The shipped chair as voxels [N, 3] of TRELLIS's cube: Z up, front at -Y, its longest edge as long as the cube."""
    parts = [turned(p, rotation_about_z(-90.0)) for p in make_object("chair", SEED).primitives]
    points = torch.cat([p.outline_points() for p in parts])
    low, high = points.amin(0), points.amax(0)
    scale = 0.98 / float((high - low).max())
    moved = [p.moved(tuple((-(low + high) / 2).tolist()), scale) for p in parts]
    distance = distance_grid(moved, RESOLUTION, 0.1)
    inside = distance[:RESOLUTION, :RESOLUTION, :RESOLUTION] < 0.5 / RESOLUTION
    return torch.argwhere(inside)


def draw(path: Path) -> None:
    """Write the picture."""
    graph = json.loads((HERE / "api" / "relaxflow-trellis.json").read_text(encoding="utf-8"))
    (text,) = [n["inputs"]["scene"] for n in graph.values() if n["class_type"] == "SightlineLayoutEditor"]
    document = parse_document(text)
    view, voxels = scene_view(document, "chair", "z_up"), chair()
    mask = view.visibility(None, surface=voxels, settings=SETTINGS)
    shown = mask_picture(voxels, mask.view(*[RESOLUTION] * 3), view.cube_camera(), RESOLUTION, SIDE)
    sheet = Image.new("RGB", (3 * SIDE, SIDE), "white")
    control = render_layout(document, SIDE, samples=2).image[0]
    sheet.paste(to_pillow(control.permute(2, 0, 1).float().clamp(0, 1)), (0, 0))
    sheet.paste(Image.fromarray(shown.numpy()), (SIDE, 0))
    sheet.save(path, quality=90)


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "relaxflow-trellis.jpg")
