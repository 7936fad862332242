import json
import struct

import numpy as np
import pytest
import torch

from sightline.scene.errors import InputError
from sightline.scene.mesh_files import encode_mesh, used_vertices
from sightline.scene.srgb import linear

trimesh = pytest.importorskip("trimesh", reason="meshes are written with trimesh, which is not installed")

VERTICES = torch.tensor([[9.0, 9, 9], [0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])  # the first one is used by no face
FACES = torch.tensor([[1, 3, 2], [1, 2, 4], [1, 4, 3], [2, 3, 4]], dtype=torch.int32)
COLORS = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0, 0], [0, 0.5, 0], [0, 0, 0.02], [2.0, -1, 0.7]])


def glb(data):
    """JSON and accessors of a GLB."""
    magic, version, length, size, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    tree = json.loads(data[20 : 20 + size])
    binary = data[28 + size :]

    def read(index):
        accessor = tree["accessors"][index]
        view = tree["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        kind = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        return np.frombuffer(binary, kind, accessor["count"] * width, start).reshape(-1, width)

    return tree, read


def test_a_glb_holds_positions_faces_linear_colors_and_a_material():
    tree, read = glb(encode_mesh(VERTICES, FACES, COLORS, "a.glb", metallic=0.25, roughness=0.75))
    [primitive] = tree["meshes"][0]["primitives"]
    np.testing.assert_array_equal(read(primitive["attributes"]["POSITION"]), VERTICES[1:].numpy())
    np.testing.assert_array_equal(read(primitive["indices"]).reshape(-1, 3), FACES.numpy() - 1)
    expected = linear(COLORS[1:].clamp(0, 1)) * 255
    colors = read(primitive["attributes"]["COLOR_0"])
    np.testing.assert_allclose(colors[:, :3], expected.numpy(), atol=0.51)
    assert (colors[:, 3] == 255).all() and colors[1, 1] == 55  # half bright to the eye is a fifth of the light
    normals = read(primitive["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    material = tree["materials"][primitive["material"]]
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.25, "roughnessFactor": 0.75}
    assert material["doubleSided"] is True
    assert "matrix" not in tree["nodes"][0]


def test_a_ply_holds_the_colors_as_seen(tmp_path):
    (tmp_path / "a.ply").write_bytes(encode_mesh(VERTICES, FACES, COLORS, tmp_path / "A.PLY"))
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_array_equal(mesh.vertices, VERTICES[1:].numpy())
    np.testing.assert_array_equal(mesh.faces, FACES.numpy() - 1)
    assert mesh.visual.vertex_colors[:, :3].tolist() == [[255, 0, 0], [0, 128, 0], [0, 0, 5], [255, 0, 178]]


def test_vertices_in_use():
    faces, used = used_vertices(torch.tensor([[7, 2, 4]]), 9)
    assert faces.tolist() == [[2, 0, 1]] and used.tolist() == [2, 4, 7]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"path": "a.obj"}, "does not end in .glb or .ply"),
        ({"faces": FACES[:0]}, "no face"),
        ({"vertices": VERTICES * torch.nan}, "not finite"),
        ({"colors": COLORS / 0}, "not finite"),
    ],
)
def test_what_cannot_be_written(changes, says):
    with pytest.raises(InputError, match=says):
        encode_mesh(**{"vertices": VERTICES, "faces": FACES, "colors": COLORS, "path": "a.glb", **changes})
