"""Shipped blueprints: one node for a whole graph, offered by the server, expanded here as the editor does it."""

import json

import pytest
from comfy_graphs import ROOT, blueprint

from sightline.cli import headless
from sightline.scene.splat_files import read_splats

NAMES = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))


def test_blueprints_are_offered(server):
    offered = {key: entry for key, entry in server.get("/global_subgraphs").items() if entry["source"] == "custom_node"}
    ours = {e["name"]: key for key, e in offered.items() if e["info"]["node_pack"].endswith(headless.PACK_NAME)}
    assert sorted(ours) == NAMES and NAMES
    for name, key in ours.items():
        definition = json.loads(server.get(f"/global_subgraphs/{key}")["data"])["definitions"]["subgraphs"][0]
        assert definition["name"] == name and definition["description"] and definition["category"]
        known = server.object_info()
        assert all(node["type"] in known for node in definition["nodes"])


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_becomes_a_splat_and_a_turn(server, name):
    graph, outputs = blueprint(name, server.object_info(), {"image": ["1", 0], "elevation": "30", "frames": 3})
    assert graph["sub1"]["inputs"]["elevations"] == "30" and "mask" not in graph["sub1"]["inputs"]
    graph |= {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sparsegen_chair.png"}},
        "2": {"class_type": "SightlineSaveSplat",
              "inputs": {"splat": outputs["splat"], "filename_prefix": "blueprint/s", "format": "ply"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": outputs["turntable"], "filename_prefix": "blueprint/t"}},
    }  # fmt: skip
    run = server.run(graph)
    written = [path for path in run.files if "output" in path.parts]
    assert [len(read_splats(path)) > 100 for path in written if path.suffix == ".ply"] == [True]
    assert sum(path.suffix == ".png" for path in written) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_mistyped_elevation_is_named(server, name):
    graph, outputs = blueprint(name, server.object_info(), {"image": ["1", 0], "elevation": "high"})
    graph |= {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sparsegen_chair.png"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": outputs["turntable"]}},
    }
    with pytest.raises(headless.HeadlessError, match="elevations"):
        server.run(graph)
