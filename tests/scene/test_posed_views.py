import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.kernels.projection import front_camera, posed_uv
from sightline.scene.cameras import Cameras, intrinsics_from_fov, orbit
from sightline.scene.errors import InputError
from sightline.scene.frames import cameras_to_opengl, rotate_cameras, rotation_about_z
from sightline.scene.posed_views import (
    RIG_DISTANCE,
    RIG_FOV,
    four_view_rig,
    front_aligned,
    on_black,
    read_transforms,
    rig_views,
)

CAMERAS = orbit([20, 110, 230], [10, 0, 40], [2.0, 2.5, 3.0], 30, 64, 64)
POINTS = torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def picture(path, size=(64, 64), opaque=False):
    rgba = np.zeros((size[1], size[0], 4), np.uint8)
    rgba[size[1] // 4 : -size[1] // 4, size[0] // 4 : -size[0] // 4] = (200, 100, 50, 255)
    if opaque:
        rgba[..., 3] = 255
    Image.fromarray(rgba).save(path)


@pytest.fixture
def folder(tmp_path):
    """write(document or changes of the first frame, ...) -> path of a transforms.json with its pictures."""

    def write(frame=None, **changes):
        matrices = cameras_to_opengl(CAMERAS)
        frames = [{"file_path": f"{i}.png", "transform_matrix": m.tolist()} for i, m in enumerate(matrices)]
        for i in range(len(frames)):
            picture(tmp_path / f"{i}.png")
        frames[0].update(frame or {})
        document = {"camera_angle_x": math.radians(30), "frames": frames, **changes}
        path = tmp_path / "transforms.json"
        path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
        return path

    return write


def test_the_first_camera_stands_in_front():
    aligned = front_aligned(CAMERAS)
    front = front_camera(math.radians(30), 2.0, 64)
    torch.testing.assert_close(aligned.world_to_camera[:1], front.world_to_camera, atol=1e-6, rtol=0)
    torch.testing.assert_close(aligned.intrinsics[:1], front.intrinsics, atol=1e-4, rtol=0)
    # the views keep their places among themselves
    between = CAMERAS.world_to_camera[2] @ torch.linalg.inv(CAMERAS.world_to_camera[0])
    torch.testing.assert_close(aligned.world_to_camera[2], between @ aligned.world_to_camera[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(aligned.centers.norm(dim=1), CAMERAS.centers.norm(dim=1))


def test_the_world_of_the_file_does_not_matter():
    tilted = torch.linalg.qr(torch.rand(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    tilted = tilted * torch.linalg.det(tilted)
    for turn in (rotation_about_z(77), tilted):
        turned = front_aligned(rotate_cameras(CAMERAS, turn))
        torch.testing.assert_close(turned.world_to_camera, front_aligned(CAMERAS).world_to_camera, atol=1e-5, rtol=0)


def test_reading(folder):
    views = read_transforms(folder(mesh_scale=1.5))
    assert views.mesh_scale == 1.5 and [f.name for f in views.files] == ["0.png", "1.png", "2.png"]
    assert [p.shape for p in views.pictures] == [(64, 64, 3)] * 3 and views.pictures[0][32, 32].tolist() == [
        200,
        100,
        50,
    ]
    assert views.pictures[0][0, 0].tolist() == [0, 0, 0]
    torch.testing.assert_close(views.cameras.world_to_camera, front_aligned(CAMERAS).world_to_camera, atol=1e-5, rtol=0)
    torch.testing.assert_close(views.cameras.fov_x, torch.full((3,), 30.0), atol=1e-3, rtol=0)
    assert read_transforms(folder()).mesh_scale is None


def test_one_view_sees_what_the_front_camera_sees(folder):
    views = read_transforms(folder(mesh_scale=1.5))
    uv, depth = posed_uv(POINTS, views.cameras[:1], 1.5)
    expected, deep = posed_uv(POINTS, front_camera(math.radians(30), 2.0, 64), 1.5)
    torch.testing.assert_close(uv, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, deep, atol=1e-5, rtol=0)


def test_lenses_per_frame_and_pictures_that_are_not_square(folder, tmp_path):
    path = folder({"fl_x": 100, "fl_y": 90, "cx": 40, "cy": 30, "w": 96, "h": 48})
    picture(tmp_path / "0.png", (96, 48))
    views = read_transforms(path)
    assert (
        views.pictures[0].shape == (96, 96, 3)
        and not views.pictures[0][:24].any()
        and not views.pictures[0][-24:].any()
    )
    first = views.cameras[0].resized(96, 96).intrinsics[0]
    torch.testing.assert_close(first, torch.tensor([[100.0, 0, 40], [0, 90, 30 + 24], [0, 0, 1]]))
    torch.testing.assert_close(views.cameras.fov_x[1:], torch.full((2,), 30.0), atol=1e-3, rtol=0)
    # the same point of the object falls on the same pixel of the picture before and after padding
    padded = views.cameras[0].resized(96, 96)
    wide = Cameras(padded.world_to_camera, torch.tensor([[[100.0, 0, 40], [0, 90, 30], [0, 0, 1]]]), 96, 48)
    uv, _ = wide.project(POINTS)
    torch.testing.assert_close(padded.project(POINTS)[0], uv + torch.tensor([0.0, 24.0]), atol=1e-3, rtol=0)


def test_numbers_of_a_smaller_or_larger_picture_are_scaled(folder):
    views = read_transforms(folder({"fl_x": 200, "cx": 60, "cy": 64, "w": 128, "h": 128}))
    first = views.cameras.intrinsics[0]
    torch.testing.assert_close(first, torch.tensor([[100.0, 0, 30], [0, 100, 32], [0, 0, 1]]))


def test_blender_leaves_the_suffix_out(folder):
    assert read_transforms(folder({"file_path": "./0"})).files[0].name == "0.png"


@pytest.mark.parametrize(
    ("frame", "document", "says"),
    [
        ({"file_path": "../0.png"}, {}, "frame 0: .*outside"),
        ({"file_path": "/etc/passwd"}, {}, "outside"),
        ({"file_path": 7}, {}, "names no picture"),
        ({"file_path": "none.png"}, {}, "none.png does not exist"),
        ({"transform_matrix": None}, {}, "no 4x4 matrix"),
        ({"transform_matrix": np.diag([1.0, 1, 0, 1]).tolist()}, {}, "determinant 0"),
        ({"transform_matrix": np.eye(4).tolist()}, {}, "stands at the origin"),
        ({}, {"camera_angle_x": None}, "neither `camera_angle_x` nor `fl_x`"),
        ({}, {"camera_angle_x": 0}, "between 0 and pi"),
        ({}, {"camera_angle_x": 3.2}, "between 0 and pi"),
        ({"fl_x": -5}, {}, "focal length is -5"),
        ({"w": 128, "h": 64}, {}, "128x64, but the picture is 64x64"),
        ({"k1": 0.1}, {}, "undistort"),
        ({}, {"mesh_scale": 0}, "mesh_scale"),
        ({}, {"frames": []}, "`frames` is missing or empty"),
        ({}, {"frames": [5]}, "frame 0: is not an object"),
        ({}, {"frames": [{}] * 65}, "at most 64"),
    ],
)
def test_wrong_files_are_named(folder, frame, document, says):
    path = folder(frame, **document)
    with pytest.raises(InputError, match=says) as error:
        read_transforms(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_no_json(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="a.json: it is not JSON"):
        read_transforms(tmp_path / "a.json")


def test_backgrounds(tmp_path):
    clear = np.zeros((8, 8, 4), np.uint8)
    with pytest.raises(InputError, match="nothing is selected"):
        on_black(clear)
    with pytest.raises(InputError, match="remove its background"):
        on_black(np.full((8, 8, 4), 255, np.uint8))
    half = np.full((8, 8, 4), (200, 100, 40, 255), np.uint8)
    half[:4, :, 3] = 127
    assert on_black(half)[0, 0].tolist() == [99, 49, 19]
    opaque = np.zeros((8, 8, 4), np.uint8)
    opaque[..., 3] = 255
    opaque[2:6, 2:6, 0] = 90
    assert on_black(opaque).sum() == 16 * 90


def test_the_rig():
    rig = four_view_rig(64)
    front = front_camera(math.radians(RIG_FOV), RIG_DISTANCE, 64)
    torch.testing.assert_close(rig.world_to_camera[:1], front.world_to_camera, atol=1e-6, rtol=0)
    torch.testing.assert_close(rig.intrinsics, intrinsics_from_fov(RIG_FOV, 64, 64).expand(4, 3, 3))
    x = torch.tensor([[0.9, 0.0, 0.0]])  # on the right in the front picture
    (front, right, back, left), depth = posed_uv(x, rig)
    assert front[0, 0] > 40 and back[0, 0] < 24 and right[0, 0] == pytest.approx(32, abs=1e-3)
    assert depth[1, 0] < RIG_DISTANCE < depth[3, 0]  # nearest to the camera on the right
    assert RIG_DISTANCE == pytest.approx(1.1 * 0.5 / math.tan(math.radians(RIG_FOV) / 2), rel=1e-3)
    for count in (0, 5):
        with pytest.raises(InputError, match="front, right, back, left"):
            four_view_rig(64, count)
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[4:12, 4:12] = 255
    views = rig_views([rgba] * 3)
    assert len(views.pictures) == len(views.cameras) == 3 and views.mesh_scale is None
