"""Draw workflows/relaxflow-sam3d.jpg, a run in a real ComfyUI: ``python workflows/draw_relaxflow_sam3d.py``.

The weights of SAM 3D Objects are gated and were not at hand: networks of a few megabytes with random weights take their
place, as in the tests. What the picture shows is the way through the graph, not what SAM 3D makes; it says so.
COMFYUI_PATH names the ComfyUI tree.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageSequence

from sightline.cli import headless

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
SIDE, GAP, BAR = 232, 8, 30
PAPER, INK, SOFT = (24, 24, 27), (225, 225, 225), (160, 160, 160)
STEPS, TURNS = 8, 3


def tiny(workflow: dict) -> dict:
    """The shipped workflow with the tiny weights and less to draw."""
    changes = {
        "SightlineSAM3DLoader": {"models": "tiny/pipeline.yaml"},
        "LoadMoGeModel": {"model_name": "moge-tiny-wall.safetensors"},
        "MoGeInference": {"resolution_level": 0},
        "SightlineSAM3DStructure": {"steps": STEPS},
        "SightlineSAM3DLatent": {"steps": STEPS},
        "SightlineSplatTurntable": {"frames": TURNS, "width": SIDE, "height": SIDE, "background": "#18181b"},
    }
    for node in workflow.values():
        node["inputs"].update(changes.get(node["class_type"], {}))
    return workflow


def run() -> tuple[list[Image.Image], list[Image.Image]]:
    """What Structure and Pose shows, and the turns of the splat, from a server with tiny weights."""
    sys.path[:0] = [str(TESTS / "models" / "sam3d")]
    from sam3d_tiny import write_family

    tree = headless.find_comfyui()
    workflow = tiny(json.loads((HERE / "api" / "relaxflow-sam3d.json").read_text(encoding="utf-8")))
    numbers = {node["class_type"]: number for number, node in workflow.items()}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_family(base / "models" / "sam3d" / "tiny")
        program = [sys.executable, str(TESTS / "comfy" / "native_moge.py"), str(tree.path), str(base)]
        subprocess.run(program, check=True, capture_output=True)
        (base / "custom_nodes").mkdir(exist_ok=True)
        packs = ("--whitelist-custom-nodes", headless.PACK_NAME)
        with headless.start(
            tree.path, base, pack=HERE.parent, python=sys.executable, device="cpu", extra=packs
        ) as server:
            outputs = server.run(workflow).outputs

        def shown(kind: str) -> list[Image.Image]:
            (entry,) = outputs[numbers[kind]]["images"]
            with Image.open(base / entry["type"] / entry["subfolder"] / entry["filename"]) as picture:
                return [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]

        return shown("SightlineSAM3DStructure"), shown("SightlineSplatTurntable")


def example(name: str) -> Image.Image:
    """A shipped picture on the sheet's ground."""
    picture = Image.open(HERE / "inputs" / name).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    ground = Image.new("RGB", (SIDE, SIDE), PAPER)
    ground.paste(picture, (0, 0), picture)
    return ground


def draw(path: Path) -> None:
    """Run and lay out."""
    (voxels,), turns = run()
    rows = [
        [
            ("picture (what is seen)", example("relaxflow_half.png")),
            ("prior 1", example("relaxflow_legs.png")),
            ("prior 2", example("relaxflow_legs_2.png")),
            ("voxels, from the camera", voxels.crop((0, 0, voxels.width // 2, voxels.height))),
            ("and from behind", voxels.crop((voxels.width // 2, 0, voxels.width, voxels.height))),
        ],
        [(f"splat, turn {i + 1}", turn) for i, turn in enumerate(turns)],
    ]
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, 2 * (SIDE + BAR) + 3 * BAR), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for r, row in enumerate(rows):
        for c, (words, picture) in enumerate(row):
            left, top = GAP + c * (SIDE + GAP), r * (SIDE + BAR)
            pen.text((left, top + 8), words, INK, font)
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, top + BAR))
    left, top = 3 * (SIDE + GAP) + GAP, SIDE + 2 * BAR + 12
    lines = (
        "RANDOM WEIGHTS", "",
        "The graph of relaxflow-sam3d.json, run in ComfyUI",
        "with tiny networks and a MoGe that sees a wall.",
        "The form means nothing: SAM 3D Objects is gated,",
        "and its weights were not at hand.", "",
        "green: seen in the picture, left to it",
        "red: hidden, follows the priors",
    )  # fmt: skip
    for i, line in enumerate(lines):
        pen.text((left, top + 22 * i), line, (240, 200, 60) if i == 0 else SOFT, font)
    sheet.crop((0, 0, sheet.width, 2 * (SIDE + BAR) + GAP)).save(path, quality=88)


if __name__ == "__main__":
    draw(HERE / "relaxflow-sam3d.jpg")
