"""COLMAP models: text and binary say the same, and what is wrong is answered by one sentence."""

import struct

import numpy as np
import pytest
from scene_captures import model

from sightline.scene.colmap import CAMERA_MODELS, ColmapCamera, encode_colmap, has_colmap, read_colmap, read_points
from sightline.scene.errors import InputError


def written(folder, parsed, binary=False):
    for name, data in encode_colmap(parsed, binary).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("binary", [False, True])
def test_round_trip(tmp_path, binary):
    given = model()
    found = read_colmap(written(tmp_path, given, binary))
    assert found.cameras == given.cameras and found.images == given.images
    for name in ("xyz", "rgb", "error", "track"):
        np.testing.assert_array_equal(getattr(found.points, name), getattr(given.points, name))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", list(CAMERA_MODELS))
def test_every_camera_model(tmp_path, name, binary):
    camera = ColmapCamera(name, 64, 48, tuple(40.0 + i for i in range(CAMERA_MODELS[name][1])))
    found = read_colmap(written(tmp_path, model(2, camera), binary), points=False)
    assert found.cameras[1] == camera and found.points is None


def test_names_with_spaces_and_missing_observations(tmp_path):
    written(tmp_path, model(1))
    pose = "1 0 0 0 0 0 0 1 a folder/my photo.png"
    (tmp_path / "images.txt").write_text(f"# head\n1 {pose}\n\n2 {pose}\n1.0 2.0 -1 3.0 4.0 7\n3 {pose}\n")
    assert [image.name for image in read_colmap(tmp_path).images] == ["a folder/my photo.png"] * 3


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("images.txt", "# nothing\n", "lists no image"),
        ("images.txt", "1 1 0 0 0 0 0 0 9 a.png\n\n", "names camera 9"),
        ("images.txt", "1 1 0 0 0 0 nan 0 1 a.png\n\n", "not finite"),
        ("images.txt", "1 0 0 0 0 0 0 0 1 a.png\n\n", "rotation of length 0"),
        ("images.txt", "1 1 0 0 0\n", "5 fields"),
        ("cameras.txt", "1 WARPED 4 4 1 1 1\n", "camera model 'WARPED'"),
        ("cameras.txt", "1 PINHOLE 4 4 1 1\n", "2 parameters"),
        ("cameras.txt", "1 PINHOLE 4 4 0 1 1 1\n", "focal length"),
        ("cameras.txt", "1 PINHOLE x 4 1 1 1 1\n", "whole number"),
        ("points3D.txt", "1 0 0 nan 1 1 1 0.5\n", "not finite"),
        ("points3D.txt", "1 0 0\n", "3 fields"),
        ("points3D.txt", "", "is empty"),
    ],
)
def test_bad_text(tmp_path, file, text, complaint):
    written(tmp_path, model(1))
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=complaint) as error:
        read_colmap(tmp_path)
    assert "\n" not in str(error.value)


def test_bad_binary(tmp_path):
    written(tmp_path, model(2), binary=True)
    whole = (tmp_path / "points3D.bin").read_bytes()
    for data, complaint in [
        (whole[:100], "cut short"),
        (struct.pack("<Q", 1 << 60), "announces"),
        (struct.pack("<QQ3d3BdQ", 1, 1, 0, 0, float("nan"), 1, 1, 1, 0.5, 0), "not finite"),
    ]:
        (tmp_path / "points3D.bin").write_bytes(data)
        with pytest.raises(InputError, match=complaint):
            read_points(tmp_path)
    (tmp_path / "images.bin").write_bytes(struct.pack("<Qi7di", 1, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"x" * 5000)
    with pytest.raises(InputError, match="without an end"):
        read_colmap(tmp_path)


def test_missing_files(tmp_path):
    assert not has_colmap(tmp_path)
    with pytest.raises(InputError, match="neither cameras.txt nor cameras.bin"):
        read_colmap(tmp_path)
