"""The stage nodes on tiny random families, in the real server: against the library, bad input, interrupt."""

import math

import numpy as np
import pytest
import torch
import trimesh
from comfy_graphs import api_workflow, editor_workflow, nodes_of, previews
from PIL import Image
from safetensors.torch import load_file
from trellis2_family import DINO, ENCODER, graph, sampler, write_models

from sightline.cli import headless
from sightline.models.trellis2.cascade import load_cascade
from sightline.models.trellis2.dinov3 import load_dinov3
from sightline.models.trellis2.image_condition import FrontCamera, Pictures, projected_condition, token_condition
from sightline.models.trellis2.latents import Latents, decode_latents
from sightline.models.trellis2.naf import NafConfig, load_naf
from sightline.models.trellis2.runner import Runner
from sightline.models.trellis2.safetensors_file import SafetensorsFile
from sightline.models.trellis2.stages import quantize_floor, quantize_round

OPTIONS = {"steps": 2, "guidance_strength": 7.5, "guidance_rescale": 0.5, "guidance_interval": (0.6, 1.0),
           "rescale_t": 3.0}  # fmt: skip
SETTINGS = {
    "sparse_structure_sampler": OPTIONS,
    "shape_slat_sampler": OPTIONS,
    "tex_slat_sampler": {**OPTIONS, "guidance_strength": 1.0},
}
VIEWS = ["pixal3d_alpha.png", "pixal3d_alpha_right.png", "pixal3d_alpha_back.png", "pixal3d_alpha_left.png"]
SHIPPED = {"pixal3d": "pipeline.json", "pixal3d-multiview": "pipeline_mv.json"}


def object_picture(seed=0, size=96):
    """uint8 [size, size, 3]: a colored disk on black."""
    generator = np.random.default_rng(seed)
    line = np.arange(size) - (size - 1) / 2
    inside = line[:, None] ** 2 + line[None] ** 2 < (size / 2.4) ** 2
    return generator.integers(32, 256, (size, size, 3), dtype=np.uint8) * inside[..., None].astype(np.uint8)


@pytest.fixture(scope="module")
def models(server, tmp_path_factory):
    """The server's models folder with the tiny families in it."""
    write_models(server.base / "models")
    folder = tmp_path_factory.mktemp("pictures")
    for name, picture in (("pixal3d_test.png", object_picture()), ("pixal3d_empty.png", object_picture() * 0)):
        Image.fromarray(picture).save(folder / name)
        server.upload(folder / name)
    alpha = (object_picture().max(axis=2, keepdims=True) > 0).astype(np.uint8) * 255
    for seed, name in enumerate(VIEWS):
        on_white = np.where(alpha > 0, object_picture(seed), np.uint8(255))
        Image.fromarray(np.concatenate([on_white, alpha], axis=2)).save(folder / name)
        server.upload(folder / name)
    loader = server.object_info("SightlineTrellis2Loader")["SightlineTrellis2Loader"]
    assert "tiny_pixal3d/pipeline.json" in loader["input"]["required"]["models"][1]["options"]
    return server.base / "models"


@pytest.fixture(scope="module")
def colored_voxels(server, models):
    """Skips where the host has no VOXEL with colors."""
    if "BakeTextureFromVoxel" not in server.object_info():
        pytest.skip("this ComfyUI has no voxels with colors (0.33 has)")


def library_mesh(models, family, resolution):
    """What the library makes of the same picture with the nodes' seeds: one for each stage."""
    cascade = load_cascade(models / "trellis2" / family)
    file = SafetensorsFile(models / "clip_vision" / ENCODER)
    from trellis2_family import NAF

    cascade.image_encoder = load_dinov3({k: file[k] for k in file if not k.startswith("naf.")}, DINO)
    naf = load_naf({k[4:]: file[k] for k in file if k.startswith("naf.")}, NafConfig(**NAF))
    views, camera = Pictures(cascade.image_encoder, object_picture()), FrontCamera(math.radians(35.0))
    projected = family == "tiny_pixal3d"

    def condition(name, large, grid=None, coords=None):
        if not projected:
            return token_condition(views, 96 if large else 64)
        stage = cascade.config.stage(name)
        from dataclasses import replace

        stage = replace(stage, grid_resolution=grid or stage.grid_resolution)
        return projected_condition(views, stage, camera, None if coords is None else coords[:, 1:], naf)

    coords = Runner(cascade, 42, SETTINGS).structure(condition("ss", False), 32)
    run = Runner(cascade, 42, SETTINGS)
    shape = run.shape("512", coords, condition("shape_512", False, 8, coords))
    size, reached = "512", 32
    if resolution > 32:
        quantize = quantize_round if projected else quantize_floor
        coords, reached = run.refine(shape, resolution, quantize, 49152)
        size = "1024"
        shape = run.shape("1024", coords, condition("shape_1024", True, reached // 4, coords))
    run = Runner(cascade, 42, SETTINGS)
    cond = condition(f"tex_{size}", size == "1024", reached // 4, shape.coords)
    texture = run.texture(size, shape, cond)
    return decode_latents(cascade, Latents(coords, None, shape, texture, reached))


def saved_mesh(run):
    return trimesh.load(next(p for p in run.files if p.suffix == ".glb"), process=False, force="mesh")


@pytest.mark.parametrize(
    "family, resolution, side",
    [("tiny_pixal3d", "1024", 64), ("tiny_pixal3d", "512", 32), ("tiny_trellis2", "1024", 64)],
)
def test_from_picture_to_mesh_as_the_library(server, models, colored_voxels, family, resolution, side):
    mesh = saved_mesh(server.run(graph(family, resolution=resolution)))
    with torch.no_grad():
        expected = library_mesh(models, family, side)
    points = expected.vertices
    if family == "tiny_trellis2":  # Z up; GLB is Y up
        points = torch.stack([points[:, 0], points[:, 2], -points[:, 1]], dim=1)
    assert len(mesh.faces) == len(expected.faces) > 20
    ours = np.asarray(mesh.triangles).reshape(-1, 9)
    theirs = points[expected.faces.long()].reshape(-1, 9).numpy()
    assert np.abs(ours - theirs).max() < 2e-3


def small(workflow: dict, name: str) -> dict:
    """The shipped workflow with the tiny family, two steps, small pictures and a small texture."""
    for picture, node in zip(VIEWS, nodes_of(workflow, "LoadImage")):
        node["inputs"]["image"] = picture
    tiny = {
        "SightlineTrellis2Loader": {"models": f"tiny_pixal3d/{SHIPPED[name]}", "image_encoder": ENCODER},
        "SightlineSparseStructureSampler": {"steps": 2},
        "SightlineShapeSampler": {"steps": 2},
        "SightlineTextureSampler": {"steps": 2},
        "SightlineMeshFinish": {"faces": 200},
        "SightlineTextureBake": {"texture_size": 256, "padding": 1},
    }
    for kind, inputs in tiny.items():
        (node,) = nodes_of(workflow, kind)
        node["inputs"].update(inputs)
    return workflow


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("form", ["api", "editor"])
def test_shipped_workflow_makes_a_textured_mesh(server, models, form, name):
    shipped = api_workflow(name) if form == "api" else editor_workflow(name, server.object_info())
    run = server.run(small(shipped, name))
    mesh = saved_mesh(run)
    assert len(mesh.faces) > 20 and mesh.visual.uv is not None
    color = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    assert color.shape == (256, 256, 3) and color.std() > 5


@pytest.mark.parametrize("name", SHIPPED)
def test_both_forms_of_the_shipped_workflow_say_the_same(server, name):
    api, editor = api_workflow(name), editor_workflow(name, server.object_info())
    assert {k: {"class_type": v["class_type"], "inputs": v["inputs"]} for k, v in api.items()} == editor


def test_shipped_views_are_on_black_and_every_picture_counts(server, models, colored_voxels):
    workflow = small(api_workflow("pixal3d-multiview"), "pixal3d-multiview")
    (views,), pictures = nodes_of(workflow, "SightlineViewSet"), nodes_of(workflow, "LoadImage")
    assert pictures[0]["inputs"]["image"] != pictures[3]["inputs"]["image"]
    run = server.run(workflow)
    (shown,) = [run.outputs[node]["images"] for node in workflow if workflow[node] is views]
    assert len(shown) == len(pictures) == 4
    for one in shown:
        picture = np.asarray(Image.open(server.base / one["type"] / one["subfolder"] / one["filename"]).convert("RGB"))
        assert picture[[0, 0, -1, -1], [0, -1, 0, -1]].max() == 0 and picture.max() > 200
    first = saved_mesh(run)
    pictures[3]["inputs"]["image"] = VIEWS[0]
    changed = saved_mesh(server.run(workflow))
    same = first.vertices.shape == changed.vertices.shape and np.allclose(first.vertices, changed.vertices, atol=1e-4)
    assert not same


def test_core_nodes_take_voxels_and_mesh(server, models, colored_voxels):
    workflow = graph(resolution="512")
    workflow["9"] = {"class_type": "VoxelToMeshBasic", "inputs": {"voxel": ["4", 0], "threshold": 0.5}}
    workflow["11"] = {"class_type": "SaveGLB", "inputs": {"mesh": ["9", 0], "filename_prefix": "pixal3d/voxels"}}
    workflow["12"] = {"class_type": "SaveGLB", "inputs": {"mesh": ["10", 0], "filename_prefix": "pixal3d/painted"}}
    workflow["10"] = {"class_type": "PaintMesh", "inputs": {"mesh": ["7", 0], "voxel_colors": ["7", 1]}}
    run = server.run(workflow)
    painted = next(p for p in run.files if "painted" in p.name)
    assert b'"COLOR_0"' in painted.read_bytes()


def test_a_batch_is_its_objects_alone(server, models, colored_voxels):
    workflow = graph(resolution="512")
    workflow["9"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 2}}
    alone = saved_mesh(server.run(workflow | {"3": workflow["3"]}))
    workflow["3"]["inputs"]["image"] = ["9", 0]
    files = [p for p in server.run(workflow).files if p.suffix == ".glb"]
    assert len(files) == 2
    for file in files:
        mesh = trimesh.load(file, process=False, force="mesh")
        assert np.allclose(np.asarray(mesh.triangles), np.asarray(alone.triangles), atol=1e-4)


def test_encoders_as_published_give_the_same(server, models):
    workflow = graph(resolution="512")
    for node in ("6", "7", "8"):
        del workflow[node]
    workflow["10"] = {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "pixal3d/encoder"}}

    def saved():
        (entry,) = server.run(workflow).outputs["10"]["latents"]
        return load_file(str(server.base / "output" / entry["subfolder"] / entry["filename"]))["latent_tensor"]

    one = saved()
    workflow["2"]["inputs"]["image_encoder"] = "beside the models"
    other = saved()
    assert one.std() > 0.1 and torch.allclose(one, other, atol=1e-5)


def test_posed_views(server, models):
    workflow = graph(resolution="512")
    views = {"images.image0": ["1", 0], "images.image1": ["1", 0], "azimuths": "0, 90", "elevations": "0",
             "fit": "pad", "radius": 1.6, "fov": 35.0}  # fmt: skip
    workflow["9"] = {"class_type": "SightlineViewSet", "inputs": views}
    del workflow["3"]["inputs"]["image"]
    workflow["3"]["inputs"]["views"] = ["9", 0]
    for node in ("6", "7", "8"):
        del workflow[node]
    workflow["10"] = {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "pixal3d/views"}}
    assert server.run(workflow).outputs["10"]


@pytest.mark.parametrize("family", ["tiny_pixal3d", "tiny_trellis2"])
def test_structure_is_shown_while_it_samples(server, models, family):
    workflow = graph(family)
    workflow["4"]["inputs"].update(steps=8, seed=6)
    for node in ("5", "6", "7", "8"):
        del workflow[node]
    workflow["10"] = {"class_type": "SaveLatent", "inputs": {"samples": ["4", 1], "filename_prefix": "pixal3d/shown"}}
    pictures = previews(server, workflow)
    assert pictures and all(picture.width == picture.height for picture in pictures)
    assert np.asarray(pictures[0]).std() > 5


def test_one_pass_at_the_high_resolution(server, models):
    workflow = graph("tiny_trellis2", resolution="1024")
    workflow["4"]["inputs"]["resolution"] = "1024"
    for node in ("6", "7", "8"):
        del workflow[node]
    workflow["10"] = {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "pixal3d/direct"}}
    (entry,) = server.run(workflow).outputs["10"]["latents"]
    latent = load_file(str(server.base / "output" / entry["subfolder"] / entry["filename"]))["latent_tensor"]

    cascade = load_cascade(models / "trellis2" / "tiny_trellis2")
    file = SafetensorsFile(models / "clip_vision" / ENCODER)
    cascade.image_encoder = load_dinov3({k: file[k] for k in file if not k.startswith("naf.")}, DINO)
    views = Pictures(cascade.image_encoder, object_picture())
    small, large = (token_condition(views, size) for size in cascade.config.token_image_sizes)
    high = 2 * cascade.config.lr_resolution
    coords = Runner(cascade, 42, SETTINGS).structure(small, high)
    expected = Runner(cascade, 42, SETTINGS).shape("1024", coords, large)
    wanted = cascade.config.shape_normalization.normalize(expected.feats)
    assert torch.allclose(latent[0, :, :, 0].T, wanted, atol=1e-4)

    workflow["5"]["inputs"]["resolution"] = "1536"
    with pytest.raises(headless.HeadlessError, match="set both alike"):
        server.run(workflow)


def test_a_new_material_for_a_mesh(server, models, tmp_path):
    ball = trimesh.creation.icosphere(2, 0.7)
    ball.export(tmp_path / "ball.glb")
    server.upload(tmp_path / "ball.glb")
    workflow = graph("tiny_trellis2")
    workflow["2"]["inputs"]["models"] = "tiny_trellis2/texturing_pipeline.json"
    for node in "45678":
        del workflow[node]
    workflow["5"] = {"class_type": "SightlineLoadMesh", "inputs": {"file": "ball.glb"}}
    workflow["6"] = sampler("SightlineTextureMesh", "2", "3", mesh=["5", 0], resolution="512", texture_size=64)
    workflow["7"] = {"class_type": "SaveGLB", "inputs": {"mesh": ["6", 0], "filename_prefix": "texture/ball"}}
    mesh = saved_mesh(server.run(workflow))
    points = {tuple(p) for p in np.asarray(ball.vertices, np.float32).round(5).tolist()}
    assert {tuple(p) for p in np.asarray(mesh.vertices, np.float32).round(5).tolist()} == points
    assert np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).std() > 5
    workflow["2"]["inputs"]["models"] = "tiny_pixal3d/pipeline.json"
    with pytest.raises(headless.HeadlessError, match="paints only what it made itself"):
        server.run(workflow)


def test_interrupt_between_steps(server, models, written):
    workflow = graph()
    workflow["5"]["inputs"].update(steps=1000, seed=5)
    asked = []

    def interrupt(event):
        if event["type"] == "progress" and event["data"]["node"] == "5" and not asked:
            asked.append(event)
            server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(workflow, on_event=interrupt)
    assert asked and written() == []


@pytest.mark.parametrize(
    "change, said",
    [
        ({"1": {"image": "pixal3d_empty.png"}}, "black or transparent everywhere"),
        ({"2": {"image_encoder": "without_naf.safetensors"}}, "loaded without NAF"),
        ({"4": {"guidance_end": 0.9, "guidance_start": 0.5}}, "swap them"),
        ({"6": {"model": ["9", 0]}}, "was made by Pixal3D and `model` is TRELLIS.2"),
        ({"6": {"shape": ["4", 1]}}, "no latent on voxels"),
        ({"5": {"voxel": ["7", 1]}}, "the voxels of a structure"),
        ({"3": {"views": ["10", 0]}}, "either `image` or `views`"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(server, models, colored_voxels, change, said):
    workflow = graph(resolution="512")
    workflow["9"] = {
        "class_type": "SightlineTrellis2Loader",
        "inputs": {"models": "tiny_trellis2/pipeline.json", "image_encoder": ENCODER},
    }
    views = {"images.image0": ["1", 0], "azimuths": "0", "elevations": "0", "fit": "pad", "radius": 1.6, "fov": 35.0}
    workflow["10"] = {"class_type": "SightlineViewSet", "inputs": views}
    if "5" in change:  # the decoder's voxels, of a run of its own
        workflow["11"] = sampler("SightlineShapeSampler", "2", "3", voxel=["7", 1], resolution="512", max_tokens=49152)
        workflow["12"] = {"class_type": "SaveLatent", "inputs": {"samples": ["11", 0], "filename_prefix": "never"}}
        change = {}
    for node, inputs in change.items():
        workflow[node]["inputs"].update(inputs)
    with pytest.raises(headless.HeadlessError, match=said):
        server.run(workflow)
