"""Shipped blueprints: one node for a whole graph, offered by the server, expanded here as the editor does it."""

import json

import pytest
from comfy_graphs import ROOT, blueprint

from sightline.cli import headless
from sightline.scene.splat_files import read_splats

NAMES = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
SPLATS = ["Image to Splat (SparseGen)"]
PRIORS = "Words to Prior Pictures (RelaxFlow)"


def test_blueprints_are_offered(server):
    offered = {key: entry for key, entry in server.get("/global_subgraphs").items() if entry["source"] == "custom_node"}
    ours = {e["name"]: key for key, e in offered.items() if e["info"]["node_pack"].endswith(headless.PACK_NAME)}
    assert sorted(ours) == NAMES and NAMES
    for name, key in ours.items():
        definition = json.loads(server.get(f"/global_subgraphs/{key}")["data"])["definitions"]["subgraphs"][0]
        assert definition["name"] == name and definition["description"] and definition["category"]
        known = server.object_info()
        assert all(node["type"] in known for node in definition["nodes"])


@pytest.mark.parametrize("name", SPLATS)
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


@pytest.mark.parametrize("name", SPLATS)
def test_a_mistyped_elevation_is_named(server, name):
    graph, outputs = blueprint(name, server.object_info(), {"image": ["1", 0], "elevation": "high"})
    graph |= {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sparsegen_chair.png"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": outputs["turntable"]}},
    }
    with pytest.raises(headless.HeadlessError, match="elevations"):
        server.run(graph)


@pytest.mark.parametrize("name", NAMES)
def test_links_fit_the_nodes(server, name):
    """Every node is known to this host, every value has a widget, and every link joins sockets of one type."""
    known = server.object_info()
    graph, outputs = blueprint(name, known, {})
    inner = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]
    nodes = {node["id"]: node for node in inner["nodes"]}
    for link in inner["links"]:
        if link["origin_id"] > 0:
            assert known[nodes[link["origin_id"]]["type"]]["output"][link["origin_slot"]] == link["type"]
        if link["target_id"] > 0:
            entry = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            options = known[nodes[link["target_id"]]["type"]]["input"]
            wanted = {**options.get("required", {}), **options.get("optional", {})}[entry["name"].split(".")[0]][0]
            assert entry["type"] == link["type"]
            assert wanted == link["type"] or wanted.startswith("COMFY_"), entry["name"]  # growing inputs name no type
    assert graph and outputs


def test_words_become_prior_pictures(server):
    """The prior pictures go into our conditioner and TRELLIS's tokens; only core's own nodes lie in between."""
    known = server.object_info()
    given = {"model": ["a", 0], "clip": ["a", 1], "vae": ["a", 2], "words": "a red chair", "count": 2}
    graph, outputs = blueprint(PRIORS, known, given)
    kinds = {node["class_type"] for node in graph.values()}
    assert {"KSampler", "VAEDecode", "RemoveBackground"} <= kinds
    assert all(not known[kind]["python_module"].startswith("custom_nodes") for kind in kinds)
    (sampler,) = [node["inputs"] for node in graph.values() if node["class_type"] == "KSampler"]
    assert sampler["model"] == ["a", 0] and graph[sampler["positive"][0]]["inputs"]["text"] == "a red chair"
    assert graph[sampler["latent_image"][0]]["inputs"]["batch_size"] == 2
    types = {name: known[graph[node]["class_type"]]["output"][slot] for name, (node, slot) in outputs.items()}
    assert types == {"images": "IMAGE", "masks": "MASK"}
    for kind in ("SightlineTrellis1Tokens", "SightlinePictureCondition"):
        inputs = known[kind]["input"]
        sockets = {**inputs.get("required", {}), **inputs.get("optional", {})}
        assert (sockets["image"][0], sockets["mask"][0]) == ("IMAGE", "MASK")
