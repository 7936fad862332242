"""Every wrong input: exit code 2, one sentence on stderr, nothing on stdout, nothing written."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

EYE = np.eye(4).tolist()
FLAT = np.diag([1.0, 1, 0, 1]).tolist()


@pytest.fixture
def refused(run, tmp_path):
    """Run `sparsegen` with an output in an empty folder and return its one sentence."""
    folder = tmp_path / "output"
    folder.mkdir()

    def call(*arguments, output=folder / "a.ply", turntable=True):
        more = ("--turntable", folder / "a.gif", "--json", folder / "a.json") if turntable else ()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code, out, err = run("sparsegen", *arguments, "-o", output, *more)
        assert (code, out) == (2, ""), err
        assert_one_sentence(err)
        assert list(folder.iterdir()) == []
        return err

    return call


def assert_one_sentence(text):
    assert text.endswith(".\n") and text.count("\n") == 1, text
    assert "Traceback" not in text
    words = text.split()
    ends = [a for a, b in zip(words, words[1:]) if a.endswith((".", "!", "?")) and b[0].isupper()]
    assert not ends, f"more than one sentence: {text}"


def test_an_empty_picture(refused, weights, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    assert "empty.png is empty (0 bytes)" in refused(tmp_path / "empty.png", "--weights", weights)
    np.save(tmp_path / "none.npy", np.zeros((0, 0, 3), np.float32))
    assert "[0, 0, 3]" in refused(tmp_path / "none.npy", "--weights", weights)


def test_seven_views(refused, weights, picture):
    said = refused(*[picture] * 7, "--azimuth", "0,50,100,150,200,250,300", "--weights", weights)
    assert "7 pictures" in said and "1 to 6" in said


@pytest.mark.parametrize("matrix", ["camera_to_world", "world_to_camera"])
def test_a_camera_with_zero_determinant(refused, weights, picture, tmp_path, matrix):
    (tmp_path / "cams.json").write_text(json.dumps({"cameras": [{matrix: EYE}, {matrix: FLAT}]}))
    said = refused(picture, picture, "--views", tmp_path / "cams.json", "--weights", weights)
    assert "camera 1" in said and "determinant 0" in said


def test_a_truncated_checkpoint(refused, weights, picture, tmp_path):
    data = weights.read_bytes()
    for length in (0, 4, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:length])
        assert "cut.safetensors" in refused(picture, "--weights", tmp_path / "cut.safetensors")
    torch.save({"diffuser": {"reconstructor.a": torch.zeros(1000)}, "iteration": 1}, tmp_path / "model.pth")
    data = (tmp_path / "model.pth").read_bytes()
    for length in (10, len(data) // 2, len(data) - 1):
        (tmp_path / "model.pth").write_bytes(data[:length])
        assert "model.pth" in refused(picture, "--weights", tmp_path / "model.pth")


class Attack:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_with_foreign_globals(refused, picture, tmp_path):
    trap = tmp_path / "executed"
    torch.save({"diffuser": Attack(trap), "iteration": 1}, tmp_path / "model.pth")
    said = refused(picture, "--weights", tmp_path / "model.pth")
    assert "model.pth" in said and "mkdir" in said
    torch.save({"diffuser": Attack(trap)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Attack(trap)))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Attack(trap)))
        archive.writestr("archive/version", "3\n")
    for name in ("old.pth", "bare.pth", "zip.pth"):
        assert name in refused(picture, "--weights", tmp_path / name)
    assert not trap.exists()


def test_weights_of_another_network(refused, picture, tmp_path):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}, tmp_path / "other.safetensors")
    said = refused(picture, "--weights", tmp_path / "other.safetensors")
    assert "other.safetensors does not fit SparseGen" in said
    assert "missing" in said and "model.diffusion_model.input_blocks.0.0.weight" in said


def test_weights_that_lack_a_key(refused, weights, picture, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file

    state = load_file(weights)
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    key = "reference_points.weight"
    save_file({k: v for k, v in state.items() if k != key}, tmp_path / "w.safetensors", metadata)
    assert key in refused(picture, "--weights", tmp_path / "w.safetensors")


def test_weights_that_are_not_there(refused, picture, tmp_path):
    assert "does not exist" in refused(picture, "--weights", tmp_path / "none.safetensors")


def test_pixels_that_are_no_numbers(refused, weights, tmp_path):
    array = np.full((32, 32, 3), 0.5, np.float32)
    array[3, 4] = np.nan
    np.save(tmp_path / "holes.npy", array)
    assert "3 values that are not finite" in refused(tmp_path / "holes.npy", "--weights", weights)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 64 KiB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip("mounting a tmpfs is not permitted here; test_a_file_size_limit_is_a_full_disk covers the same")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(run, weights, picture, small_disk):
    """The splats fit, the turntable does not: neither stays."""
    code, out, err = run("sparsegen", picture, "-o", small_disk / "a.ply", "--turntable", small_disk / "frames",
                         "--size", 256, "--frames", 40, "--weights", weights)  # fmt: skip
    assert (code, out) == (2, "") and "The disk is full" in err and str(small_disk) in err
    assert_one_sentence(err)
    assert list(small_disk.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file size limits")
def test_a_file_size_limit_is_a_full_disk(weights, picture, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "sys.dont_write_bytecode = True; from sightline.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "sparsegen", picture, "-o", folder / "a.ply", "--weights", weights]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and "The disk is full" in done.stderr
    assert_one_sentence(done.stderr)
    assert list(folder.iterdir()) == []


def test_outputs_that_cannot_be(refused, weights, picture, tmp_path):
    (tmp_path / "old.ply").write_bytes(b"old")
    for output, says in (
        (tmp_path / "old.ply", "exists"),
        (tmp_path / "none" / "a.ply", "does not exist"),
        (tmp_path / "a.obj", "does not end in"),
        (tmp_path, "does not end in"),
    ):
        assert says in refused(picture, "--weights", weights, output=output)
    assert (tmp_path / "old.ply").read_bytes() == b"old"
    said = refused(picture, "--weights", weights, "--turntable", tmp_path / "a.avi", turntable=False)
    assert ".avi" in said


def test_overwriting_only_when_asked(run, weights, picture, tmp_path):
    (tmp_path / "a.ply").write_bytes(b"old")
    code, _, _ = run("sparsegen", picture, "-o", tmp_path / "a.ply", "--weights", weights, "--overwrite")
    assert code == 0 and (tmp_path / "a.ply").read_bytes()[:3] == b"ply"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--azimuth", "0,90"), "2 values for 1 picture"),
        (("--azimuth", "north"), "'north'"),
        (("--elevation", "1,2,3"), "3 values for 1 picture"),
        (("--radius", "0"), "radius"),
        (("--steps", "0"), "--steps is 0"),
        (("--size", "100000"), "--size is 100000"),
        (("--frames", "0"), "--frames is 0"),
        (("--fps", "0"), "--fps is 0"),
        (("--virtual", "-1"), "--virtual is -1"),
        (("--noise-scale", "nan"), "`noise_scale` is nan"),
        (("--seed", "-1"), "`seed` -1"),
        (("--background", "rainbow"), "'rainbow'"),
        (("--device", "tpu"), "'tpu'"),
        (("--device", "cpu:x"), "'cpu:x'"),
        (("--views", "none.json"), "none.json does not exist"),
    ],
)
def test_options_out_of_range(refused, weights, picture, options, says):
    assert says in refused(picture, "--weights", weights, *options)


def test_several_pictures_need_their_angles(refused, weights, picture, tmp_path):
    assert "--azimuth" in refused(picture, picture, "--weights", weights)
    (tmp_path / "cams.json").write_text(json.dumps([{"azimuth": 0}]))
    assert "1 cameras for 2 pictures" in refused(
        picture, picture, "--views", tmp_path / "cams.json", "--weights", weights
    )
    said = refused(picture, "--views", tmp_path / "cams.json", "--azimuth", "0", "--weights", weights)
    assert "leave --azimuth" in said


def test_a_camera_of_another_lens(refused, weights, picture, tmp_path):
    (tmp_path / "cams.json").write_text(json.dumps({"fov": 30, "cameras": [{"azimuth": 0}]}))
    assert "field of view of 30.00" in refused(picture, "--views", tmp_path / "cams.json", "--weights", weights)
