"""A folder of meshes becomes a data set that a recipe reads; whatever cannot be used is named and passed over."""

import csv
import json

import numpy as np
import pytest
import torch
import trimesh
from trellis2_tiny import cascade, sparse_vae

from sightline.scene.errors import InputError
from sightline.training.toolkit.build import BuildOptions, build
from sightline.training.toolkit.placing import View, place_in_view
from sightline.training.trellis2.folders import ObjectFolders
from sightline.training.trellis2.recipe import recipe_from_dict

OPTIONS = BuildOptions(resolution=32, image_size=64, views=2)


@pytest.fixture
def meshes(tmp_path):
    folder = tmp_path / "meshes"
    (folder / "below").mkdir(parents=True)
    box = trimesh.creation.box((1, 2, 0.5))
    box.visual.vertex_colors = np.tile([[200, 30, 30, 255]], (8, 1))
    box.export(folder / "box.glb")
    trimesh.creation.icosphere(2).export(folder / "below" / "ball.ply")
    (folder / "broken.glb").write_bytes(b"glTF" + bytes(40))
    (folder / "empty.obj").write_bytes(b"")
    (folder / "notes.txt").write_text("no mesh")
    (folder / "points.ply").write_bytes(trimesh.PointCloud(np.eye(3)).export(file_type="ply"))
    return folder


def encoders():
    """A family whose encoders have random weights."""
    family = cascade(True)
    family.models["shape_slat_encoder"] = sparse_vae("FlexiDualGridVaeEncoder", 11, in_channels=6)
    family.models["tex_slat_encoder"] = sparse_vae("SparseUnetVaeEncoder", 12, in_channels=6)
    return family


def test_a_data_set_of_a_folder(meshes, tmp_path):
    said, out = [], tmp_path / "data"
    counts = build(meshes, out, OPTIONS, family=encoders(), tell=said.append)
    assert counts == {"made": 2, "known": 0, "skipped": 4}
    for name in ("broken.glb", "empty.obj", "notes.txt", "points.ply"):
        assert sum(text.startswith(f"{name} skipped: ") for text in said) == 1
    with open(out / "metadata.csv") as file:
        records = list(csv.DictReader(file))
    assert {record["file"] for record in records} == {"box.glb", "ball.ply"}

    latent = encoders().get("shape_slat_encoder").config.latent_channels
    args = {"resolution": 8, "in_channels": latent, "out_channels": latent, "model_channels": 24, "cond_channels": 128,
            "num_blocks": 1, "num_heads": 2, "pe_mode": "rope", "image_attn_mode": "proj"}  # fmt: skip
    recipe = recipe_from_dict({
        "name": "x", "stage": "shape_flow", "networks": {"denoiser": {"name": "SLatFlowModel", "args": args}},
        "data": {"resolution": 32, "image_size": 64, "crop": False, "view_aligned": True, "min_aesthetic_score": None,
                 "normalization": "none"},
    })  # fmt: skip
    objects = ObjectFolders(out, recipe)
    assert len(objects) == 2
    for index in range(2):
        item = objects.draw(index, torch.Generator().manual_seed(index))
        picture = item["view"].picture
        assert picture.shape == (3, 64, 64) and len(item["coords"]) == len(item["latent"]) > 20
        places = (item["coords"] + 0.5) / 8 * 2 - 1  # what the projection takes for the voxels' middles
        pixels = item["view"].camera.uv(places, 64)[0].long().clamp(0, 63)
        seen = picture[:, pixels[:, 1], pixels[:, 0]].amax(0) > 0.02
        assert seen.float().mean() > 0.7  # the latent's voxels lie on the object in the picture

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    again = build(meshes, out, OPTIONS, family=encoders())
    assert again["known"] == 2 and before == {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}


def test_parts_make_the_same_as_one(meshes, tmp_path):
    build(meshes, tmp_path / "one", OPTIONS)
    for k in range(2):
        build(meshes, tmp_path / "two", OPTIONS, part=(k, 2))
    assert (tmp_path / "one/metadata.csv").read_bytes() == (tmp_path / "two/metadata.csv").read_bytes()
    for path in (tmp_path / "one").rglob("view*.npz"):
        with np.load(path) as a, np.load(tmp_path / "two" / path.relative_to(tmp_path / "one")) as b:
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_a_full_disk_stops_it_and_leaves_no_half_file(meshes, tmp_path, monkeypatch):
    out, written = tmp_path / "data", []

    def savez(file, **arrays):
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(out))
        written.append(file.write(b"1"))

    monkeypatch.setattr(np, "savez_compressed", savez)
    with pytest.raises(OSError, match="No space left"):
        build(meshes, out, OPTIONS)
    assert len(list(out.rglob("*.npz"))) == 3 and not list(out.rglob("*.part"))
    assert not list((out / "records").iterdir())  # so the object is made again next time


def test_the_object_fills_its_picture_upright():
    points = torch.tensor(trimesh.creation.box((1, 2, 1)).vertices, dtype=torch.float32)
    placed = place_in_view(points, View(0.0, 0.0, 40.0))
    assert placed.abs().max() <= 0.485 + 1e-6
    height, width, depth = (float(placed[:, i].amax() - placed[:, i].amin()) for i in (1, 0, 2))
    assert height == pytest.approx(2 * width, rel=1e-4) and depth == pytest.approx(width, rel=1e-4)
    front = points[:, 2] > 0  # +Z of the file is nearest to the camera
    assert placed[front, 2].min() > placed[~front, 2].max()


def test_what_does_not_fit_is_said(meshes, tmp_path):
    said = []
    counts = build(meshes, tmp_path / "small", BuildOptions(32, 64, 1, max_faces=100), tell=said.append)
    assert counts["made"] == 1 and any("320 faces" in text for text in said)
    with pytest.raises(InputError, match="made with another views"):
        build(meshes, tmp_path / "small", BuildOptions(32, 64, 2, max_faces=100))
    with pytest.raises(InputError, match="is not a folder"):
        build(tmp_path / "nowhere", tmp_path / "a", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no mesh"):
        build(tmp_path / "empty", tmp_path / "a", OPTIONS)
    with pytest.raises(InputError, match="power of two"):
        BuildOptions(resolution=48)
    assert json.loads((tmp_path / "small/options.json").read_text())["views"] == 1
