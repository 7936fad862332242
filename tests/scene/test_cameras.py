import math

import pytest
import torch

from sightline.scene.cameras import Cameras, focal_from_fov, intrinsics_from_fov, look_at, orbit, turntable
from sightline.scene.errors import InputError

FOV = 51.98948897809546


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(torch.as_tensor(a).float(), torch.as_tensor(b).float(), atol=tolerance, rtol=tolerance)


def test_orbit_stands_where_its_angles_say():
    cameras = orbit([0, 90, 180, 0], [0, 0, 0, 30], 2.0, FOV, 64, 64, target=(1, 2, 3))
    half = math.radians(30)
    expected = [[2, 0, 0], [0, 2, 0], [-2, 0, 0], [2 * math.cos(half), 0, 2 * math.sin(half)]]
    close(cameras.centers, torch.tensor(expected) + torch.tensor([1.0, 2, 3]))


def test_orbit_looks_at_its_target_with_z_upwards():
    cameras = orbit([0, 37, 200], [10, -40, 80], 1.3, FOV, 100, 80)
    pixels, depths = cameras.project(torch.tensor([[0.0, 0, 0], [0, 0, 0.1]]))
    close(pixels[:, 0], torch.tensor([[50.0, 40]]).expand(3, 2), 1e-3)
    close(depths[:, 0], [1.3] * 3)
    assert (pixels[:, 1, 1] < 40).all()  # what is higher in the world is higher in the picture
    close(pixels[:, 1, 0], [50.0] * 3, 1e-3)


def test_from_the_front_y_is_to_the_right():
    pixels, _ = orbit(0, 0, 1.3, FOV, 64, 64).project(torch.tensor([[0.0, 0.1, 0.0]]))
    assert pixels[0, 0, 0] > 32 and abs(pixels[0, 0, 1] - 32) < 1e-3


def test_the_pole_has_a_camera():
    cameras = orbit([0, 90], 90, 1.3, FOV, 64, 64)
    pixels, _ = cameras.project(torch.tensor([[0.1, 0.0, 0.0]]))
    close(cameras.centers, [[0, 0, 1.3]] * 2)
    assert pixels[0, 0, 1] > 32  # the limit of its meridian: +X points down
    assert pixels[1, 0, 0] < 32


def test_turntable_is_a_full_turn_without_its_end():
    cameras = turntable(4, 20, 1.3, FOV, 64, 64, start=10)
    close(cameras.world_to_camera, orbit([10, 100, 190, 280], 20, 1.3, FOV, 64, 64).world_to_camera)


def test_look_at_equals_orbit():
    ours = orbit([20, 130], [15, -60], 1.3, FOV, 64, 48)
    other = look_at(ours.centers, (0, 0, 0), FOV, 64, 48)
    close(other.world_to_camera, ours.world_to_camera, 1e-5)


def test_look_at_along_up_still_has_a_camera():
    pixels, depths = look_at((0, 0, 5), (0, 0, 0), FOV, 64, 64).project(torch.zeros(1, 3))
    close(pixels[0, 0], [32, 32])
    close(depths[0, 0], 5)


def test_look_at_refuses_standing_at_the_target():
    with pytest.raises(InputError, match="stands at the point"):
        look_at((1, 1, 1), (1, 1, 1), FOV, 64, 64)


def test_focal_length_of_the_published_data():
    assert focal_from_fov(FOV, 128) == pytest.approx(131.25, abs=1e-4)
    close(intrinsics_from_fov(FOV, 128, 128)[0], [[131.25, 0, 64], [0, 131.25, 64], [0, 0, 1]], 1e-4)


def test_fov_properties_return_what_was_asked_for():
    cameras = orbit(0, 0, 1.3, [40, 60], 100, 50)
    close(cameras.fov_x, [40, 60], 1e-3)
    close(cameras.fov_y, [2 * math.degrees(math.atan(math.tan(math.radians(f / 2)) / 2)) for f in (40, 60)], 1e-3)


def test_project_and_unproject_are_inverse():
    cameras = orbit([0, 77], [20, -10], 1.3, FOV, 64, 48)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    back = cameras.unproject(*cameras.project(points))
    close(back, points.expand(2, 50, 3))


def test_resizing_keeps_the_field_of_view_and_moves_pixels_along():
    cameras = orbit(30, 20, 1.3, FOV, 128, 128)
    small = cameras.resized(32, 64)
    point = torch.tensor([[0.1, 0.2, -0.1]])
    close(small.project(point)[0], cameras.project(point)[0] * torch.tensor([0.25, 0.5]))
    assert (small.width, small.height) == (32, 64)
    close(small.fov_x, cameras.fov_x, 1e-4)


def test_camera_to_world_is_the_inverse():
    cameras = orbit([0, 77], [20, -10], 1.3, FOV, 64, 48)
    close(cameras.camera_to_world @ cameras.world_to_camera, torch.eye(4).expand(2, 4, 4))


def test_indexing_always_gives_cameras():
    cameras = orbit([0, 90, 180], 0, 1.3, FOV, 64, 64)
    for index, wanted in ((1, [1]), (-1, [2]), (slice(1, 3), [1, 2]), ([2, 0], [2, 0]), (torch.tensor([0]), [0])):
        part = cameras[index]
        assert isinstance(part, Cameras)
        close(part.centers, cameras.centers[wanted])
    assert len(cameras[:0]) == 0
    assert [len(one) for one in cameras] == [1, 1, 1]
    with pytest.raises(IndexError):
        cameras[3]


def test_cat_joins_and_refuses_other_sizes():
    a, b = orbit([0, 90], 0, 1.3, FOV, 64, 64), orbit(45, 0, 1.3, FOV, 64, 64)
    assert len(Cameras.cat([a, b])) == 3
    with pytest.raises(InputError, match="different picture sizes"):
        Cameras.cat([a, b.resized(32, 32)])
    with pytest.raises(InputError):
        Cameras.cat([])


def test_poses_keep_gradients():
    cameras = orbit(0, 20, 1.3, FOV, 64, 64)
    pose = cameras.world_to_camera.clone().requires_grad_()
    Cameras(pose, cameras.intrinsics, 64, 64).centers.sum().backward()
    assert pose.grad.abs().sum() > 0


def broken(change):
    pose = orbit([0, 90], 20, 1.3, FOV, 64, 64).world_to_camera.clone()
    change(pose)
    return pose


def zero(pose):
    pose[1, :3, :3] = 0


def mirror(pose):
    pose[1, 0] *= -1


def scale(pose):
    pose[1, :3] *= 2


def nan(pose):
    pose[1, 0, 0] = float("nan")


def last_row(pose):
    pose[1, 3, 0] = 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (zero, "not a rotation (determinant 0)"),
        (mirror, "not a rotation (determinant -1)"),
        (scale, "not a rotation (determinant 8)"),
        (nan, "not finite"),
        (last_row, "must be 0 0 0 1"),
    ],
)
def test_a_pose_that_is_none_is_refused_by_number(change, says):
    good = intrinsics_from_fov([FOV, FOV], 64, 64)
    with pytest.raises(InputError) as error:
        Cameras(broken(change), good, 64, 64)
    assert str(error.value).startswith("Camera 1 ") and says in str(error.value)


def test_other_wrong_cameras_are_refused():
    good = orbit([0, 90], 20, 1.3, FOV, 64, 64)
    for arguments in (
        (good.world_to_camera[0], good.intrinsics, 64, 64),
        (good.world_to_camera, good.intrinsics[:1], 64, 64),
        (good.world_to_camera, good.intrinsics * 0, 64, 64),
        (good.world_to_camera, good.intrinsics / 0, 64, 64),
        (good.world_to_camera, good.intrinsics, 0, 64),
    ):
        with pytest.raises(InputError):
            Cameras(*arguments)
    for arguments in ((0, 0, 0), (0, 0, -1), (float("nan"), 0, 1), ([0, 1], [0, 1, 2], 1), ([], 0, 1)):
        with pytest.raises(InputError):
            orbit(*arguments, FOV, 64, 64)
    for fov in (0, 180, -5):
        with pytest.raises(InputError, match="field of view"):
            orbit(0, 0, 1, fov, 64, 64)
    with pytest.raises(InputError):
        turntable(0, 20, 1.3, FOV, 64, 64)
