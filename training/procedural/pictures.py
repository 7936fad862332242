"""The input pictures the workflows ship: objects no training run has drawn, on white, with their cameras."""

from __future__ import annotations

import json
from pathlib import Path

from ...scene.cameras import orbit
from .objects import make_object
from .render import composite, render_views

RADIUS, FOV, SIZE = 1.3, 51.98948897809546, 256
# kind, seed (from 1 020 000 on: never drawn for training), azimuth of the first picture in the object's own frame,
# elevation of the first picture, and, for some, azimuth (from the first) and elevation of a second picture.
PICTURES = (
    ("car", 1_020_009, 50.0, 20.0, (125.0, 25.0)),
    ("chair", 1_020_004, 35.0, 20.0, (160.0, 30.0)),
    ("robot", 1_020_003, 25.0, 15.0, (140.0, 20.0)),
    ("mug", 1_020_009, 60.0, 25.0, None),
    ("house", 1_020_005, 125.0, 20.0, None),
    ("sofa", 1_020_006, 35.0, 25.0, None),
    ("rocket", 1_020_006, 30.0, 10.0, None),
    ("snowman", 1_020_008, 30.0, 20.0, None),
)


def write_input_pictures(folder: Path | str) -> list[Path]:
    """Write ``sparsegen_KIND.png`` (and ``sparsegen_KIND_2.png``) and ``sparsegen_inputs.json`` into ``folder``.

    The JSON holds, per picture, kind, seed, elevation and azimuth in degrees (0 for the first picture of an object:
    its world is turned so), field of view in degrees and camera distance. Existing files are replaced.
    """
    from PIL import Image

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written, index = [], []
    for kind, seed, turn, elevation, second in PICTURES:
        item = make_object(kind, seed)
        for number, (azimuth, height) in enumerate([(0.0, elevation)] + ([second] if second else [])):
            cameras = orbit([turn + azimuth], [height], RADIUS, FOV, SIZE, SIZE)
            rgba = render_views(item, cameras, samples=3, lamp_azimuth=turn + 40.0, lamp_elevation=60.0)
            name = f"sparsegen_{kind}{'' if number == 0 else f'_{number + 1}'}.png"
            pixels = (composite(rgba)[0] * 255).round().byte().numpy()
            Image.fromarray(pixels).save(folder / name, optimize=True)
            written.append(folder / name)
            index.append(
                {
                    "file": name,
                    "kind": kind,
                    "seed": seed,
                    "azimuth": azimuth,
                    "elevation": height,
                    "fov": FOV,
                    "radius": RADIUS,
                    "object_azimuth": turn,
                }
            )
    path = folder / "sparsegen_inputs.json"
    path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return written + [path]
