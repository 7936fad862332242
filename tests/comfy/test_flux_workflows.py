"""The SeeThrough3D workflows on a real server: core's loaders, our nodes, core's sampler, with a tiny random FLUX."""

import json

import numpy as np
import pytest
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from PIL import Image

from sightline.cli import headless

TINY = "seethrough3d-tiny"


@pytest.fixture(scope="module")
def files(server, core_flux) -> dict:
    """The tiny FLUX in the server's model folders."""
    return core_flux.ask("files", models=str(server.base / "models"))["files"]


def picture(run) -> np.ndarray:
    (path,) = [p for p in run.files if "output" in p.parts and p.suffix == ".png"]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def test_the_tiny_workflow_gives_a_picture_and_is_then_cached(server, files):
    workflow = api_workflow(TINY)
    run = server.run(workflow)
    found = picture(run)
    size = nodes_of(workflow, "SightlineFluxSigmas")[0]["inputs"]
    assert found.shape == (size["height"], size["width"], 3) and found.std() > 1
    assert server.run(workflow).cached == set(workflow)


def test_the_editor_form_gives_the_same_picture(server, files):
    api, edited = api_workflow(TINY), editor_workflow(TINY, server.object_info())
    assert np.array_equal(picture(server.run(api)), picture(server.run(edited)))


def test_the_layout_matters_and_strength_0_without_layout_is_the_base(server, files):
    def run(change):
        workflow = api_workflow(TINY)
        change(workflow)
        return picture(server.run(workflow))

    def other_words(workflow):
        scene = json.loads(nodes_of(workflow, "SightlineLayoutEditor")[0]["inputs"]["scene"])
        scene["objects"][0]["prompt"] = "a giraffe"
        nodes_of(workflow, "SightlineLayoutEditor")[0]["inputs"]["scene"] = json.dumps(scene)

    def plain(strength):
        def change(workflow):
            (sampled,) = nodes_of(workflow, "BasicGuider")
            workflow["20"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["3", 0], "text": "a dog"}}
            sampled["inputs"]["conditioning"] = ["20", 0]
            if strength is None:
                sampled["inputs"]["model"] = ["2", 0]
            else:
                nodes_of(workflow, "SightlineOcclusionLoraLoader")[0]["inputs"]["strength"] = strength

        return change

    drawn = run(lambda workflow: None)
    assert np.abs(run(other_words) - drawn).max() > 0
    base = run(plain(None))
    assert np.array_equal(run(plain(0.0)), base) and np.array_equal(run(plain(1.0)), base)


def test_the_shipped_workflow_has_the_same_graph(server, files):
    """With its files and sizes replaced it is the tiny one."""
    full, tiny = api_workflow("seethrough3d"), api_workflow(TINY)
    assert set(full) == set(tiny)
    for key, node in full.items():
        assert node["class_type"] == tiny[key]["class_type"]
        different = {name for name, value in node["inputs"].items() if value != tiny[key]["inputs"][name]}
        assert different <= {"unet_name", "clip_name1", "clip_name2", "vae_name", "lora_name", "steps", "width",
                             "height", "filename_prefix"}  # fmt: skip
    edited = editor_workflow("seethrough3d", server.object_info())
    assert {key: node["inputs"] for key, node in edited.items()} == {k: n["inputs"] for k, n in full.items()}


@pytest.mark.parametrize(
    "inputs, said",
    [
        ({"prompt": None, "subjects": "a chair " * 600}, "FLUX reads 512"),
        ({"prompt": None, "subjects": "one"}, "the prompt 1 descriptions"),
    ],
)
def test_bad_input_is_one_sentence(server, files, written, inputs, said):
    workflow = api_workflow(TINY)
    (node,) = nodes_of(workflow, "SightlineOcclusionConditioning")
    node["inputs"] = {name: value for name, value in (node["inputs"] | inputs).items() if value is not None}
    if inputs["subjects"] != "one":
        node["inputs"]["masks"] = ["21", 0]
        workflow["21"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
    with pytest.raises(headless.Failed) as caught:
        server.run(workflow)
    assert said in caught.value.exception_message and "\n" not in caught.value.exception_message.strip()
    assert written() == []
