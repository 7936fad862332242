import json

import pytest
import torch

from sightline.scene.camera_files import parse_cameras, read_cameras, read_views
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError
from sightline.scene.frames import cameras_to_opengl, load3d_camera

FOV = 51.98948897809546
ORBIT = orbit([0, 90], [20, 10], [1.3, 2], FOV, 64, 64)


def matrices(tensor):
    return [m.tolist() for m in tensor]


def load3d():
    return [load3d_camera(ORBIT, i) for i in range(2)]


FORMS = {
    "angles": {"cameras": [{"azimuth": 0}, {"azimuth": 90, "elevation": 10, "radius": 2}]},
    "a bare list": [{"azimuth": 0}, {"azimuth": 90, "elevation": 10, "radius": 2}],
    "camera to world": {"cameras": [{"camera_to_world": m} for m in matrices(ORBIT.camera_to_world)]},
    "opengl axes": {"cameras": [{"camera_to_world": m, "axes": "opengl"} for m in matrices(cameras_to_opengl(ORBIT))]},
    "world to camera": {"cameras": [{"world_to_camera": m} for m in matrices(ORBIT.world_to_camera)]},
    "load3d": {"cameras": load3d()},
    "mixed": {"cameras": [{"azimuth": 0}, load3d()[1]]},
    "transforms.json": {
        "camera_angle_x": 0.9073877617,
        "frames": [{"file_path": "a.png", "transform_matrix": m} for m in matrices(cameras_to_opengl(ORBIT))],
    },
}


@pytest.mark.parametrize("name", FORMS)
def test_all_forms_name_the_same_cameras(tmp_path, name):
    (tmp_path / "cams.json").write_text(json.dumps(FORMS[name]))
    cameras, virtual = read_cameras(tmp_path / "cams.json", 64, FOV)
    assert virtual is None
    torch.testing.assert_close(cameras.world_to_camera, ORBIT.world_to_camera, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cameras.intrinsics, ORBIT.intrinsics, atol=1e-3, rtol=1e-4)


def test_virtual_cameras_and_fields_of_view():
    cameras, virtual = parse_cameras(
        {"fov": 40, "cameras": [{"azimuth": 0}], "virtual": [{"azimuth": 5, "fov": 60}]}, 64, FOV
    )
    assert cameras.fov_x.item() == pytest.approx(40, abs=1e-3) and virtual.fov_x.item() == pytest.approx(60, abs=1e-3)
    assert len(parse_cameras({"cameras": [{"azimuth": 0}], "virtual": []}, 64, FOV)[1]) == 0


@pytest.mark.parametrize(
    "document",
    [
        [{"azimuth": 0, "image": "a.png"}, {"azimuth": 90, "file": "sub/b.png"}],
        {"cameras": [{"azimuth": 0, "image": "./a.png"}, {"azimuth": 90, "file_path": "sub/../sub/b.png"}]},
    ],
)
def test_views_name_their_pictures(tmp_path, document):
    (tmp_path / "views.json").write_text(json.dumps(document))
    files, cameras = read_views(tmp_path / "views.json", 64, FOV)
    assert files == [tmp_path.resolve() / "a.png", tmp_path.resolve() / "sub" / "b.png"] and len(cameras) == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../a.png", "outside"),
        ("/etc/passwd", "outside"),
        ("", "names no picture"),
        (5, "names no picture"),
        ("a\0", "zero byte"),
    ],
)
def test_views_do_not_leave_their_folder(tmp_path, name, says):
    (tmp_path / "views.json").write_text(json.dumps([{"azimuth": 0, "image": name}]))
    with pytest.raises(InputError, match=says):
        read_views(tmp_path / "views.json", 64, FOV)


EYE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
FLAT = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            {"cameras": [{"azimuth": 0}, {"world_to_camera": FLAT}]},
            "camera 1 of `cameras` has a pose that is not a rotation .determinant 0",
        ),
        ({"cameras": [{"camera_to_world": FLAT}]}, "determinant 0"),
        ({"frames": [{"transform_matrix": FLAT}]}, "determinant 0"),
        ({"cameras": [{"camera_to_world": EYE, "axes": "left"}]}, "`axes` is 'left'"),
        ({"cameras": [{"camera_to_world": EYE, "axes": []}]}, "`axes`"),
        ({"cameras": [{"camera_to_world": EYE[:3]}]}, "no 4x4 matrix"),
        ({"cameras": [{"camera_to_world": [[1, 2, 3, "x"]] * 4}]}, "must be a number"),
        ({"cameras": [{"camera_to_world": [[1, 2, 3, True]] * 4}]}, "must be a number"),
        ({"cameras": [{"azimuth": None}]}, "`azimuth` is 'None'"),
        ({"cameras": [{"azimuth": 1e400}]}, "must be a number"),
        ({"cameras": [{"azimuth": 0, "radius": 0}]}, "radius"),
        ({"cameras": [{"azimuth": 0, "fov": 200}]}, "field of view"),
        ({"cameras": [{"elevation": 0}]}, "give one of them"),
        ({"cameras": [5]}, "is not an object"),
        ({"cameras": []}, "missing or empty"),
        ({}, "missing or empty"),
        ({"frames": []}, "`frames`"),
        ({"frames": [7]}, "`transform_matrix` of frame 0"),
        ({"cameras": [{"azimuth": 0}] * 10_001}, "at most"),
        ({"cameras": [{"position": {"x": 1, "y": 0, "z": 0}, "cameraType": "orthographic"}]}, "is orthographic"),
        ("text", "neither a list"),
    ],
)
def test_wrong_cameras_are_named(tmp_path, document, says):
    (tmp_path / "cams.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=says) as error:
        read_cameras(tmp_path / "cams.json", 64, FOV)
    assert str(error.value).startswith(str(tmp_path / "cams.json")) and "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path, data):
    (tmp_path / "cams.json").write_bytes(data)
    with pytest.raises(InputError):
        read_cameras(tmp_path / "cams.json", 64, FOV)
