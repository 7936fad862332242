"""Scenes on the real server: a shipped one drawn and saved, through nodes alone."""

import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from scene_captures import model, write_capture

from sightline.cli import headless


def test_a_scene_is_drawn_and_saved(server):
    workflow = {
        "1": {"class_type": "SightlineLoadScene", "inputs": {"file": "example: desk"}},
        "2": {"class_type": "SightlineOcclusionControlRender",
              "inputs": {"scene": ["1", 0], "size": 256, "samples": 2, "renderer": "built-in"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "layout/desk"}},
        "4": {"class_type": "SightlineSaveScene",
              "inputs": {"scene": ["1", 0], "filename_prefix": "layout/desk", "format": "glb"}},
        "5": {"class_type": "MaskToImage", "inputs": {"mask": ["2", 1]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "layout/masks"}},
    }  # fmt: skip
    options = server.object_info("SightlineOcclusionControlRender")["SightlineOcclusionControlRender"]["input"]
    workflow["2"]["inputs"]["renderer"] = options["required"]["renderer"][1]["options"][0]
    files = server.run(workflow).files
    pictures = [path for path in files if path.suffix == ".png" and path.parent.name == "layout"]
    drawn = [np.asarray(Image.open(path).convert("RGB")) for path in pictures if "desk" in path.name]
    assert len(drawn) == 1 and max(drawn[0].shape) == 256 and drawn[0].std() > 10
    masks = [np.asarray(Image.open(path).convert("L")) for path in pictures if "masks" in path.name]
    assert len(masks) > 1 and all(0 < mask.mean() < 255 for mask in masks)
    (saved,) = (server.base / "output" / "layout").glob("*.glb")
    assert len(trimesh.load(saved, force="scene").graph.nodes_geometry) >= len(masks)  # boxes share one mesh


@pytest.mark.parametrize("given", [{}, {"up": "0,0,1", "scale": 2.0}])
def test_a_colmap_model_becomes_a_scene_of_cameras(server, given):
    name = "layout_room" + ("_given" if given else "")
    write_capture(server.base / "input" / name, model(views=3))
    inputs = {"file": f"COLMAP: {name}", **given}
    workflow = {"1": {"class_type": "SightlineLoadScene", "inputs": inputs},
                "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}}  # fmt: skip
    options = server.object_info("SightlineLoadScene")["SightlineLoadScene"]["input"]["required"]["file"]
    assert inputs["file"] in str(options) and "sparse" not in str(options)
    run = server.run(workflow)
    scene = json.loads(run.outputs["2"]["text"][0])
    height = 3.0 if given else 1.5
    assert [round(camera["free"]["position"][2], 1) for camera in scene["cameras"]] == [height] * 3
    assert "3 cameras" in run.outputs["1"]["text"][0]
    with pytest.raises(headless.HeadlessError, match="three numbers"):
        server.run({**workflow, "1": {**workflow["1"], "inputs": {**inputs, "up": "sideways"}}})
