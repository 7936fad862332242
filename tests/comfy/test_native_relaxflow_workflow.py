"""The RelaxFlow workflow on core's own Pixal3D, on a real server: core's loaders read a tiny random model."""

import numpy as np
import pytest
import trimesh
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from inside_comfyui import ask
from native_pixal3d_files import FILES

NAME = "relaxflow-native"


@pytest.fixture(scope="module")
def files(server):
    """Tiny files in the server's model folders under the names that the workflow has; skips before 0.33."""
    yield ask("native_pixal3d_files.py", server.base)["files"]
    for folder, name in FILES.items():
        (server.base / "models" / folder / name).unlink()


def completed(server, change=lambda workflow: None):
    workflow = api_workflow(NAME)
    for node in nodes_of(workflow, "BasicScheduler"):
        node["inputs"]["steps"] = 2
    for node in nodes_of(workflow, "SightlineMeshFinish"):
        node["inputs"]["faces"] = 2000
    change(workflow)
    run = server.run(workflow)
    (glb,) = (path for path in run.files if "output" in path.parts and path.suffix == ".glb")
    return run, trimesh.load(glb, process=False, force="mesh")


def test_both_forms_say_the_same(server, files):
    api, editor = api_workflow(NAME), editor_workflow(NAME, server.object_info())
    for node in nodes_of(editor, "Preview3D"):
        assert node["inputs"]["model_file"] == [key for key, n in api.items() if "GLBBake" in n["class_type"]] + [0]
    assert {k: {"class_type": v["class_type"], "inputs": v["inputs"]} for k, v in api.items()} == editor


def test_the_whole_graph_runs_and_the_mask_acts_on_the_shape_alone(server, files):
    run, mesh = completed(server)
    assert len(mesh.faces) > 10 and np.isfinite(mesh.vertices).all() and np.abs(mesh.vertices).max() < 0.6
    assert run.outputs["22"]["images"], "no preview of what is seen"
    other_run, other = completed(server, lambda workflow: workflow["22"]["inputs"].pop("occluder"))
    assert other.vertices.shape != mesh.vertices.shape or not np.allclose(other.vertices, mesh.vertices)
    assert {"20", "21"} <= other_run.cached and {"22", "32", "34"}.isdisjoint(other_run.cached)
