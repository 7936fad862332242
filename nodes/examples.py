"""Example Picture: the pictures that come with this pack, so that the example workflows run as they are."""

from __future__ import annotations

import json
from pathlib import Path

from ..scene.errors import InputError
from ..scene.images import read_rgba
from . import host
from .host import io

FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "inputs"
FIRST = "sparsegen_car.png"


def picture_path(name: str) -> Path:
    """The file of a shipped picture; InputError for any other name."""
    if name not in names():
        raise InputError(f"There is no example picture {name!r}; choose one from the list.")
    return FOLDER / name


def taken_from(name: str) -> str:
    """From where a shipped picture was taken, in words."""
    for table in sorted(FOLDER.glob("*_inputs.json")):
        entries = json.loads(table.read_text(encoding="utf-8"))
        entries = entries if isinstance(entries, dict) else {entry["file"]: entry for entry in entries}
        if name in entries:
            entry = entries[name]
            return f"azimuth {entry['azimuth']:g}, elevation {entry['elevation']:g}, fov {entry['fov']:.4g}"
    return "camera unknown"


def names() -> list[str]:
    """The file names of the shipped pictures."""
    return sorted(path.name for path in FOLDER.glob("*.png"))


class ExamplePicture(io.ComfyNode):
    """A shipped picture."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineExamplePicture",
            display_name="Example Picture",
            category=host.CATEGORY,
            description="A picture that comes with this pack, to try the nodes with: small objects on white that the "
                        "embedded weights were not trained on. For your own pictures use Load Image instead.",
            search_aliases=["sample image", "demo picture", "test image"],
            inputs=[
                io.Combo.Input(
                    "picture", options=names() or [FIRST], default=FIRST,
                    tooltip="Which picture. Those that end in _2 show the same object from another side. After a run "
                            "the node says from where the picture was taken.",
                ),
            ],
            outputs=[
                io.Image.Output(id="image", display_name="image", tooltip="The picture."),
                io.Mask.Output(id="mask", display_name="mask", tooltip="Where the object is, of pictures that say so."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, picture):
        return host.file_state(picture_path(picture))

    @classmethod
    @host.one_sentence
    def execute(cls, picture) -> io.NodeOutput:
        rgba = read_rgba(picture_path(picture)).permute(1, 2, 0)[None]
        image, mask = rgba[..., :3], rgba[..., 3]
        host.tell(taken_from(picture))
        return io.NodeOutput(host.result(image), host.result(mask), ui=host.show_images(image))
