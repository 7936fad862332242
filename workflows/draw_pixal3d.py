"""Draw workflows/pixal3d.jpg: ``python workflows/draw_pixal3d.py FOLDER [FILE]``.

FOLDER holds what workflows/pixal3d.json made of the shipped pictures, pixal3d_chair_00001_.glb and so on. Each row is
one object that the embedded weights have never seen: the given picture, then the textured mesh from the camera's side
and turned.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from sightline.kernels.mesh_render import render_mesh
from sightline.scene.cameras import orbit
from sightline.scene.frames import turn_points
from sightline.scene.images import to_pillow
from sightline.scene.mesh_read import read_mesh

HERE = Path(__file__).parent
KINDS = ("chair", "table", "mug", "lamp", "sofa")
SIDE, GAP, TURNS = 200, 6, (0.0, 40.0, 110.0, 200.0)


def draw(folder: Path, path: Path) -> None:
    """Render all rows and write the picture."""
    sheet = Image.new("RGB", ((1 + len(TURNS)) * (SIDE + GAP) + 4 * GAP, len(KINDS) * (SIDE + GAP) + GAP), "white")
    for row, kind in enumerate(KINDS):
        given = Image.open(HERE / "inputs" / f"pixal3d_{kind}.png").convert("RGBA")
        white = Image.new("RGBA", given.size, "white")
        white.alpha_composite(given)
        top = GAP + row * (SIDE + GAP)
        sheet.paste(white.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (GAP, top))
        part = read_mesh(next(folder.glob(f"pixal3d_{kind}_*.glb")))
        uv = torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
        texture = part.material.base_color.float()
        texture = texture / 255 if texture.max() > 1.5 else texture
        cameras = orbit(TURNS, [0.0] * len(TURNS), 1.25, 49.0, SIDE, SIDE)
        drawn = render_mesh(
            turn_points(part.vertices, "y_up_front", "z_up"), part.faces, cameras, uv=uv, texture=texture[..., :3],
            samples=2,
        ).rgb  # fmt: skip
        for column, frame in enumerate(drawn):
            left = GAP + (column + 1) * (SIDE + GAP) + 3 * GAP
            sheet.paste(to_pillow(frame.permute(2, 0, 1)), (left, top))
    sheet.save(path, quality=90)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "pixal3d.jpg")
