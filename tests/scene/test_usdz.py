"""USDZ files: the archive, and what OpenUSD reads from it."""

import importlib.util
import io
import zipfile

import pytest
import torch

from sightline.scene.errors import InputError
from sightline.scene.gltf import Material, Part
from sightline.scene.usdz import encode_usdz

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 0.5]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UV = torch.tensor([[0.0, 1], [1, 1], [1, 0.25], [0, 0]])
NORMALS = torch.tensor([[0.0, 0, 1]]).repeat(4, 1)


def textured(**more):
    g = torch.Generator().manual_seed(0)
    material = Material(
        "Wood", torch.rand(8, 8, 4, generator=g), torch.rand(8, 8, 2, generator=g), torch.rand(8, 8, 1, generator=g),
        torch.rand(8, 8, 3, generator=g), torch.rand(8, 8, 3, generator=g), emissive_factor=(1.0, 0.5, 0.0), **more,
    )  # fmt: skip
    return Part(VERTICES, FACES, material, "1 chair/left", NORMALS, None, UV)


def colored():
    return Part(
        VERTICES, FACES, Material(metallic_factor=0.0, roughness_factor=0.5), "Chair", colors=VERTICES[:, :3] / 2
    )


def test_the_archive_is_stored_aligned_and_the_scene_comes_first():
    data = encode_usdz([textured(alpha_mode="BLEND"), colored(), colored()])
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = archive.namelist()
    assert names[0] == "scene.usda" and len(names) == 5 and archive.testzip() is None
    for entry in archive.infolist():
        begin = entry.header_offset + 30 + len(entry.filename) + len(entry.extra)
        assert entry.compress_type == zipfile.ZIP_STORED and begin % 64 == 0
        assert data[begin : begin + entry.file_size] == archive.read(entry)
    text = archive.read("scene.usda").decode()
    for said in ('upAxis = "Y"', "metersPerUnit = 1", 'def Xform "_1_chair_left"', 'def Xform "Chair_2"',
                 "@textures/_1_chair_left_BaseColor.png@"):  # fmt: skip
        assert said in text
    assert encode_usdz([colored()]) == encode_usdz([colored()])


def test_nothing_to_write():
    with pytest.raises(InputError, match="no mesh"):
        encode_usdz([])


@pytest.mark.parametrize("mode", ["OPAQUE", "MASK", "BLEND"])
def test_open_usd_reads_it(tmp_path, mode):
    pytest.importorskip("pxr", reason="OpenUSD (usd-core) is not installed")
    from pxr import Usd, UsdGeom, UsdShade

    path = tmp_path / "chair.usdz"
    path.write_bytes(encode_usdz([textured(alpha_mode=mode), colored()]))
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y and UsdGeom.GetStageMetersPerUnit(stage) == 1
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Root/_1_chair_left/Mesh"))
    assert torch.equal(torch.tensor([list(p) for p in mesh.GetPointsAttr().Get()]), VERTICES)
    assert list(mesh.GetFaceVertexIndicesAttr().Get()) == FACES.flatten().tolist()
    st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get()
    assert torch.allclose(torch.tensor([list(p) for p in st]), torch.stack([UV[:, 0], 1 - UV[:, 1]], 1))
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0]
    for name in ("diffuseColor", "roughness", "metallic", "occlusion", "normal", "emissiveColor"):
        assert surface.GetInput(name).HasConnectedSource(), name
    assert bool(surface.GetInput("opacity")) == (mode != "OPAQUE")
    if importlib.util.find_spec("pxr.UsdValidation"):  # of 25.5 and newer
        from pxr import UsdValidation

        validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
        assert [error.GetMessage() for error in UsdValidation.ValidationContext(validators).Validate(stage)] == []
