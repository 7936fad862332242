"""SAM 3D's nodes and shipped workflow on a real server, with tiny random weights and core's MoGe."""

import json

import numpy as np
import pytest
import torch
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from inside_comfyui import ask
from PIL import Image
from sam3d_tiny import STEPS, scene, write_family

from sightline.cli import headless
from sightline.models.sam3d.family import load_sam3d
from sightline.pipelines.relaxflow_sam3d import decode, prepare_object, sample_latents, sample_structure
from sightline.scene.point_maps import read_point_map
from sightline.scene.splat_files import read_splats

NAME, TINY = "relaxflow-sam3d", "tiny_sam3d/pipeline.yaml"


@pytest.fixture(scope="module")
def files(server, tmp_path_factory):
    """A tiny family and MoGe in the server's models, and a picture with its mask and point map in its input folder."""
    write_family(server.base / "models" / "sam3d" / "tiny_sam3d")
    found = ask("native_moge.py", server.base)
    image, mask, points = scene()
    folder = tmp_path_factory.mktemp("sam3d")
    for name, picture in (("sam3d_scene.png", image), ("sam3d_mask.png", mask.expand(3, -1, -1))):
        Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / name)
        server.upload(folder / name)
    inputs = server.base / "input"
    np.save(inputs / "sam3d_points.npy", points.permute(1, 2, 0).numpy())
    line = (np.arange(512, dtype=np.float32) + 0.5) / 256 - 1
    wall = np.stack([*np.meshgrid(line, line), np.ones((512, 512), np.float32)], -1)
    np.save(inputs / "sam3d_wall.npy", 2 * wall)
    np.save(inputs / "sam3d_other.npy", points[:, :, :20].permute(1, 2, 0).numpy())
    np.save(inputs / "sam3d_nan.npy", np.full((48, 64, 3), np.nan, np.float32))
    return found


def graph(**changes):
    """The scene with its own point map, without priors; changes: inputs by the node's number."""
    workflow = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sam3d_scene.png"}},
        "2": {"class_type": "LoadImageMask", "inputs": {"image": "sam3d_mask.png", "channel": "red"}},
        "3": {"class_type": "SightlinePointMap", "inputs": {"file": "sam3d_points.npy", "axes": "pytorch3d"}},
        "4": {"class_type": "SightlineSAM3DLoader", "inputs": {"models": TINY}},
        "5": {
            "class_type": "SightlineSAM3DStructure",
            "inputs": {
                "model": ["4", 0], "image": ["1", 0], "mask": ["2", 0], "point_map": ["3", 0], "seed": 3,
                "steps": STEPS, "guidance": 7.0, "rescale_t": 3.0, "distilled": False, "keep": "full",
                "prior_keep": "cropped_and_mask", "tolerance": 1.5, "falloff": 3.0, "dilate": 1.5,
                "outside_hidden": False,
            },
        },
        "6": {
            "class_type": "SightlineSAM3DLatent",
            "inputs": {"model": ["4", 0], "structure": ["5", 0], "seed": 4, "steps": STEPS, "guidance": 1.0,
                       "rescale_t": 1.0},
        },
        "7": {
            "class_type": "SightlineSAM3DSplat",
            "inputs": {"model": ["4", 0], "latent": ["6", 0], "gaussians": "4", "place": "object"},
        },
        "8": {
            "class_type": "SightlineSaveSplat",
            "inputs": {"splat": ["7", 0], "filename_prefix": "sam3d/graph", "format": "ply"},
        },
    }  # fmt: skip
    for number, inputs in changes.items():
        workflow[number.removeprefix("n")]["inputs"].update(inputs)
    return workflow


@pytest.fixture(scope="module")
def moge(server, files):
    """Whether core's MoGe runs here: that of 0.30 takes half precision on the CPU, which torch refuses."""
    workflow = moge_graph()
    workflow["4"]["inputs"] = {"file": "", "axes": "opencv", "moge_geometry": ["3", 0]}
    try:
        server.run(workflow)
    except headless.Failed as error:
        assert "'Half'" in error.exception_message
        return False
    return True


def moge_graph():
    """A picture through core's MoGe to the depth picture of its point map."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "sam3d_scene.png"}},
        "2": {"class_type": "LoadMoGeModel", "inputs": {"model_name": "moge-tiny-wall.safetensors"}},
        "3": {
            "class_type": "MoGeInference",
            "inputs": {"moge_model": ["2", 0], "image": ["1", 0], "resolution_level": 0, "fov_x_degrees": 0.0,
                       "batch_size": 4, "force_projection": False, "apply_mask": True},
        },
        "4": {"class_type": "SightlinePointMap", "inputs": {"file": "", "axes": "opencv", "moge_geometry": ["3", 0]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 1], "filename_prefix": "sam3d/depth"}},
    }  # fmt: skip


def small(workflow, prefix, moge):
    """The shipped workflow with tiny weights and few steps; where MoGe does not run, with the wall from a file."""
    changes = {
        "SightlineSAM3DLoader": {"models": TINY}, "LoadMoGeModel": {"model_name": "moge-tiny-wall.safetensors"},
        "MoGeInference": {"resolution_level": 0}, "SightlineSAM3DStructure": {"steps": STEPS},
        "SightlineSAM3DLatent": {"steps": STEPS}, "SightlineSplatTurntable": {"frames": 3, "width": 64, "height": 64},
        "SightlineSaveSplat": {"filename_prefix": prefix}, "SaveGLB": {"filename_prefix": prefix},
        "SaveAnimatedWEBP": {"filename_prefix": prefix},
    }  # fmt: skip
    for kind, inputs in changes.items():
        (node,) = nodes_of(workflow, kind)
        node["inputs"].update(inputs)
    if not moge:
        (points,) = nodes_of(workflow, "SightlinePointMap")
        points["inputs"] = {"file": "sam3d_wall.npy", "axes": "opencv"}
    return workflow


def saved(run, suffix):
    return [path for path in run.files if "output" in path.parts and path.suffix == suffix]


def test_the_shipped_workflow_writes_splats_and_a_mesh(server, files, moge):
    run = server.run(small(api_workflow(NAME), "sam3d/api", moge))
    (ply,), (glb,), (turn,) = (saved(run, suffix) for suffix in (".ply", ".glb", ".webp"))
    assert turn.stat().st_size > 200
    document = json.loads(glb.read_bytes()[20 : 20 + int.from_bytes(glb.read_bytes()[12:16], "little")])
    assert "COLOR_0" in document["meshes"][0]["primitives"][0]["attributes"]
    assert len(read_splats(ply)) % 32 == 0 and run.outputs["11"]["images"] and run.outputs["8"]["images"]
    with Image.open(server.base / "temp" / run.outputs["11"]["images"][0]["filename"]) as shown:
        colors = np.asarray(shown.convert("RGB")).reshape(-1, 3).astype(int)
    green, red = ((colors[:, a] - colors[:, b] > 60).any() for a, b in ((1, 0), (0, 1)))
    assert green and red, "the preview shows no seen or no hidden voxel"
    editor = server.run(small(editor_workflow(NAME, server.object_info()), "sam3d/editor", moge))
    assert saved(editor, ".ply")[0].read_bytes() == ply.read_bytes()
    assert {k: {"class_type": v["class_type"], "inputs": v["inputs"]} for k, v in api_workflow(NAME).items()} == (
        editor_workflow(NAME, server.object_info())
    )


def test_the_nodes_do_what_the_library_does(server, files):
    (ply,) = saved(server.run(graph()), ".ply")
    family = load_sam3d(server.base / "models" / "sam3d" / "tiny_sam3d")
    with Image.open(server.base / "input" / "sam3d_scene.png") as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
    points = read_point_map(server.base / "input" / "sam3d_points.npy", "pytorch3d")
    given = prepare_object(image, scene()[1], points)
    structure = sample_structure(family, given, seed=3)
    splats = decode(family, sample_latents(family, given, structure, seed=4), "gaussian_4")
    found = read_splats(ply)
    assert len(found) == len(splats)
    assert np.allclose(found.scales.sort(0)[0], splats.scales.sort(0)[0], rtol=1e-3, atol=1e-5)
    distances = [np.sort(np.linalg.norm(one.means.numpy(), axis=1)) for one in (found, splats)]
    assert np.allclose(*distances, atol=1e-4)


def test_in_the_scene_the_splats_stand_before_the_camera(server, files):
    alone, placed = (
        read_splats(saved(server.run(graph(n7={"place": place})), ".ply")[0]) for place in ("object", "scene")
    )
    ratio = placed.scales.mean() / alone.scales.mean()
    spread = placed.means.std(0).norm() / alone.means.std(0).norm()
    assert ratio == pytest.approx(float(spread), rel=1e-3) and abs(float(ratio) - 1) > 1e-3


def test_moge_sees_the_wall(server, files, moge):
    """The point map of core's MoGe has our axes: the depth picture of a slanted file is known, a wall is flat."""
    if not moge:
        pytest.skip("core's MoGe of this version needs a GPU: half precision on the CPU")
    workflow = moge_graph()
    (flat,) = saved(server.run(workflow), ".png")
    assert np.ptp(np.asarray(Image.open(flat)).astype(int)) <= 230 and np.asarray(Image.open(flat)).shape == (48, 64, 3)
    workflow["4"]["inputs"] = {"file": "sam3d_points.npy", "axes": "pytorch3d"}
    (ball,) = saved(server.run(workflow), ".png")
    depth = np.asarray(Image.open(ball).convert("L")).astype(int)
    assert depth[24, 32] > 200 > depth[2, 2] > 10, "the ball is nearer than the wall"


PRIORS = {"priors": ["1", 0]}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"n3": {"file": "sam3d_other.npy"}}, "20 x 48, the picture 64 x 48"),
        ({"n3": {"file": "sam3d_nan.npy"}}, "knows no point"),
        ({"n3": {"file": "gone.npy"}}, "There is no file 'gone.npy'"),
        ({"n3": {"file": "../models/sam3d/tiny_sam3d/pipeline.yaml"}}, "outside the allowed folders"),
        ({"n3": {"file": ""}}, "connect core's Run MoGe Inference"),
        ({"n3": {"image": ["1", 0]}}, "comes from one place"),
        ({"n5": {"mask": ["9", 0]}}, "mask is empty"),
        ({"n5": {"mask": ["10", 0]}}, "selects the whole picture"),
        ({"n5": PRIORS | {"prior_masks": ["9", 0]}}, "Prior 1: The mask is empty"),
        ({"n7": {"latent": ["11", 0]}}, "no latent on voxels"),
    ],
)
def test_bad_input_gets_one_sentence(server, files, changes, complaint):
    workflow = graph(**changes)
    for number, value in (("9", 0.0), ("10", 1.0)):
        workflow[number] = {"class_type": "SolidMask", "inputs": {"value": value, "width": 64, "height": 48}}
    workflow["11"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    with pytest.raises(headless.Failed) as error:
        server.run(workflow)
    assert complaint in error.value.exception_message and "\n" not in error.value.exception_message.strip()


def test_a_run_without_point_map_and_with_few_steps(server, files):
    workflow = graph(n5={"distilled": True, "steps": 2})
    del workflow["5"]["inputs"]["point_map"], workflow["3"]
    assert saved(server.run(workflow), ".ply")


@pytest.mark.parametrize("node", ["5", "6"])
def test_an_interrupt_stops_a_stage_and_leaves_the_server_usable(server, files, written, node):
    workflow = graph(**{f"n{node}": {"steps": 1000, "seed": 77}})
    seen = []

    def stop(event):
        if event["type"] == "progress" and event["data"]["node"] == node:
            seen.append(event["data"]["value"])
            if len(seen) == 2:
                server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(workflow, on_event=stop)
    assert 0 < max(seen) < 1000 and written() == []
    run = server.run(graph(n8={"filename_prefix": f"sam3d/after_{node}"}))
    assert saved(run, ".ply") and "4" in run.cached
