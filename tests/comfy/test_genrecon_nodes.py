"""GenRecon's shipped workflows on a real server, with tiny random weights and the room that comes with this pack."""

import json

import pytest
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from genrecon_tiny import write_scene_family

from sightline.cli import headless

NAMES = ("genrecon", "genrecon-object")


@pytest.fixture(scope="module")
def family(server):
    pytest.importorskip("transformers", reason="DINOv3 runs on the transformers library")
    write_scene_family(server.base / "models" / "genrecon" / "tiny")
    return "tiny/genrecon.json"


def small(workflow, family, prefix):
    for node in nodes_of(workflow, "SightlineGenReconLoader"):
        node["inputs"]["models"] = family
    for node in nodes_of(workflow, "SightlineChunkPlanner"):
        node["inputs"]["count"] = 3
        if not node["inputs"]["object"]:
            node["inputs"].update(bounds="-1, 2, -0.5, 0.5", min_points=20)
    for node in nodes_of(workflow, "SightlineChunkSampler"):
        node["inputs"].update(steps=2, guidance=2.0, occupancy=0.0)
    for node in nodes_of(workflow, "SightlineSceneBake"):
        node["inputs"].update(texture_size=0, filename_prefix=prefix)
    return workflow


def glb_of(run):
    (path,) = [path for path in run.files if path.suffix == ".glb" and "output" in path.parts]
    return path.read_bytes()


def document_of(glb):
    return json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])


@pytest.mark.parametrize("name", NAMES)
def test_workflow_writes_a_scene(server, family, name):
    run = server.run(small(api_workflow(name), family, f"api_{name}"))
    glb = glb_of(run)
    document = document_of(glb)
    assert document["meshes"] and all("COLOR_0" in m["primitives"][0]["attributes"] for m in document["meshes"])
    (planner,) = [key for key, node in api_workflow(name).items() if node["class_type"] == "SightlineChunkPlanner"]
    assert run.outputs[planner]["images"], "the plan has no picture"
    editor = server.run(small(editor_workflow(name, server.object_info()), family, f"editor_{name}"))
    assert glb_of(editor) == glb


def test_a_scene_that_is_kept_goes_on(server, family):
    workflow = small(api_workflow("genrecon"), family, "kept")
    (sampler,) = nodes_of(workflow, "SightlineChunkSampler")
    sampler["inputs"]["resume_as"] = "kept room"
    first = glb_of(server.run(workflow))
    stages = server.base / "output" / "sightline_scenes" / "kept room"
    assert {path.name for path in stages.iterdir()} == {f"{s}.safetensors" for s in ("structure", "shape", "texture")}
    (stages / "texture.safetensors").unlink()
    workflow["7"]["inputs"]["filename_prefix"] = "kept_again"
    sampler["inputs"]["batch"] = 2  # anything that runs the node anew
    again = glb_of(server.run(workflow))  # batches differ in the last digits of a color, not in what is there
    counts = [[each["count"] for each in document_of(glb)["accessors"]] for glb in (first, again)]
    assert counts[0] == counts[1]


def test_a_run_interrupted_in_its_second_stage_goes_on(server, family, written):
    workflow = small(api_workflow("genrecon"), family, "whole")
    (sampler,) = nodes_of(workflow, "SightlineChunkSampler")
    sampler["inputs"].update(steps=16, seed=11)
    (key,) = [key for key, node in workflow.items() if node is sampler]
    whole = glb_of(server.run(workflow))

    sampler["inputs"]["resume_as"] = "broken off"
    workflow["7"]["inputs"]["filename_prefix"] = "gone_on"
    asked = []

    def stop_in_the_second_stage(event):
        if event["type"] == "progress" and event["data"]["node"] == key and 1000 < event["data"]["value"] < 2000:
            if not asked:
                asked.append(event["data"]["value"])
                server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(workflow, on_event=stop_in_the_second_stage)
    assert asked and not [path for path in written() if path.suffix == ".glb" and "gone_on" in path.name]
    stages = server.base / "output" / "sightline_scenes" / "broken off"
    left = {path.name for path in stages.iterdir()}
    assert "structure.safetensors" in left and "texture.safetensors" not in left
    kept = (stages / "structure.safetensors").stat().st_mtime_ns
    assert glb_of(server.run(workflow)) == whole
    assert (stages / "structure.safetensors").stat().st_mtime_ns == kept, "the first stage ran again"


@pytest.mark.parametrize(
    ("node", "change", "complaint"),
    [
        ("SightlineScenePhotos", {"capture": "../outside"}, "outside"),
        ("SightlineScenePhotos", {"capture": "not there"}, "There is no folder"),
        ("SightlineChunkPlanner", {"min_points": 1_000_000}, "No chunk holds"),
        ("SightlineChunkPlanner", {"bounds": "1, 2"}, "4 or 6 numbers"),
        ("SightlineChunkSampler", {"resume_as": "a/b"}, "plain name"),
        ("SightlineChunkSampler", {"occupancy": 20.0}, "No chunk has an occupied voxel"),
    ],
)
def test_bad_input_gets_one_sentence(server, family, node, change, complaint):
    workflow = small(api_workflow("genrecon"), family, "bad")
    (given,) = nodes_of(workflow, node)
    given["inputs"].update(change)
    with pytest.raises(headless.Failed) as error:
        server.run(workflow)
    assert complaint in error.value.exception_message and "\n" not in error.value.exception_message.strip()
