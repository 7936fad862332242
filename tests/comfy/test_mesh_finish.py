"""The mesh finishing workflow on a real server, on meshes that others made, and what its nodes refuse."""

import copy
import io

import numpy as np
import pytest
from comfy_graphs import api_workflow, editor_workflow, nodes_of
from gltf_validation import check_glb

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
pytest.importorskip("xatlas", reason="xatlas is not installed")
pytest.importorskip("fast_simplification", reason="fast-simplification is not installed")


def annulus():
    """From trimesh's own shapes: a closed body with sharp edges and a hole through it."""
    return trimesh.creation.annulus(r_min=0.2, r_max=0.4, height=0.3, sections=48).subdivide()


def isosurface():
    """Marching cubes of two balls that melt together."""
    measure = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    grid = np.mgrid[-1:1:40j, -1:1:40j, -1:1:40j]
    field = sum(1 / ((grid - np.reshape(c, (3, 1, 1, 1))) ** 2).sum(0) for c in ([0.35, 0, 0], [-0.35, 0.1, 0]))
    vertices, faces, *_ = measure.marching_cubes(field, 6.0)
    return trimesh.Trimesh(vertices / 40 - 0.5, faces, process=False)


def torn():
    """A ball without welds, with holes and with faces turned inside out."""
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    rng = np.random.default_rng(0)
    faces = ball.faces[rng.random(len(ball.faces)) > 0.02]
    turned = rng.random(len(faces)) < 0.3
    faces[turned] = faces[turned][:, ::-1]
    return trimesh.Trimesh(ball.vertices[faces].reshape(-1, 3), np.arange(faces.size).reshape(-1, 3), process=False)


def painted(mesh):
    colors = np.clip(mesh.vertices + 0.5, 0, 1) * 255
    mesh.visual = trimesh.visual.ColorVisuals(
        mesh, vertex_colors=np.c_[colors, np.full(len(colors), 255)].astype(np.uint8)
    )
    return mesh


def small(workflow, prefix, texture=128):
    for node in nodes_of(workflow, "SightlineTextureBake"):
        node["inputs"]["texture_size"] = texture
    for node in nodes_of(workflow, "SightlineGLBBake"):
        node["inputs"]["filename_prefix"] = f"finish/{prefix}"
    return workflow


def glb_of(run):
    (path,) = [p for p in run.files if p.suffix == ".glb" and "finish" in p.parts]
    return path.read_bytes()


def check_finished(data, faces):
    check_glb(data)
    mesh = trimesh.load(io.BytesIO(data), file_type="glb", process=False).to_geometry()
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces)
    # closed and of one winding: every edge is walked as often forth as back (also where parts touch at an edge)
    corner = welded.faces.astype(np.int64)
    a, b = corner.reshape(-1), corner[:, [1, 2, 0]].reshape(-1)
    forth, back = np.sort(a * len(welded.vertices) + b), np.sort(b * len(welded.vertices) + a)
    assert np.array_equal(forth, back) and welded.volume > 0
    assert 0.5 * faces <= len(mesh.faces) <= faces
    picture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")).astype(int)
    assert picture.max(-1).min() > 10, "a texel is black"
    return mesh, picture


@pytest.mark.parametrize("make", [annulus, isosurface, torn])
def test_meshes_of_others_come_out_closed_painted_and_valid(server, make):
    given = painted(make())
    folder = server.base / "input" / "3d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{make.__name__}.ply").write_bytes(given.export(file_type="ply"))
    workflow = small(api_workflow("mesh-finish"), make.__name__)
    workflow["1"]["inputs"]["file"] = f"3d/{make.__name__}.ply"
    workflow["2"]["inputs"]["faces"] = 2000
    mesh, picture = check_finished(glb_of(server.run(workflow)), 2000)
    uv = mesh.visual.uv
    size = len(picture)
    column, row = (uv[:, 0] * size).astype(int).clip(0, size - 1), ((1 - uv[:, 1]) * size).astype(int).clip(0, size - 1)
    error = np.abs(picture[row, column] / 255 - np.clip(mesh.vertices + 0.5, 0, 1))
    assert error.mean() < 0.02


def test_the_shipped_workflow_and_the_editors_give_the_same(server):
    api = server.run(small(api_workflow("mesh-finish"), "api"))
    check_finished(glb_of(api), 3000)
    editor = server.run(small(editor_workflow("mesh-finish", server.object_info()), "editor"))
    assert glb_of(editor) == glb_of(api)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"1": {"file": "none"}}, "Choose a `file`"),
        ({"3": {"reference": None}}, "Connect `voxel` or `reference`"),
    ],
)
def test_what_is_refused_is_said_in_one_sentence(server, change, text):
    workflow = small(copy.deepcopy(api_workflow("mesh-finish")), "refused")
    for node, inputs in change.items():
        workflow[node]["inputs"].update(inputs)
        workflow[node]["inputs"] = {k: v for k, v in workflow[node]["inputs"].items() if v is not None}
    with pytest.raises(Exception, match=text):
        server.run(workflow)
