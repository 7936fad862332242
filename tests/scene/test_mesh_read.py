"""Meshes from files of other programs."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.scene.errors import InputError
from sightline.scene.gltf import Material, Part, encode_glb
from sightline.scene.mesh_files import encode_mesh, encode_obj, part_vertex_colors
from sightline.scene.mesh_read import decode_mesh, read_mesh
from sightline.scene.voxel_files import read_voxels

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UV = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])


def textured() -> Part:
    g = torch.Generator().manual_seed(0)
    bytes_ = torch.randint(0, 256, (4, 6, 4), generator=g)
    material = Material(
        "Skin", bytes_ / 255, torch.randint(0, 256, (4, 4, 2), generator=g) / 255, alpha_mode="MASK", alpha_cutoff=0.3,
        metallic_factor=0.5, roughness_factor=0.7, double_sided=False,
    )  # fmt: skip
    return Part(VERTICES, FACES, material, "Plate", uv=UV)


def test_a_glb_comes_back_with_its_material():
    given = textured()
    part = decode_mesh(encode_glb([given]), "glb")
    assert torch.equal(part.vertices, VERTICES) and torch.equal(part.faces, FACES) and torch.allclose(part.uv, UV)
    found, wanted = part.material, given.material
    assert (found.name, found.alpha_mode, found.double_sided) == ("Skin", "MASK", False)
    assert (found.metallic_factor, found.roughness_factor) == (0.5, 0.7) and abs(found.alpha_cutoff - 0.3) < 1e-6
    assert torch.equal(found.base_color, (wanted.base_color * 255).round().byte())
    assert torch.equal(found.metallic_roughness, (wanted.metallic_roughness * 255).round().byte())


def test_colors_of_vertices_stay_linear_in_glb_and_become_so_from_ply():
    colors = torch.tensor([[0.2, 0.5, 0.8, 1.0]]).expand(4, 4)
    part = decode_mesh(encode_glb([Part(VERTICES, FACES, colors=colors)]), "glb")
    assert (part.colors - colors).abs().max() < 1 / 255
    seen = part_vertex_colors(part)
    ply = decode_mesh(encode_mesh(VERTICES, FACES, seen, "a.ply"), "ply")
    assert (ply.colors - colors).abs().max() < 3 / 255


def test_several_meshes_are_one_at_their_places():
    import trimesh

    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    mirror = np.diag([-1.0, 1, 1, 1])
    scene.add_geometry(box.copy(), transform=mirror)
    part = decode_mesh(scene.export(file_type="glb"), "glb")
    assert len(part.faces) == 24 and part.vertices[:, 0].max() == 5.5
    for faces in (part.faces[:12], part.faces[12:]):
        assert trimesh.Trimesh(part.vertices.numpy(), faces.numpy()).volume == pytest.approx(1)


def test_obj_and_its_companions(tmp_path):
    part = textured()
    files = encode_obj(part, "plate")
    assert sorted(files) == ["plate.mtl", "plate.obj", "plate.png"]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    import trimesh

    mesh = trimesh.load(tmp_path / "plate.obj", process=False)
    assert np.allclose(mesh.vertices[mesh.faces], VERTICES[FACES])
    assert np.allclose(mesh.visual.uv[mesh.faces], torch.stack([UV[:, 0], 1 - UV[:, 1]], 1)[FACES])
    assert np.asarray(mesh.visual.material.image.convert("RGB")).shape == (4, 6, 3)
    alone = read_mesh(tmp_path / "plate.obj")
    assert len(alone.faces) == 2 and alone.material.base_color is None, "files beside it are not opened"


def test_vertex_colors_are_read_from_the_texture():
    part = Part(VERTICES, FACES, Material(base_color=torch.eye(2)[..., None].expand(2, 2, 3)), uv=UV)
    assert torch.allclose(part_vertex_colors(part)[:, 0], torch.tensor([0.0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        (b"glTF" + bytes(20), "glb", "cannot be read"),
        (b"", "ply", "cannot be read|no triangles"),
        (b"v 0 0 0\n", "obj", "no triangles"),
        (b"", "blend", "of type 'blend'"),
    ],
)
def test_files_that_are_no_meshes(data, kind, text):
    with pytest.raises(InputError, match=text):
        decode_mesh(data, kind)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_mesh(tmp_path / "none.glb")


def voxels(folder, **arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    (folder / "v.npz").write_bytes(stream.getvalue())
    return folder / "v.npz"


def test_voxels_turn_upright(tmp_path):
    coord = np.array([[1, 2, 3], [0, 0, 7]], np.uint16)
    path = voxels(tmp_path, coord=coord, base_color=np.array([[255, 0, 51], [0, 0, 0]], np.uint8))
    coords, attributes, resolution = read_voxels(path)
    assert resolution == 8 and coords.tolist() == [[1, 3, 5], [0, 7, 7]]
    assert torch.allclose(attributes[0], torch.tensor([1.0, 0, 0.2, 0, 1, 1]))
    assert read_voxels(path, 16, "y_up")[0].tolist() == coord.tolist()


def test_other_archives_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds a;"):
        read_voxels(voxels(tmp_path, a=np.zeros(2)))
    with pytest.raises(InputError, match="no .npz"):
        read_voxels(voxels(tmp_path, coord=np.array([object()]), base_color=np.zeros(1)))
    with pytest.raises(InputError, match="z_up"):
        read_voxels(tmp_path / "v.npz", None, "sideways")
    coord = np.zeros((2, 3), np.uint16)
    with pytest.raises(InputError, match=r"`metallic`.*\[2, 1\] would fit"):
        read_voxels(voxels(tmp_path, coord=coord, base_color=np.zeros((2, 3)), metallic=np.zeros(3)))


def test_pictures_hold(tmp_path):
    data = encode_obj(textured(), "x")["x.png"]
    assert Image.open(io.BytesIO(data)).size == (6, 4)
