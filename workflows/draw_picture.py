"""Draw workflows/sparsegen.jpg, the picture of the example workflow: ``python workflows/draw_picture.py [FILE]``.

Each row is one object that the embedded weights have never seen: the given pictures, then what comes out, turned.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from sightline.models.sparsegen import load_sparsegen
from sightline.pipelines.sparsegen import render_splats, sample_sparsegen
from sightline.scene.cameras import turntable
from sightline.scene.images import read_image, to_pillow
from sightline.scene.views import view_set

HERE = Path(__file__).parent
ROWS = (("car", 2), ("robot", 2), ("mug", 1), ("house", 1))
SIDE, GAP, SCALE, TURNS = 176, 6, 2, 4
LINE, PAPER = (120, 120, 120), (255, 255, 255)


def row(model, name: str, count: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """The given pictures of one object and the drawn ones."""
    known = {entry["file"]: entry for entry in json.loads((HERE / "inputs" / "sparsegen_inputs.json").read_text())}
    files = [f"sparsegen_{name}{suffix}.png" for suffix in ("", "_2")[:count]]
    given = [read_image(HERE / "inputs" / file)[None] for file in files]
    azimuths, elevations = ([known[file][key] for file in files] for key in ("azimuth", "elevation"))
    views = view_set(given, azimuths, elevations, known[files[0]]["radius"], known[files[0]]["fov"])
    splats = sample_sparsegen(model, views.images, views.cameras)
    cameras = turntable(TURNS, 20.0, 1.3, model.config.fov, SCALE * SIDE, SCALE * SIDE)
    frames = render_splats(splats, cameras).color.clamp(0, 1).permute(0, 3, 1, 2)
    return [to_pillow(picture[0]) for picture in given], [to_pillow(frame) for frame in frames]


def draw(path: Path) -> None:
    """Sample all rows and write the picture."""
    torch.set_num_threads(1)
    model, _ = load_sparsegen()
    columns = 2 + TURNS
    width, height = columns * (SIDE + GAP) + 5 * GAP, len(ROWS) * (SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for r, (name, count) in enumerate(ROWS):
        given, drawn = row(model, name, count)
        top = GAP + r * (SIDE + GAP)
        for c, picture in enumerate([None] * (2 - count) + given + drawn):
            left = GAP + c * (SIDE + GAP) + (4 * GAP if c > 1 else 0)
            if picture is None:
                continue
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top))
            if c < 2:
                pen.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=LINE)
        middle, x = top + SIDE // 2, 2 * (SIDE + GAP) + GAP
        pen.polygon([(x, middle - 9), (x + 16, middle), (x, middle + 9)], fill=LINE)
    sheet.save(path, quality=90)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "sparsegen.jpg")
