import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.scene.cameras import orbit
from sightline.scene.splat_files import read_splats

FOV = 51.98948897809546


def test_one_picture_becomes_splats_a_turntable_and_a_report(run, weights, picture, tmp_path):
    code, out, err = run(
        "sparsegen", picture, "-o", tmp_path / "a.ply", "--turntable", tmp_path / "a.gif", "--weights", weights,
        "--frames", 5, "--size", 40, "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "64 Gaussians from 1 picture in" in out and "utilization" in out and "5 pictures of 40x40" in out
    assert len(read_splats(tmp_path / "a.ply")) == 64
    gif = Image.open(tmp_path / "a.gif")
    assert gif.n_frames == 5 and gif.size == (40, 40)
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["gaussians"] == 64 and report["steps"] == 1 and len(report["files"]) == 2
    assert 0 < report["utilization"]["effective"] <= 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.json", "a.ply"]


def test_the_report_can_go_to_stdout(run, weights, picture, tmp_path):
    code, out, _ = run("sparsegen", picture, "-o", tmp_path / "a.splat", "--weights", weights, "--json", "-")
    assert code == 0 and json.loads(out)["files"] == [str(tmp_path / "a.splat")]


@pytest.mark.parametrize("count", range(1, 7))
def test_one_to_six_pictures(run, weights, picture, tmp_path, count):
    azimuths = ",".join(str(60 * i) for i in range(count))
    code, _, err = run(
        "sparsegen", *[picture] * count, "--azimuth", azimuths, "-o", tmp_path / "a.ply", "--weights", weights
    )
    assert (code, err) == (0, "")


def test_seed_and_steps_and_virtual_views_change_the_result_and_nothing_else_does(run, weights, picture, tmp_path):
    def means(name, *options):
        code, _, err = run("sparsegen", picture, "-o", tmp_path / name, "--weights", weights, *options)
        assert (code, err) == (0, "")
        return read_splats(tmp_path / name).means

    first = means("a.ply")
    assert torch.equal(means("b.ply"), first)
    for i, options in enumerate(
        (("--seed", 1), ("--steps", 3), ("--noise-scale", 0.5), ("--virtual", 5), ("--virtual", 0), ("--elevation", 40))
    ):
        assert not torch.equal(means(f"c{i}.ply", *options), first), options


def test_frames_of_the_file(run, weights, picture, tmp_path):
    from sightline.cli.sparsegen import FRAMES
    from sightline.scene.frames import WORLD_FRAMES

    assert set(FRAMES) == set(WORLD_FRAMES)
    for frame in FRAMES:
        run("sparsegen", picture, "-o", tmp_path / f"{frame}.ply", "--weights", weights, "--frame", frame)
    run("sparsegen", picture, "-o", tmp_path / "default.ply", "--weights", weights)
    ours = read_splats(tmp_path / "z_up.ply", "z_up").means
    for frame in FRAMES:
        torch.testing.assert_close(read_splats(tmp_path / f"{frame}.ply", frame).means, ours)
    torch.testing.assert_close(read_splats(tmp_path / "default.ply").means, ours)


def test_views_from_a_file_are_the_same_as_angles(run, weights, picture, tmp_path):
    cameras = orbit([0, 90], [20, 10], 1.3, FOV, 64, 64)
    document = {"cameras": [{"world_to_camera": m.tolist()} for m in cameras.world_to_camera]}
    (tmp_path / "cams.json").write_text(json.dumps(document))
    run(
        "sparsegen", picture, picture, "-o", tmp_path / "a.ply", "--weights", weights, "--views", tmp_path / "cams.json"
    )
    run(
        "sparsegen",
        picture,
        picture,
        "-o",
        tmp_path / "b.ply",
        "--weights",
        weights,
        "--azimuth",
        "0,90",
        "--elevation",
        "20,10",
    )
    a, b = read_splats(tmp_path / "a.ply"), read_splats(tmp_path / "b.ply")
    torch.testing.assert_close(a.means, b.means, atol=1e-4, rtol=1e-4)


def test_virtual_cameras_from_a_file(run, weights, picture, tmp_path):
    document = {"cameras": [{"azimuth": 0}], "virtual": [{"azimuth": a} for a in (10, 20, 30, 40)]}
    (tmp_path / "cams.json").write_text(json.dumps(document))
    common = ("sparsegen", picture, "--weights", weights, "--views", tmp_path / "cams.json")
    assert run(*common, "-o", tmp_path / "a.ply")[0] == 0
    code, _, err = run(*common, "-o", tmp_path / "b.ply", "--virtual", 2)
    assert code == 2 and "leave --virtual out" in err


def test_weights_that_know_one_azimuth_turn_with_the_first_picture(run, weights, picture, tmp_path):
    """Such weights see the same whatever the first azimuth is called; the splats come out turned by it."""
    import dataclasses

    from sightline.models.sparsegen import load_sparsegen, save_sparsegen
    from sightline.scene.frames import rotation_about_z

    model, info = load_sparsegen(weights)
    model.config = dataclasses.replace(info.config, align_first_view=True)
    aligned = save_sparsegen(model, tmp_path / "aligned.safetensors")
    for name, azimuth in (("a", "0,90"), ("b", "30,120")):
        run("sparsegen", picture, picture, "-o", tmp_path / f"{name}.ply", "--weights", aligned, "--azimuth", azimuth)
    a, b = read_splats(tmp_path / "a.ply"), read_splats(tmp_path / "b.ply")
    torch.testing.assert_close(b.means, a.means @ rotation_about_z(30).float().T, atol=1e-4, rtol=1e-4)


def test_the_turntable_begins_at_the_first_picture_and_shows_the_background(run, weights, picture, tmp_path):
    common = ("sparsegen", picture, "--weights", weights, "--frames", 3, "--size", 32, "--turntable")
    run(*common, tmp_path / "white", "-o", tmp_path / "a.ply")
    run(*common, tmp_path / "green", "-o", tmp_path / "b.ply", "--background", "#00ff00")
    files = sorted(p.name for p in (tmp_path / "white").iterdir())
    assert files == ["0000.png", "0001.png", "0002.png"]
    white, green = (np.asarray(Image.open(tmp_path / n / "0000.png")).astype(int) for n in ("white", "green"))
    assert white.shape == (32, 32, 3)
    assert (white - green)[..., 1].max() <= 1  # only red and blue of the background went away
    assert ((white - green)[..., 0] >= 0).all() and ((white - green)[..., 0] > 5).any()


def test_pictures_that_do_not_fit_are_mentioned(run, weights, tmp_path):
    Image.new("RGB", (60, 30), (40, 90, 40)).save(tmp_path / "wide.png")
    code, _, err = run("sparsegen", tmp_path / "wide.png", "-o", tmp_path / "a.ply", "--weights", weights)
    assert code == 0
    assert "60x30; it was padded with white" in err and "corners that are not white" in err


def test_held_out_pictures_measure_the_result(run, weights, picture, tmp_path):
    run("sparsegen", picture, "-o", tmp_path / "a.ply", "--weights", weights, "--turntable", tmp_path / "turn",
        "--frames", 4, "--size", 64)  # fmt: skip
    views = [{"azimuth": 90 * i, "image": f"turn/{i:04d}.png"} for i in (1, 2)]
    (tmp_path / "views.json").write_text(json.dumps(views))
    code, out, _ = run("sparsegen", picture, "-o", tmp_path / "b.ply", "--weights", weights, "--json", "-",
                       "--held-out", tmp_path / "views.json")  # fmt: skip
    quality = json.loads(out)["quality"]
    assert code == 0
    assert quality["held_out"]["psnr"] > 45 and quality["held_out"]["ssim"] > 0.99  # its own pictures, in 8 bits
    assert quality["input_views"]["psnr"] < 30  # random weights know nothing of the disk
    for metric in ("psnr", "ssim"):
        gap = quality["input_views"][metric] - quality["held_out"][metric]
        assert quality["input_view_bias"][metric] == pytest.approx(gap, abs=1e-3)
    code, out, _ = run("sparsegen", picture, "-o", tmp_path / "c.ply", "--weights", weights)
    assert code == 0 and "input views: PSNR" in out and "held out" not in out


def test_progress_when_asked_for(run, weights, picture, tmp_path):
    code, _, err = run("sparsegen", picture, "-o", tmp_path / "a.ply", "--weights", weights, "--progress", "--steps", 3)
    assert code == 0 and "sampling" in err


def test_an_interrupted_run_leaves_nothing(weights, picture, tmp_path):
    command = [sys.executable, "-m", "sightline", "sparsegen", str(picture), "-o", str(tmp_path / "a.ply"), "--weights",
               str(weights), "--steps", "1000", "--progress"]  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        seen = b""
        deadline = time.monotonic() + 120
        while b"sampling" not in seen and time.monotonic() < deadline:
            seen += process.stderr.read1(1000)
        process.send_signal(number)
        rest = seen + process.stderr.read()
        assert process.wait(timeout=60) == 130
        assert rest.endswith(b"Stopped; nothing was written.\n")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["car", "house"])
def test_the_embedded_weights_know_the_shipped_pictures(run, repository, tmp_path, kind):
    """Objects they were not trained on: the picture is found again far better than by an empty or an even picture."""
    from sightline.kernels.metrics import psnr
    from sightline.scene.images import read_image

    path = repository / "workflows" / "inputs" / f"sparsegen_{kind}.png"
    code, out, err = run("sparsegen", path, "-o", tmp_path / "a.ply", "--json", "-")
    assert (code, err) == (0, "")
    picture = read_image(path)
    even = picture.mean(dim=(1, 2), keepdim=True).expand_as(picture)
    baseline = max(psnr(other, picture).item() for other in (torch.ones_like(picture), even))
    assert json.loads(out)["quality"]["input_views"]["psnr"] > baseline + 3
