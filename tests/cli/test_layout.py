"""`python -m sightline layout`: pictures, masks, conversions and refusals."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image


def test_pictures_of_an_example(run, tmp_path):
    names = {name: tmp_path / name for name in ("control.png", "masks.png", "who.png", "depth.npy")}
    code, out, _ = run(
        "layout", "verandah", "-o", names["control.png"], "--masks", names["masks.png"], "--visibility",
        names["who.png"], "--depth", names["depth.npy"], "--size", 64, "--samples", 1, "--prompt",
    )  # fmt: skip
    assert code == 0 and out.startswith("a photo of table and small bicycle and dog under the table in the verandah")
    assert Image.open(names["control.png"]).size == (64, 64) and np.asarray(Image.open(names["control.png"])).max() > 20
    masks, who = (np.asarray(Image.open(names[n])) for n in ("masks.png", "who.png"))
    assert masks.shape == who.shape == (3 * 64, 64) and set(np.unique(masks)) == {0, 255}
    assert np.load(names["depth.npy"]).shape == (64, 64)


def test_conversions_and_checks(run, tmp_path):
    for name in ("scene.json", "scene.pkl", "scene.glb", "scene.csv"):
        assert run("layout", "mars", "--convert", tmp_path / name)[0] == 0
        code, out, _ = run("layout", tmp_path / name, "--check", "--prompt")
        assert code == 0 and "mars rover and astronaut" in out
    code, _, err = run("layout", "mars", "--convert", tmp_path / "scene.json")
    assert code == 2 and "exists" in err
    value = json.loads((tmp_path / "scene.json").read_text(encoding="utf-8")) | {"objects": []}
    (tmp_path / "empty.json").write_text(json.dumps(value), encoding="utf-8")
    code, out, _ = run("layout", tmp_path / "empty.json", "--check")
    assert code == 1 and json.loads(out)[0]["code"] == "E120"


def test_cameras_of_a_colmap_folder(run, tmp_path):
    from sightline.scene.document.camera_formats import cameras_to_colmap
    from sightline.scene.document.examples import load_example

    folder, out = tmp_path / "sparse" / "0", tmp_path / "scene.json"
    folder.mkdir(parents=True)
    for name, data in cameras_to_colmap(load_example("mars")).items():
        (folder / name).write_bytes(data)
    code, _, err = run("layout", tmp_path, "--convert", out)
    assert code == 2 and "0 points" in err and "up and scale" in err and not out.exists()
    code, _, err = run("layout", tmp_path, "--convert", out, "--up", "0,0", "--scale", 1)
    assert code == 2 and "three numbers" in err
    code, _, err = run("layout", tmp_path, "--convert", out, "--up", "0,0,2", "--scale", 2, "--camera-height", 3)
    assert code == 0 and "scale 2" in err
    (camera,) = json.loads(out.read_text(encoding="utf-8"))["cameras"]
    assert np.allclose(camera["free"]["position"], [0, 0, 3])
    code, _, err = run("layout", tmp_path, "--convert", out, "--no-align", "--overwrite")
    assert code == 0 and "arbitrary" in err


class Call:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pkl", pickle.dumps({"subjects_data": [Call()]}), "contains program code and was not opened"),
        ("a.json", b"{", "not a Sightline scene"), ("a.txt", b"x", "are no scenes"), ("a.json", b"", "empty"),
        ("a.glb", b"glTF", "damaged"),
    ],
)  # fmt: skip
def test_what_is_refused_in_one_line_and_writes_nothing(run, tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    code, out, err = run("layout", tmp_path / name, "-o", tmp_path / "control.png")
    assert code == 2 and words in err and err.count("\n") == 1 and not out
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "Say what to do"), (("-o", "x.png", "--samples", 99), "--samples is 99"),
     (("-o", "x.png", "--lights-seed", -1), "--lights-seed"), (("-o", "nowhere/x.png"), "does not exist"),
     (("-o", "x.png", "--size", 9), "64 to 4096")],
)  # fmt: skip
def test_wrong_options(run, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("layout", "mars", *options)
    assert code == 2 and words in err and not list(tmp_path.iterdir())
