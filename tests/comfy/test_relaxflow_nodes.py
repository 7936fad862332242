"""RelaxFlow on this pack's own models, in the real server: both shipped workflows, TRELLIS's nodes, wrong use."""

import numpy as np
import pytest
import trimesh
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from PIL import Image
from trellis1_family import write_trellis1

from sightline.cli import headless
from sightline.scene.splat_files import read_splats

FAMILY = "tiny/pipeline.json"
SAMPLER = {"seed": 42, "steps": 2, "guidance": 6.0, "guidance_start": 1.0, "guidance_end": 0.5, "rescale_t": 3.0,
           "hold_seen": False}  # fmt: skip
PRIOR_NODES = ("SightlineTrellis1Structure", "SightlineTrellis1Latent")


@pytest.fixture(scope="module")
def models(server):
    """The tiny family in the server's models folder."""
    write_trellis1(server.base / "models" / "trellis1" / "tiny")
    options = server.object_info("SightlineTrellis1Loader")["SightlineTrellis1Loader"]["input"]["required"]
    assert FAMILY in options["models"][1]["options"]


def saved(run, suffix):
    return [path for path in run.files if "output" in path.parts and path.suffix == suffix]


def shipped(server, name, form):
    workflow = api_workflow(name) if form == "api" else editor_workflow(name, server.object_info())
    small = {
        "SightlineMeshFinish": {"faces": 300, "remesh": 24},
        "SightlineTextureBake": {"texture_size": 256, "padding": 1},
        "SightlineTrellis1Loader": {"models": FAMILY},
        "SightlineTrellis1Structure": {"steps": 2},
        "SightlineTrellis1Latent": {"steps": 2},
    }
    for kind, inputs in small.items():
        for node in nodes_of(workflow, kind):
            node["inputs"].update(inputs)
    return workflow


@pytest.mark.parametrize("name", ["relaxflow", "relaxflow-trellis"])
def test_both_forms_of_the_shipped_workflow_say_the_same(server, name):
    api, editor = api_workflow(name), editor_workflow(name, server.object_info())
    assert {k: {"class_type": v["class_type"], "inputs": v["inputs"]} for k, v in api.items()} == editor


def test_the_shipped_completion_becomes_a_chair_with_legs(server):
    """The picture shows the upper half; with the priors the mesh reaches as far down as a whole chair."""
    workflow = shipped(server, "relaxflow", "editor")
    run = server.run(workflow)
    (glb,) = saved(run, ".glb")
    mesh = trimesh.load(glb, process=False, force="mesh")
    color = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert len(mesh.faces) > 100 and color.shape == (256, 256, 3) and color.std() > 5
    low, high = mesh.vertices[:, 1].min(), mesh.vertices[:, 1].max()
    assert low < -0.25 and high > 0.25
    (mask,) = nodes_of(workflow, "SightlineVisibilityMask")
    (node,) = [key for key in workflow if workflow[key] is mask]
    (entry,) = run.outputs[node]["images"]
    shown = np.asarray(Image.open(server.base / entry["type"] / entry["subfolder"] / entry["filename"]).convert("RGB"))
    green, red = ((shown[..., a] > 120) & (shown[..., b] < 120) for a, b in ((1, 0), (0, 1)))
    assert green.sum() > 500 and red.sum() > 500


def test_the_shipped_trellis_workflow_makes_a_splat_and_a_mesh(server, models):
    run = server.run(shipped(server, "relaxflow-trellis", "api"))
    (ply,) = saved(run, ".ply")
    assert len(read_splats(ply).check_finite()) > 10
    (glb,) = saved(run, ".glb")
    assert b'"COLOR_0"' in glb.read_bytes() and len(trimesh.load(glb, force="mesh").faces) > 10


def graph(**changes):
    """1 picture, 2 models, 3 tokens, 4 tokens of the prior, 5 structure, 6 latents, 7 splat, 8 saved."""
    nodes = {
        "1": {"class_type": "SightlineExamplePicture", "inputs": {"picture": "relaxflow_half.png"}},
        "2": {"class_type": "SightlineTrellis1Loader",
              "inputs": {"models": FAMILY, "image_encoder": "beside the models"}},
        "3": {"class_type": "SightlineTrellis1Tokens",
              "inputs": {"model": ["2", 0], "image": ["1", 0], "mask": ["1", 1]}},
        "4": {"class_type": "SightlineTrellis1Tokens",
              "inputs": {"model": ["2", 0], "image": ["9", 0], "mask": ["9", 1]}},
        "5": {"class_type": "SightlineTrellis1Structure",
              "inputs": {"model": ["2", 0], "tokens": ["3", 0], **SAMPLER}},
        "6": {"class_type": "SightlineTrellis1Latent",
              "inputs": {"model": ["2", 0], "tokens": ["3", 0], "voxel": ["5", 0], **SAMPLER}},
        "7": {"class_type": "SightlineTrellis1Splat", "inputs": {"model": ["2", 0], "latent": ["6", 0]}},
        "8": {"class_type": "SightlineSaveSplat",
              "inputs": {"splat": ["7", 0], "filename_prefix": "trellis/s", "format": "ply"}},
        "9": {"class_type": "SightlineExamplePicture", "inputs": {"picture": "relaxflow_legs.png"}},
    }  # fmt: skip
    for node, inputs in changes.items():
        nodes[node.removeprefix("n")]["inputs"].update(inputs)
    return nodes


def test_priors_move_the_result_and_a_weight_of_0_does_not(server, models):
    def splats(workflow):
        (ply,) = saved(server.run(workflow), ".ply")
        return read_splats(ply).means

    alone = splats(graph())
    prior = {"prior": ["4", 0]}
    moved = splats(graph(n5=prior, n6=prior))
    settings = api_workflow("relaxflow")["11"]["inputs"] | {"structure_weight": 0.0, "latent_weight": 0.0}
    silent = graph(n5={**prior, "relax": ["10", 0]}, n6={**prior, "relax": ["10", 0]})
    silent["10"] = {"class_type": "SightlineRelaxSettings", "inputs": settings}
    same = splats(silent)
    assert same.shape == alone.shape and np.allclose(same, alone, atol=1e-5)
    assert moved.shape != alone.shape or not np.allclose(moved, alone, atol=1e-3)


CASES = {
    "no mask": (dict(n3={"mask": None}), "needs an alpha channel"),
    "nothing selected": (dict(n3={"mask": ["11", 0]}), "above 80"),
    "two observations": (dict(n3={"before": ["4", 0]}), "of 2 pictures"),
    "guidance": (dict(n5={"guidance_end": 1.0, "guidance_start": 0.2}), "swap them"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_use_is_told_in_one_sentence(server, models, case):
    changes, said = CASES[case]
    workflow = graph(**changes)
    workflow["11"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 512, "height": 512}}
    for node in workflow.values():
        node["inputs"] = {name: value for name, value in node["inputs"].items() if value is not None}
    with pytest.raises(headless.HeadlessError, match=said):
        server.run(workflow)


def test_latents_of_another_model(server, models):
    workflow = graph()
    empty = {"width": 64, "height": 64, "batch_size": 1}
    workflow["12"] = {"class_type": "EmptyLatentImage", "inputs": empty}
    workflow["7"]["inputs"]["latent"] = ["12", 0]
    with pytest.raises(headless.HeadlessError, match="no latent on voxels"):
        server.run(workflow)


def test_the_completion_needs_one_picture_of_a_projecting_family(server):
    workflow = shipped(server, "relaxflow", "api")
    for node in ("13", "14", "15", "16"):
        del workflow[node]
    workflow["17"] = {"class_type": "PreviewImage", "inputs": {"images": ["12", 3]}}
    workflow["18"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 2}}
    workflow["6"]["inputs"]["image"] = ["18", 0]
    workflow["12"]["inputs"].pop("visibility")
    workflow["12"]["inputs"]["condition"] = ["6", 0]
    with pytest.raises(headless.HeadlessError, match="2 objects"):
        server.run(workflow)
