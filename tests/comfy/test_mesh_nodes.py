"""Unwrap, Texture Bake and GLB Bake on core's types: ragged batches, opacity, and what is refused."""

import json
from pathlib import Path

import pytest
from gltf_validation import check_glb
from inside_comfyui import ask


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict:
    return ask("mesh_nodes.py", tmp_path_factory.mktemp("base"))


def test_a_ragged_batch_keeps_its_items(said):
    assert said["kept"] and said["same uv"] and said["input untouched"] and said["occlusion"]
    assert said["shapes"] == [[2, 64, 64, 3]] * 4
    vertices, faces, before = said["counts"]
    assert faces == before and vertices[0] > vertices[1]
    assert said["darkest"] > 0.02


def test_one_valid_file_for_each_item(said):
    assert len(said["files"]) == 2 and len(set(said["files"])) == 2
    first = Path(said["first"])
    check_glb(first.read_bytes())
    assert {p.suffix for p in first.parent.glob(first.stem + "*")} == {".glb", ".obj", ".mtl", ".png"}


def test_opacity_comes_to_the_file(said):
    assert said["mask"] == ["MASK", "MASK"]
    data = Path(said["mask file"]).read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert tree["materials"][0]["alphaMode"] == "MASK"
    check_glb(data)


def test_what_is_refused_is_one_sentence(said):
    wanted = {
        "dense": "`voxel` has no colors",
        "no faces": "no faces",
        "nan": "not finite",
        "out of range": "it is damaged",
        "tiles": "one texture holds 0 to 1",
        "40k": "40000 texels",
        "resolution": "a resolution of 8",
        "items": "3 objects and `mesh` 2",
        "nothing": "Connect `voxel` or `reference`",
        "prefix": "outside the output folder",
    }
    assert set(said["refused"]) == set(wanted)
    for name, text in wanted.items():
        assert text in said["refused"][name] and said["refused"][name].startswith("ValueError: "), said["refused"][name]
