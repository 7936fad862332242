"""GLB files, read back by another library and by Khronos' validator."""

import io
import json
import struct

import numpy as np
import pytest
import torch
from gltf_validation import check_glb
from PIL import Image

from sightline.scene.errors import InputError
from sightline.scene.gltf import Material, Part, encode_glb, write_glb

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 1]])
FACES = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
UV = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0], [0.5, 0.5]])
NORMALS = torch.nn.functional.normalize(VERTICES - 0.5, dim=1)


def full(**more) -> Part:
    g = torch.Generator().manual_seed(0)
    material = Material(
        "Paint", torch.rand(8, 12, 4, generator=g), torch.rand(8, 8, 2, generator=g), torch.rand(4, 4, 1, generator=g),
        torch.rand(8, 8, 3, generator=g), torch.rand(8, 8, 3, generator=g), emissive_factor=(1, 1, 1), **more,
    )  # fmt: skip
    tangents = torch.tensor([1.0, 0, 0, -1]).expand(5, 4)
    return Part(VERTICES, FACES, material, "Roof", NORMALS, tangents, UV, torch.rand(5, 4, generator=g))


def tree_of(data: bytes) -> dict:
    assert data[:4] == b"glTF" and struct.unpack("<II", data[4:12]) == (2, len(data))
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length])


CASES = {
    "bare": [Part(VERTICES, FACES)],
    "colors": [Part(VERTICES, FACES, normals=NORMALS, colors=torch.rand(5, 3))],
    "opaque": [full()],
    "mask": [full(alpha_mode="MASK", alpha_cutoff=0.4, double_sided=False)],
    "blend": [full(alpha_mode="BLEND")],
    "unlit": [Part(VERTICES, FACES, Material(unlit=True), colors=torch.rand(5, 4))],
    "two": [full(), Part(VERTICES + 2, FACES.int(), name="Other")],
    "uv without textures": [Part(VERTICES, FACES, uv=UV, tangents=torch.ones(5, 4), normals=NORMALS)],
    "lost normals": [Part(VERTICES, FACES, normals=NORMALS * torch.tensor([[0.0], [3], [1], [1], [1]]))],
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_khronos_accepts_it(name, image_format):
    check_glb(encode_glb(CASES[name], image_format=image_format, extras={"license": "CC0-1.0"}, copyright="me"))


def test_another_library_reads_the_same():
    import trimesh

    part = full()
    data = encode_glb([part])
    mesh = trimesh.load(io.BytesIO(data), file_type="glb", process=False).geometry["Roof"]
    assert np.array_equal(mesh.vertices.astype(np.float32), VERTICES.numpy())
    assert np.array_equal(mesh.faces, FACES.numpy())
    assert np.allclose(mesh.visual.uv, np.stack([UV[:, 0], 1 - UV[:, 1]], 1))
    material = mesh.visual.material
    assert material.name == "Paint" and material.doubleSided
    wanted = (part.material.base_color[..., :3] * 255).round()
    assert np.array_equal(np.asarray(material.baseColorTexture.convert("RGB")), wanted.numpy())
    orm = np.asarray(material.metallicRoughnessTexture.convert("RGB"))
    plain = (part.material.metallic_roughness * 255).round().numpy()
    assert np.array_equal(orm[..., 1], plain[..., 1]) and np.array_equal(orm[..., 2], plain[..., 0])


def test_what_the_tree_says():
    tree = tree_of(encode_glb([full(alpha_mode="MASK", alpha_cutoff=0.4)], extras={"license": "CC-BY-4.0"}))
    assert tree["asset"]["generator"] == "ComfyUI-Sightline" and tree["asset"]["extras"] == {"license": "CC-BY-4.0"}
    material = tree["materials"][0]
    assert material["alphaMode"] == "MASK" and material["alphaCutoff"] == 0.4
    same = (
        material["occlusionTexture"]["index"] == material["pbrMetallicRoughness"]["metallicRoughnessTexture"]["index"]
    )
    assert same and tree["nodes"][0]["name"] == "Roof"
    opaque = tree_of(encode_glb([full()]))
    assert "alphaMode" not in opaque["materials"][0] and len(opaque["images"]) == 4


def test_jpeg_is_smaller_and_alpha_and_normals_stay_exact():
    noise = torch.rand(64, 64, 4)
    material = Material(base_color=noise, normal=noise[..., :3], metallic_roughness=noise[..., :2], alpha_mode="BLEND")
    tree = tree_of(encode_glb([Part(VERTICES, FACES, material, uv=UV)], image_format="jpeg"))
    assert [image["mimeType"] for image in tree["images"]] == ["image/png", "image/jpeg", "image/png"]


def test_slices_give_the_same_bytes(monkeypatch):
    whole = encode_glb([full()])
    monkeypatch.setattr("sightline.scene.gltf.SLICE", 2)
    stream = io.BytesIO()
    assert write_glb(stream, [full()]) == len(whole)
    assert stream.getvalue() == whole


def test_an_opaque_picture_has_no_alpha_channel():
    data = encode_glb([full()])
    tree = tree_of(data)
    view = tree["bufferViews"][tree["images"][0]["bufferView"]]
    start = 20 + struct.unpack("<I", data[12:16])[0] + 8 + view["byteOffset"]
    assert Image.open(io.BytesIO(data[start : start + view["byteLength"]])).mode == "RGB"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Part(VERTICES, FACES[:0]), "no faces"),
        (lambda: Part(VERTICES * torch.nan, FACES), "not finite"),
        (lambda: Part(VERTICES, FACES + 2), "vertices 2 to 6, but the mesh has 5"),
        (lambda: Part(VERTICES, FACES.float()), "integers"),
        (lambda: Part(VERTICES[:, :2], FACES), r"\[V, 3\]"),
        (lambda: Part(VERTICES, FACES, uv=UV[:3]), "`uv`"),
        (lambda: Part(VERTICES, FACES, Material(base_color=torch.zeros(2, 2, 3))), "no texture coordinates"),
        (lambda: Part(VERTICES, FACES, tangents=torch.ones(5, 4)), "without normals"),
        (lambda: Material(base_color=torch.zeros(2, 2, 2)), "3 or 4"),
        (lambda: Material(normal=torch.zeros(1, 1, 3).expand(1, 40000, 3)), "40000x1 texels"),
        (lambda: Material(alpha_mode="GLASS"), "GLASS"),
        (lambda: encode_glb([]), "no mesh"),
        (lambda: encode_glb([full()], image_format="webp"), "webp"),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(InputError, match=text):
        make()
