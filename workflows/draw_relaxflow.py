"""The pictures of the RelaxFlow example: ``python workflows/draw_relaxflow.py [inputs | FILE]``.

`inputs` draws workflows/inputs/relaxflow_*.png: the shipped chair behind a board that hides its lower half, the board,
and two sets of two priors, chairs with legs and chairs with a foot, that the embedded weights have never seen. Else the
sheet workflows/relaxflow.jpg (or FILE) is drawn: above what is given, below the picture alone and its two completions,
from the camera and from the side.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).parent
INPUTS = HERE / "inputs"
SEEN = 0.56  # of the picture's height
BOARD = (96, 96, 96)
SEEDS = 6_000_000  # where the priors' seeds begin
SETS = {"legs": ("relaxflow_legs.png", "relaxflow_legs_2.png"), "foot": ("relaxflow_foot.png", "relaxflow_foot_2.png")}
SIDE, GAP, SEED = 240, 8, 3


def prior_chairs(azimuth: float, elevation: float):
    """Seeds of two chairs of each set, in the pose of the picture."""
    from sightline.training.cascade.gallery import FOV
    from sightline.training.procedural.objects import make_object
    from sightline.training.procedural.placement import place
    from sightline.training.procedural.primitives import Frustum

    found: dict[str, list] = {"legs": [], "foot": []}
    for seed in range(SEEDS, SEEDS + 400):
        item = make_object("chair", seed)
        broad = any(isinstance(p, Frustum) and p.bottom > 3 * p.top for p in item.primitives)
        chosen = found["foot" if broad else "legs"]
        if len(chosen) == 2:
            continue
        placed = place(item, azimuth, elevation, FOV, 0.8)
        if placed:
            chosen.append(placed)
    return found


def write_inputs() -> None:
    """Draw the example's pictures."""
    from sightline.training.cascade.data import draw_picture

    table = json.loads((INPUTS / "pixal3d_inputs.json").read_text())["pixal3d_chair.png"]
    rgba = np.array(Image.open(INPUTS / "pixal3d_chair.png").convert("RGBA"))
    cut = int(len(rgba) * SEEN)
    board = np.zeros_like(rgba)
    board[cut:] = (*BOARD, 255)
    rgba[cut:] = (*BOARD, 0)
    pictures, notes = {"relaxflow_half.png": rgba, "relaxflow_board.png": board}, {}
    notes |= {name: table for name in pictures}
    for kind, chairs in prior_chairs(table["azimuth"], table["elevation"]).items():
        for name, placed in zip(SETS[kind], chairs):
            pictures[name] = draw_picture(placed, 512)[0].mul(255).round().byte().numpy()
            notes[name] = {**table, "seed": placed.seed}
    for name, picture in pictures.items():
        Image.fromarray(picture).quantize(128, method=Image.Quantize.FASTOCTREE).save(INPUTS / name, optimize=True)
    (INPUTS / "relaxflow_inputs.json").write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def draw(path: Path) -> None:
    """Complete the chair with both sets and without any, and write the sheet."""
    from sightline.models.relaxflow.settings import RelaxSettings, StageSettings
    from sightline.models.relaxflow.visibility import VisibilitySettings
    from sightline.models.trellis2.family import embedded_family
    from sightline.models.trellis2.image_condition import FrontCamera
    from sightline.models.trellis2.latents import decode_latents
    from sightline.pipelines.relaxflow_cascade import complete_projected

    family = embedded_family()
    table = json.loads((INPUTS / "relaxflow_inputs.json").read_text())["relaxflow_half.png"]
    half = black("relaxflow_half.png")
    board = torch.from_numpy(np.array(Image.open(INPUTS / "relaxflow_board.png").convert("RGBA"))[..., 3]) / 255
    columns = []
    for name, files in (("alone", SETS["legs"]), *SETS.items()):
        held = StageSettings(
            schedule="two_stage", schedule_args={"alpha0": 1.0, "warmup": 0.0, "hold": 1.0},
            prior_weight=0.0 if name == "alone" else 1.0,
        )  # fmt: skip
        done = complete_projected(
            family, half, [black(file) for file in files], FrontCamera(math.radians(table["fov"])), occluder=board,
            settings=RelaxSettings(held, held), seed=SEED, visibility=VisibilitySettings(tolerance=3.0, dilate=1.0),
        )  # fmt: skip
        print(name, len(done.coords), "voxels, seen part", round(done.iou(), 3))
        columns.append(decode_latents(family, done.latents))
    paste(path, columns)


def black(name: str) -> np.ndarray:
    """A shipped picture on black, uint8 [S, S, 3]."""
    rgba = np.array(Image.open(INPUTS / name).convert("RGBA")).astype(float)
    return (rgba[..., :3] * rgba[..., 3:] / 255).astype(np.uint8)


def paste(path: Path, meshes: list) -> None:
    """The sheet: given pictures above, every mesh from the camera and from the side below."""
    from sightline.kernels.mesh_render import render_mesh
    from sightline.scene.cameras import orbit
    from sightline.scene.frames import turn_points
    from sightline.scene.images import to_pillow

    sheet = Image.new("RGB", (3 * SIDE + 4 * GAP, 3 * SIDE + 4 * GAP), "white")

    def place(picture: Image.Image, x: int, y: int, side: int) -> None:
        sheet.paste(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (x, y))

    def on_white(name: str) -> Image.Image:
        picture = Image.open(INPUTS / name).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        return white

    half = on_white("relaxflow_half.png")
    half.alpha_composite(Image.open(INPUTS / "relaxflow_board.png").convert("RGBA"))
    place(half, GAP, GAP, SIDE)
    small = (SIDE - GAP) // 2
    for column, files in enumerate(SETS.values(), 1):
        left = GAP + column * (SIDE + GAP)
        for number, file in enumerate(files):
            place(on_white(file), left + number * (small + GAP), GAP + (SIDE - small) // 2, small)
    cameras = orbit((0.0, 75.0), (0.0, 0.0), 1.12, 49.13, SIDE, SIDE)
    for column, mesh in enumerate(meshes):
        points = turn_points(mesh.vertices.float(), "y_up_front", "z_up")
        colors = mesh.attributes[:, :3].float().clamp(0, 1)
        drawn = render_mesh(points, mesh.faces.long(), cameras, vertex_colors=colors, samples=2).rgb
        for row, frame in enumerate(drawn, 1):
            place(to_pillow(frame.permute(2, 0, 1)), GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP), SIDE)
    sheet.save(path, quality=90)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["inputs"]:
        write_inputs()
    else:
        draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "relaxflow.jpg")
