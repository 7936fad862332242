"""`relaxflow`: one object, a manifest with resume and metrics, bad input; tiny random networks from files."""

import dataclasses
import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trellis1_family import write_trellis1

from sightline.cli.main import main
from sightline.cli.relaxflow_backbones import Given, Made
from sightline.cli.relaxflow_batch import Judge, load_views
from sightline.kernels.point_metrics import compare_points, points_on_mesh, unit_cube, voxel_iou
from sightline.models.relaxflow.manifest import Sample, read_manifest
from sightline.scene.document import Orbit, SceneCamera, SceneObject, document_to_text, new_document
from sightline.scene.errors import InputError

INPUTS = Path(__file__).resolve().parents[2] / "workflows" / "inputs"


def half_hidden_scene():
    """A cup, and a board before its lower half."""
    cup = SceneObject(id="a", name="vase", prompt="a vase", size=(1.0, 1.0, 1.0))
    board = SceneObject(id="b", name="board", prompt="a board", position=(1.5, 0.0, 0.0), size=(0.1, 4.0, 0.5))
    camera = SceneCamera(mode="orbit", orbit=Orbit((0.0, 0.0, 0.5), 0.0, 0.0, 30.0), lens_mm=300.0, roles=("control",))
    return dataclasses.replace(new_document(), cameras=(camera,), active_camera="cam1", objects=(cup, board))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny family, beside pictures and a manifest."""
    root = tmp_path_factory.mktemp("relaxflow")
    write_trellis1(root / "family")
    for seed, name in enumerate(("image", "prior", "other")):
        rgba = np.random.default_rng(seed).integers(0, 256, (40, 40, 4), dtype=np.uint8)
        rgba[..., 3] = 0
        rgba[8:32, 8:32, 3] = 255
        Image.fromarray(rgba).save(root / f"{name}.png")
    Image.fromarray(np.zeros((40, 40, 4), dtype=np.uint8)).save(root / "clear.png")
    Image.fromarray(np.zeros((20, 20, 4), dtype=np.uint8)).save(root / "small.png")
    (root / "scene.json").write_text(document_to_text(half_hidden_scene()))
    lines = [
        {"id": "a/1", "image": "image.png", "prior_images": ["prior.png", "other.png"], "gt_mesh": "truth.ply"},
        {"id": "b", "image": "image.png", "prior_images": "prior.png"},
    ]
    (root / "truth.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
        "0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    )
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_one_object(folder, tmp_path):
    options = ["--priors", str(folder / "prior.png"), "--weights", str(folder / "family"), "--fov", "40"]
    out = [tmp_path / name for name in ("a.ply", "a.glb", "a.npz")]
    code = main(["relaxflow", str(folder / "image.png"), *options, "-o", str(out[0]), "--mesh", str(out[1]),
                 "--voxels", str(out[2])])  # fmt: skip
    assert code == 0 and all(path.stat().st_size > 100 for path in out)
    voxels = np.load(out[2])
    assert len(voxels["coords"]) == len(voxels["visible"]) > 0
    assert main(["relaxflow", str(folder / "image.png"), *options, "-o", str(out[0])]) == 2  # it exists


def test_a_known_layout_hides_what_stands_behind_its_boxes(folder, tmp_path):
    """The lower half behind the board is hidden, whatever the camera alone would see."""
    options = ["--priors", str(folder / "prior.png"), "--weights", str(folder / "family"), "--seed", "1"]
    seen = {}
    for name, more in (
        ("layout", ["--scene", str(folder / "scene.json"), "--subject", "vase"]),
        ("front", ["--fov", "40"]),
    ):
        out = tmp_path / f"{name}.npz"
        assert main(["relaxflow", str(folder / "image.png"), *options, *more, "-o", str(tmp_path / f"{name}.ply"),
                     "--voxels", str(out)]) == 0  # fmt: skip
        found = np.load(out)
        seen[name] = {tuple(c): v for c, v in zip(found["coords"].tolist(), found["visible"].tolist())}
    assert set(seen["layout"]) == set(seen["front"])
    low = [value for (_, _, z), value in seen["layout"].items() if z < 3]
    assert low and max(low) < 0.01 < max(value for (_, _, z), value in seen["front"].items() if z < 3)


def test_the_demonstration(tmp_path, monkeypatch, capsys):
    """The shipped chair behind its board, with the weights of this package: two completions, the seen part kept."""
    monkeypatch.chdir(INPUTS)
    voxels = {}
    for kind in ("legs", "foot"):
        files = [tmp_path / f"{kind}.glb", tmp_path / f"{kind}.npz"]
        assert main(["relaxflow", "relaxflow_half.png", "--occluder", "relaxflow_board.png", "--weights", "tiny",
                     "--priors", f"relaxflow_{kind}.png", f"relaxflow_{kind}_2.png", "--seed", "3",
                     "-o", str(files[0]), "--voxels", str(files[1])]) == 0  # fmt: skip
        said = capsys.readouterr().out
        assert float(said.split("the seen part is ")[1].split()[0]) >= 0.95
        found = np.load(files[1])
        hidden = found["visible"] <= 0.5
        voxels[kind] = {tuple(c) for c in found["coords"][hidden].tolist()}
        assert files[0].stat().st_size > 10_000 and len(voxels[kind]) > 50
    shared = len(voxels["legs"] & voxels["foot"]) / len(voxels["legs"] | voxels["foot"])
    assert shared < 0.7, "the two sets of priors give two completions"


def test_pixal3d_gives_a_mesh(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(INPUTS)
    given = ["relaxflow", "relaxflow_half.png", "--priors", "relaxflow_legs.png", "--weights", "tiny"]
    assert main([*given, "-o", str(tmp_path / "a.splat")]) == 2 and "mesh" in capsys.readouterr().err
    assert main([*given, "-o", str(tmp_path / "a.glb"), "--branch", "obs"]) == 2
    assert "--prior-weight 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--priors", "clear.png"], "Prior 1 (clear.png): it is black or transparent"),
        ([], "no priors"),
        (["--priors", "prior.png", "--fov", "0"], "degrees"),
        (["--priors", "prior.png", "--sigma", "nan"], "sigma"),
    ],
)
def test_bad_input_of_the_embedded_family(folder, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(folder)
    assert main(["relaxflow", "image.png", *options, "--weights", "tiny", "-o", str(tmp_path / "a.glb")]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("metric", ["lpips", "fid"])
def test_what_a_score_lacks_is_said_before_anything_runs(folder, tmp_path, capsys, monkeypatch, metric):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    command = ["relaxflow", "--manifest", str(folder / "list.jsonl"), "--weights", str(folder / "family")]
    assert main([*command, "-o", str(tmp_path), f"--{metric}", "--metric-weights", str(tmp_path / "none")]) == 2
    found = capsys.readouterr().err
    assert f"{metric.upper()} needs the" in found and found.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_manifest_goes_on_where_it_stopped(folder, tmp_path, capsys):
    command = ["relaxflow", "--manifest", str(folder / "list.jsonl"), "--weights", str(folder / "family"),
               "-o", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    first = json.loads((tmp_path / "a_1" / "result.json").read_text())
    assert {"chamfer", "f_score", "voxel_iou", "voxels", "evaluations"} <= set(first)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["samples"] == 2 and summary["mean"]["chamfer"] == first["chamfer"]
    assert "chamfer" not in json.loads((tmp_path / "b" / "result.json").read_text())
    (tmp_path / "b" / "result.json").unlink()
    capsys.readouterr()
    assert main(command) == 0 and capsys.readouterr().out.startswith("1/1 b:")
    again = json.loads((tmp_path / "summary.json").read_text())
    for one in (summary, again):
        del one["mean"]["seconds"]
    assert again == summary
    assert main(command) == 0 and "done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["IMAGE"], "no priors"),
        (["IMAGE", "--priors", "clear.png"], "Prior 1"),
        (["clear.png", "--priors", "prior.png"], "The picture"),
        (["IMAGE", "--priors", "prior.png", "--sigma", "-1"], "sigma"),
        (["IMAGE", "--priors", "prior.png", "--sigma", "51"], "sigma"),
        (["IMAGE", "--priors", "prior.png", "--preset", "best"], "preset"),
        (["IMAGE", "--priors", "prior.png", "--fov", "190"], "degrees"),
        (["IMAGE", "--manifest", "list.jsonl"], "one picture, or --manifest"),
        (["IMAGE", "--priors", "prior.png", "--schedule", "soon"], "schedule"),
        (["IMAGE", "--priors", "prior.png", "--tolerance", "-1"], "tolerance"),
        (["IMAGE", "--priors", "prior.png", "--occluder", "small.png", "--fov", "40"], "one size"),
        (["IMAGE", "--priors", "prior.png", "--scene", "scene.json", "--subject", "cup"], "'cup'"),
        (["IMAGE", "--priors", "prior.png", "--scene", "scene.json", "--fov", "40"], "leave out --fov"),
        (["--manifest", "list.jsonl", "--clip", "none"], "no config.json"),
        (["--manifest", "list.jsonl", "--point-e", "none"], "no pointnet.pt"),
        (["--manifest", "list.jsonl", "--views", "0"], "--views"),
        (["--manifest", "list.jsonl", "--occluder", "clear.png"], "--occluder is of one picture"),
        (["IMAGE", "--priors", "prior.png", "--lpips"], "give --manifest"),
        (["IMAGE", "--priors", "prior.png", "--backbone", "pixal3d"], "`tiny`"),
    ],
)
def test_bad_input(folder, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(folder)
    options = ["image.png" if option == "IMAGE" else option for option in options]
    code = main(["relaxflow", *options, "--weights", "family", "-o", str(tmp_path / "out.ply")])
    found = capsys.readouterr().err
    assert code == 2 and said in found and found.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no samples"),
        ("{", "not JSON"),
        ('[{"id": 1}]', "image"),
        ('[{"image": "../image.png"}]', "outside"),
        ('[{"image": "no.png"}]', "there is no image"),
        ('[{"id": "x", "image": "image.png"}, {"id": "x", "image": "image.png"}]', "twice"),
        ('[{"image": "image.png", "prior_images": ["prior.png"], "prior_masks": ["prior.png", "other.png"]}]', "masks"),
    ],
)
def test_a_bad_manifest(folder, text, said):
    file = folder / "bad.json"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        read_manifest(file)


def test_measures_of_shapes():
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    points = points_on_mesh(vertices, faces, 500, torch.Generator().manual_seed(0))
    assert points[:, 2].abs().max() == 0 and 0.9 < points[:, 0].mean() < 1.1
    same = compare_points(points, points)
    assert same["chamfer"] < 1e-3 and same["f_score"] == 1
    moved = compare_points(points, points + torch.tensor([0, 0, 0.5]))
    assert moved["chamfer"] == pytest.approx(1.0, abs=1e-3) and moved["f_score"] == 0
    assert float((unit_cube(points).amax(0) - unit_cube(points).amin(0)).max()) == pytest.approx(1)
    assert voxel_iou(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[1, 1], [2, 2]])) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="no surface"):
        points_on_mesh(vertices, faces[:0], 5)


class Colors:
    """Stands for CLIP: the features of a picture are its mean color, those of words the color they name."""

    def pictures(self, pictures):
        return pictures.mean((2, 3))

    def words(self, text):
        return torch.tensor([float(text == name) for name in ("red", "green", "blue")])


def test_views_are_scored_against_words_truth_and_observation(folder, tmp_path):
    """A red square, turned around, beside a red truth: everything fits, and nothing is green."""
    args = types.SimpleNamespace(
        views=3, metric_weights=None, lpips=False, fid=False, clip=None, point_e=None, device="cpu"
    )
    judge = Judge(args)
    judge.clip, judge.looks = Colors(), True
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[..., 0] = 255
    Image.fromarray(red).save(tmp_path / "true.png")
    cube = torch.cartesian_prod(*[torch.tensor([-0.4, 0.4])] * 3)
    faces = torch.tensor([[0, 1, 3], [0, 3, 2], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4], [2, 3, 7], [2, 7, 6],
                          [0, 2, 6], [0, 6, 4], [1, 3, 7], [1, 7, 5]])  # fmt: skip
    made = Made((cube, faces, torch.tensor([[1.0, 0, 0]]).expand(8, 3)), None, None, None)
    for text, fits in (("red", 100.0), ("green", 0.0)):
        sample = Sample("a", folder / "image.png", None, (), (), text, None, (tmp_path / "true.png",))
        report = judge(tmp_path, sample, Given(red, []), made)
        assert report["clip_text"] == pytest.approx(fits, abs=1e-3)
        for name in ("clip_image", "clip_observation_max", "clip_observation_mean"):
            assert report[name] == pytest.approx(1, abs=1e-5)
    assert load_views(tmp_path / "views.png").shape == (3, 3, 224, 224)
    with pytest.raises(InputError, match="no views"):
        load_views(tmp_path / "none.png")
