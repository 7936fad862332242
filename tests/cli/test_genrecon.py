"""`genrecon` and its tools: plans without weights, whole runs on tiny ones, and one sentence for what cannot work."""

import json
import re

import numpy as np
import pytest
import torch
from genrecon_tiny import ARGS, LORA, flow_state, write_scene_family
from safetensors.torch import load_file, save_file
from scene_captures import look, model, room_points, write_capture

from sightline.cli import main
from sightline.models.genrecon.checkpoint import compare_base, is_trained, save_adapter, unwrap
from sightline.models.genrecon.family import find_flows, load_scene_family
from sightline.scene.colmap import ColmapModel
from sightline.scene.errors import InputError

SMALL = ["--min_points_per_chunk", "20", "--skip_point_cleaning", "--num_imgs_per_scene", "3"]


def run(*words):
    return main.main([str(word) for word in words])


def sentence(capsys):
    text = capsys.readouterr().err.strip().splitlines()[-1]
    assert 20 < len(text) < 400 and text.endswith(".") and "Traceback" not in text
    return text


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_capture(tmp_path_factory.mktemp("capture"), model(4), binary=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("transformers", reason="DINOv3 runs on the transformers library")
    return write_scene_family(tmp_path_factory.mktemp("weights"))


def test_a_plan_needs_no_weights(capture, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("genrecon", "--path", capture, "--output_path", out, "--plan_only", "--save_imgs", *SMALL) == 0
    names = {path.name for path in out.iterdir()}
    assert {"args.json", "clean_points.ply", "chunk_layout.png", "chunk_transforms.json", "cameras.json"} <= names
    assert (out / "scene" / "view_000.png").is_file() and (out / "chunk_000" / "cond2d.png").is_file()
    chunks = json.loads((out / "chunk_transforms.json").read_text())["chunks"]
    assert f"{len(chunks)} chunks" in capsys.readouterr().out
    assert json.loads((out / "args.json").read_text())["seed"] == 42


def test_a_whole_run_and_the_bake_tool(capture, weights, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["genrecon", "--path", capture, "--output_path", out, "--weights", weights, "--occ_threshold", 0, *SMALL]
    words += ["--texture_size", 0, "--bounds=-1,2,-0.5,0.5", "--steps", 1, "--max_chunks_per_group", 1, "--align", "on"]
    assert run(*words) == 0
    assert re.search(r"scene.glb: \d+ faces, \d+ voxels, \d+ chunks", capsys.readouterr().out)
    names = {path.name for path in out.iterdir()}
    assert {"mesh.ply", "scene.glb", "scene_voxels.safetensors", "scene_voxels.json", "coords_000.ply"} <= names
    assert run(*words) == 2 and "exists; choose another" in sentence(capsys)
    assert run(*words, "--estimate", "--overwrite") == 0 and "structure" in capsys.readouterr().out
    glb = tmp_path / "again.glb"
    assert (
        run("genrecon-bake", out / "scene_voxels.safetensors", "-o", glb, "--texture_size", 64, "--unwrap", "box") == 0
    )
    assert glb.read_bytes()[:4] == b"glTF"
    few = ["genrecon-bake", out / "scene_voxels.safetensors", "--texture_size", 0, "--simplify_threshold", 40]
    assert run(*few, "-o", tmp_path / "few.glb", "--viewer", "--remesh_res", 24, "--workers", 2) == 0
    assert (tmp_path / "few_viewer.glb").stat().st_size == (tmp_path / "few.glb").stat().st_size > 0
    assert run(*few, "-o", tmp_path / "no.glb", "--remesh", "--skip_remesh") == 2 and "exclude" in sentence(capsys)
    assert run(*few[:-1], 2, "-o", tmp_path / "no.glb") == 2 and "at least 4" in sentence(capsys)
    assert run(*few, "-o", tmp_path / "no.glb", "--workers", 0) == 2 and "--workers is 0" in sentence(capsys)
    assert not (tmp_path / "no.glb").exists()
    assert run("genrecon-bake", out / "scene_voxels.safetensors", "-o", glb) == 2 and "exists" in sentence(capsys)
    assert run("genrecon-bake", out / "mesh.ply", "-o", tmp_path / "b.glb") == 2
    assert "not a safetensors file" in sentence(capsys) and not (tmp_path / "b.glb").exists()


def no_points(folder):
    (folder / "sparse/0/points3D.txt").unlink()


def three_points(folder):
    lines = (folder / "sparse/0/points3D.txt").read_text().splitlines()
    (folder / "sparse/0/points3D.txt").write_text("\n".join(lines[:4]) + "\n")


def points_with_nan(folder):
    path = folder / "sparse/0/points3D.txt"
    path.write_text(path.read_text().replace("2 ", "2 nan ", 1).replace("\n1 ", "\n1 nan ", 1))


def no_images(folder):
    for path in (folder / "images" / "shot").iterdir():
        path.unlink()


def no_poses(folder):
    for path in (folder / "sparse" / "0").iterdir():
        path.unlink()


def names_outside(folder):
    path = folder / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("shot/000.png", "../../../etc/passwd"))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (no_points, "has no points; give the bounds"),
        (three_points, "There are 3 points"),
        (points_with_nan, "not finite"),
        (no_images, "None of the 4 posed pictures"),
        (no_poses, "holds no poses"),
        (names_outside, "outside its folder"),
    ],
)
def test_captures_that_cannot_work(tmp_path, capsys, damage, complaint):
    folder = write_capture(tmp_path / "capture", model(4))
    damage(folder)
    out = tmp_path / "out"
    assert run("genrecon", "--path", folder, "--output_path", out, "--plan_only", "--align", "off", *SMALL) == 2
    assert complaint in sentence(capsys)
    assert not out.exists(), "something was written"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--num_imgs_per_scene", "10000"], "10000 photos"),
        (["--num_imgs_per_scene", "0"], "0 photos"),
        (["--bounds", "1,2"], "4 or 6 numbers"),
        (["--chunk_size_factor", "0"], "room heights"),
        (["--min_points_per_chunk", "99999"], "No chunk holds 99999 points"),
        (["--object", "0,0,0,0"], "above 0"),
        (["--exclude_images", "000.png", "001.png", "002.png", "003.png"], "All pictures were left out"),
    ],
)
def test_options_that_cannot_work(capture, tmp_path, capsys, words, complaint):
    out = tmp_path / "out"
    given = ["genrecon", "--path", capture, "--output_path", out, "--plan_only", "--align", "off"]
    assert run(*given, *SMALL, *words) == 2
    assert complaint in sentence(capsys) and not out.exists()


@pytest.mark.parametrize(("scale", "words"), [(0.4, 0), (40.0, 2)])
def test_a_one_meter_and_a_hundred_meter_room(tmp_path, capsys, scale, words):
    given = model(4, points=room_points(2000, (scale * 2.5, scale * 2.5, 2.4 if scale > 1 else 1.0)))
    folder = write_capture(tmp_path / "capture", given)
    out = ["--output_path", tmp_path / "out", "--plan_only", "--align", "off", *SMALL]
    assert run("genrecon", "--path", folder, *out) == words
    text = capsys.readouterr().err
    assert ("check scale" in text) if words == 0 else ("at most 1024 are made" in text)


def test_a_camera_that_sees_nothing_is_left_out(tmp_path, capsys):
    given = model(4)
    away = given.images[0].__class__(9, (1, 0, 0, 0), (900.0, 0, 0), 1, "shot/000.png")
    folder = write_capture(tmp_path / "capture", ColmapModel(given.cameras, [*given.images, away], given.points))
    assert (
        run("genrecon", "--path", folder, "--output_path", tmp_path / "out", "--plan_only", "--align", "off", *SMALL)
        == 0
    )
    assert "see no chunk and are left out" in capsys.readouterr().err


def test_a_camera_inside_a_wall_is_named(tmp_path, capsys):
    given = model(4, points=room_points(30_000))
    inside = np.eye(4)
    inside[:3, 3] = -np.array([2.5, 0.0, 1.3])  # the wall at x = 2.5
    walled = given.images[0].__class__(9, (1, 0, 0, 0), tuple(inside[:3, 3]), 1, "shot/wall.png")
    folder = write_capture(tmp_path / "capture", ColmapModel(given.cameras, [*given.images, walled], given.points))
    words = ["genrecon", "--path", folder, "--plan_only", "--align", "off", "--output_path"]
    assert run(*words, tmp_path / "out", *SMALL) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "wall" in line]
    assert len(said) == 1 and "photos from within or behind a wall: 1 (wall.png)" in said[0]
    assert said[0].endswith(".")


def test_ten_thousand_views_are_planned():
    """Only as many as were asked for are looked at; no picture is read for the plan."""
    from pathlib import Path

    from sightline.pipelines.genrecon import PlanOptions, plan_scene
    from sightline.scene.captures import PointFilter
    from sightline.scene.colmap import ColmapPoints
    from sightline.scene.lens_distortion import Lens
    from sightline.scene.scene_photos import BLENDER, Photo, ScenePhotos

    lens, xyz = Lens.pinhole(48, 32, (30.0, 30.0), (24.0, 16.0)), room_points()
    poses = [
        np.linalg.inv(look([0.1, 0.1, 1.5], [np.cos(a), np.sin(a), 1.1])) @ BLENDER for a in np.arange(10_000) / 50
    ]
    photos = tuple(Photo(f"{i}.png", Path("not there"), pose, lens) for i, pose in enumerate(poses))
    count = len(xyz)
    points = ColmapPoints(xyz, np.zeros((count, 3), np.uint8), np.ones(count), np.full(count, 5))
    plan = plan_scene(
        ScenePhotos(photos, points), PlanOptions(min_points_per_chunk=20, points=PointFilter(clean=False))
    )
    used = [crop.photo for crop in plan.views.crops]
    assert len(used) == 32 and used == sorted(used) and used[-1] > 9000


def test_published_files_are_told_apart_and_missing_ones_named(tmp_path):
    with pytest.raises(InputError, match="structure, shape, texture"):
        find_flows(tmp_path)
    with pytest.raises(InputError, match="no GenRecon weights"):
        load_scene_family(tmp_path)


def test_a_state_dict_is_found_in_its_wrapping_and_nothing_else_is_run(tmp_path):
    state = flow_state("shape")
    for found in (state, {"state_dict": state}, {"model": {f"module.{k}": v for k, v in state.items()}}):
        assert set(unwrap(found)) == set(state)
    with pytest.raises(InputError, match="no flow network"):
        unwrap({"a": torch.zeros(1)})


def test_the_adapter_holds_what_was_trained_and_the_base_is_proved(tmp_path):
    state = flow_state("shape")
    frozen = {k: v for k, v in state.items() if not is_trained(k)}
    assert str(compare_base(state, frozen)) == f"all {len(frozen)} frozen tensors equal the base"
    half = {k: v.bfloat16() for k, v in frozen.items()}
    assert not compare_base(state, half).differing, "a base in half precision is compared in half precision"
    other = {**frozen, "out_layer.bias": frozen["out_layer.bias"] + 1}
    assert list(compare_base(state, other).differing) == ["out_layer.bias"]
    with pytest.raises(InputError, match="another model"):
        compare_base(state, {k: v for k, v in frozen.items() if k != "out_layer.bias"})
    count = save_adapter(state, tmp_path / "a.safetensors", ARGS["shape"], LORA)
    kept = load_file(tmp_path / "a.safetensors")
    assert set(kept) == {k for k in state if is_trained(k)} and count == sum(v.numel() for v in kept.values())


def test_convert_refuses_a_file_that_is_no_table_of_tensors(tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(b"not a pickle")
    save_file({"x": torch.zeros(1)}, tmp_path / "base.safetensors")
    words = ["genrecon-convert", tmp_path / "a.pt", "-o", tmp_path / "o.safetensors", "--base", tmp_path / "base"]
    assert run(*words) == 2 and "no file of plain tensors" in sentence(capsys)
    assert not (tmp_path / "o.safetensors").exists()


def test_a_room_is_written(tmp_path, capsys):
    words = ["genrecon-room", tmp_path / "room", "--views", 2, "--size", "32x24", "--points", 200, "--turned"]
    assert run(*words) == 0 and "2 photos of a room" in capsys.readouterr().out
    assert run(*words) == 2 and "exists" in sentence(capsys)
    assert run("genrecon-room", tmp_path / "b", "--size", "big") == 2 and "320x240" in sentence(capsys)
    assert np.isfinite(float((tmp_path / "room/sparse/0/points3D.txt").read_text().splitlines()[1].split()[1]))
