"""`sam3d` and `relaxflow --backbone sam3d`: files, point map, priors, manifest, bad input; tiny random networks."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sam3d_tiny import scene, write_family

from sightline.cli.main import main
from sightline.scene.mesh_read import read_mesh
from sightline.scene.splat_files import read_splats


def save(path, picture, mask=None):
    """A PNG of a picture [3, H, W], with the mask [H, W] as its alpha."""
    channels = picture if mask is None else torch.cat([picture, mask[None]])
    Image.fromarray((channels * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny family beside pictures, a mask, a point map and a manifest."""
    root = tmp_path_factory.mktemp("sam3d")
    write_family(root / "family")
    image, mask, points = scene()
    save(root / "room.png", image)
    save(root / "mask.png", mask.expand(3, -1, -1))
    save(root / "cut.png", image, mask)
    save(root / "prior.png", scene(seed=1)[0], mask)
    save(root / "nothing.png", (mask * 0).expand(3, -1, -1))
    np.save(root / "points.npy", (points * torch.tensor([-1.0, -1.0, 1.0])[:, None, None]).permute(1, 2, 0).numpy())
    sample = {"id": "one", "image": "cut.png", "prior_images": ["prior.png"], "point_map": "points.npy"}
    (root / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    return root


def run(folder, *arguments):
    return main([str(folder / a) if isinstance(a, str) and (folder / a).is_file() else str(a) for a in arguments])


@pytest.fixture
def command(folder, tmp_path):
    """Call it with further arguments; the exit code."""
    weights = ("--weights", folder / "family", "--steps", 2, "--stage2-steps", 2)

    def call(*arguments, picture=("room.png", "--mask", "mask.png")):
        return run(folder, "sam3d", *picture, *weights, "-o", tmp_path / "out.ply", *arguments)

    return call


def test_plain_sam3d_writes_everything(command, tmp_path, capsys):
    extra = ("--mesh", tmp_path / "out.glb", "--voxels", tmp_path / "out.npz", "--pose", tmp_path / "out.json")
    assert command("--point-map", "points.npy", *extra) == 0
    voxels = np.load(tmp_path / "out.npz")
    assert voxels["coords"].shape[1] == 3 and "visible" not in voxels
    assert len(read_splats(tmp_path / "out.ply")) == 32 * len(voxels["coords"])
    assert len(read_mesh(tmp_path / "out.glb").faces) > 20
    pose = json.loads((tmp_path / "out.json").read_text())
    assert len(pose["translation"]) == 3 and len(pose["rotation_wxyz"]) == 4 and pose["scale"] > 0
    assert "pose: {" in capsys.readouterr().out
    assert command() == 2 and "exists" in capsys.readouterr().err


def test_priors_place_and_few_gaussians(command, tmp_path, capsys):
    voxels = tmp_path / "out.npz"
    assert command("--point-map", "points.npy", "--priors", "prior.png", "prior.png", "--voxels", voxels) == 0
    found = np.load(voxels)
    assert 0 <= found["visible"].min() and found["visible"].max() <= 1 and len(found["visible"]) == len(found["coords"])
    assert "of them seen" in capsys.readouterr().out
    alone = read_splats(tmp_path / "out.ply")
    options = ("--point-map", "points.npy", "--priors", "prior.png", "prior.png", "--gaussians", 4, "--overwrite")
    assert command(*options, "--place", "scene", "--low-vram") == 0
    placed = read_splats(tmp_path / "out.ply")
    assert 8 * len(placed) == len(alone) and not np.allclose(placed.means.std(0), alone.means.std(0), rtol=0.05)


def test_relaxflow_runs_it_and_a_manifest_of_it(folder, tmp_path, capsys):
    options = ("--backbone", "sam3d", "--weights", folder / "family")
    out = tmp_path / "it.ply"
    priors = ("--priors", "prior.png", "--point-map", "points.npy")
    assert run(folder, "relaxflow", "cut.png", *options, *priors, "-o", out) == 0
    assert len(read_splats(out)) > 100
    assert run(folder, "relaxflow", "--manifest", "samples.jsonl", *options, "-o", tmp_path / "all") == 0
    report = json.loads((tmp_path / "all" / "one" / "result.json").read_text())
    assert report["voxels"] > 10 and report["evaluations"] > 10 and 0 <= report["seen"] <= 1
    # the manifest's point map is used: the voxels are those of the single run
    assert len(read_splats(tmp_path / "all" / "one" / "splats.ply")) == len(read_splats(out))
    assert run(folder, "relaxflow", "--manifest", "samples.jsonl", *options, "-o", tmp_path / "all") == 0
    assert "is done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--priors", "nothing.png", "--prior-masks", "nothing.png"), "Prior 1"),
        (("--mask", "nothing.png"), "mask is empty"),
        (("--branch", "prior"), "no priors"),
        (("--point-map", "room.png"), "is no point map"),
        (("--steps", 0), "--steps is 0"),
        (("--preset", "other"), "preset 'other' is unknown"),
        (("--device", "tpu"), "not available"),
    ],
)
def test_bad_input_gets_one_sentence(command, tmp_path, capsys, arguments, complaint):
    assert command(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert complaint in said[-1] and not list(tmp_path.iterdir())


def test_options_of_other_backbones_are_refused(folder, tmp_path, capsys):
    base = ("relaxflow", "cut.png", "--weights", folder / "family", "-o", tmp_path / "a.ply")
    for extra, complaint in {
        ("--backbone", "sam3d", "--fov", "40"): "leave out --fov",
        ("--backbone", "sam3d", "--hold-seen"): "--hold-seen is not for SAM 3D",
        ("--point-map", "points.npy"): "for --backbone sam3d alone",
    }.items():
        assert run(folder, *base, *extra) == 2
        assert complaint in capsys.readouterr().err
    assert run(folder, "sam3d", "room.png", "--weights", tmp_path / "gone", "-o", tmp_path / "a.ply") == 2
    assert "selects the whole picture" in capsys.readouterr().err
    assert run(folder, "sam3d", "cut.png", "--weights", tmp_path / "gone", "-o", tmp_path / "a.ply") == 2
    assert "no folder" in capsys.readouterr().err and not list(tmp_path.iterdir())
