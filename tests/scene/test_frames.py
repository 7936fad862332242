import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.scene import frames
from sightline.scene.cameras import Cameras, intrinsics_from_fov, orbit
from sightline.scene.errors import InputError
from sightline.scene.rotations import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_multiply,
    rotate_sh,
    sh_basis,
    sh_degree,
)

FOV = 51.98948897809546
unit = st.floats(-1, 1, allow_nan=False, width=32)
quaternions = st.tuples(unit, unit, unit, unit).filter(lambda q: math.hypot(*q) > 0.05)
vectors = st.tuples(*[st.floats(-5, 5, width=32)] * 3)


def cameras_of(quats, centers, width=64, height=48):
    rotation = matrix_from_quaternion(torch.tensor(quats, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64).repeat(len(quats), 1, 1)
    pose[:, :3, :3] = rotation
    pose[:, :3, 3:] = -rotation @ torch.tensor(centers, dtype=torch.float64)[..., None]
    return Cameras(pose, intrinsics_from_fov(FOV, width, height).expand(len(quats), 3, 3), width, height)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a.double(), b.double(), atol=tolerance, rtol=tolerance)


def same(a, b):
    close(a.world_to_camera, b.world_to_camera, 2e-5)
    close(a.intrinsics, b.intrinsics, 1e-3)
    assert (a.width, a.height) == (b.width, b.height)


ROUND_TRIPS = {
    "opencv": lambda c: frames.cameras_from_opencv(frames.cameras_to_opencv(c), c.intrinsics, c.width, c.height),
    "opengl": lambda c: frames.cameras_from_opengl(frames.cameras_to_opengl(c), c.intrinsics, c.width, c.height),
    "pytorch3d": lambda c: frames.cameras_from_pytorch3d_rt(
        *frames.pytorch3d_rt(c), c.width, c.height, intrinsics=c.intrinsics
    ),
    "pytorch3d by fov": lambda c: frames.cameras_from_pytorch3d_rt(*frames.pytorch3d_rt(c), c.width, c.height, fov=FOV),
    "colmap": lambda c: frames.cameras_from_colmap(*frames.colmap_qt(c), c.intrinsics, c.width, c.height),
    "srn": lambda c: frames.cameras_from_srn_pose(frames.srn_pose(c), c.width, c.height, float(c.intrinsics[0, 0, 0])),
    "load3d": lambda c: Cameras.cat(
        [frames.cameras_from_load3d(frames.load3d_camera(c, i), c.width, c.height) for i in range(len(c))]
    ),
    **{
        name: lambda c, name=name: frames.turn_cameras(frames.turn_cameras(c, "z_up", name), name, "z_up")
        for name in frames.WORLD_FRAMES
    },
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
@settings(max_examples=40, deadline=None)
@given(poses=st.lists(st.tuples(quaternions, vectors), min_size=1, max_size=3))
def test_cameras_survive_the_round_trip(name, poses):
    cameras = cameras_of(*zip(*poses))
    same(ROUND_TRIPS[name](cameras), cameras)


@settings(max_examples=40, deadline=None)
@given(quat=quaternions, center=vectors, point=vectors)
def test_each_convention_sees_a_point_where_its_own_axes_say(quat, center, point):
    cameras = cameras_of([quat], [center])
    world = torch.tensor(point, dtype=torch.float64)
    right, down, forward = (
        cameras.world_to_camera[0, :3, :3].double() @ world + cameras.world_to_camera[0, :3, 3]
    ).tolist()

    rotation, translation = frames.pytorch3d_rt(cameras)
    left, up, ahead = (world @ rotation[0].double() + translation[0]).tolist()
    assert (-left, -up, ahead) == pytest.approx((right, down, forward), abs=1e-4)

    inverse = torch.linalg.inv(frames.cameras_to_opengl(cameras)[0].double())
    x, y, z = (inverse[:3, :3] @ world + inverse[:3, 3]).tolist()
    assert (x, -y, -z) == pytest.approx((right, down, forward), abs=1e-4)

    qvec, tvec = frames.colmap_qt(cameras)
    seen = matrix_from_quaternion(qvec[0].double()) @ world + tvec[0]
    assert seen.tolist() == pytest.approx((right, down, forward), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(quat=quaternions, center=vectors, point=vectors, frame=st.sampled_from(sorted(frames.WORLD_FRAMES)))
def test_turning_world_and_points_together_changes_no_picture(quat, center, point, frame):
    cameras = cameras_of([quat], [center])
    world = torch.tensor([point])
    turned = frames.turn_cameras(cameras, "z_up", frame).project(frames.turn_points(world, "z_up", frame))[1]
    close(turned, cameras.project(world)[1], 1e-4)


def test_world_frames_are_what_their_names_say():
    up, front = torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0])
    assert frames.turn_points(up, "z_up", "y_up").tolist() == [0, 1, 0]
    assert frames.turn_points(up, "z_up", "y_down").tolist() == [0, -1, 0]
    assert frames.turn_points(front, "z_up", "y_up").tolist() == [1, 0, 0]
    assert frames.turn_points(up, "z_up", "y_up_front").tolist() == [0, 1, 0]
    assert frames.turn_points(front, "z_up", "y_up_front").tolist() == [0, 0, 1]
    assert frames.turn_points(up, "z_up", "y_down_front").tolist() == [0, -1, 0]
    assert frames.turn_points(front, "z_up", "y_down_front").tolist() == [0, 0, -1]
    # y_up <-> y_down is a half turn about x, what viewers of splat files do
    assert frames.turn_points(torch.tensor([1.0, 2, 3]), "y_up", "y_down").tolist() == [1, -2, -3]
    for source in frames.WORLD_FRAMES:
        for target in frames.WORLD_FRAMES:
            matrix = frames.world_rotation(source, target)
            assert torch.linalg.det(matrix) == pytest.approx(1)
            close(matrix @ frames.world_rotation(target, source), torch.eye(3))
    with pytest.raises(InputError, match="unknown"):
        frames.world_rotation("z_up", "up")


def test_srn_pose_is_what_the_files_of_the_data_set_hold():
    """A camera at (0, -1.3, 0) looking at the origin: columns are right, down, forward, center."""
    text = "1 0 0 0 0 0 1 -1.3 0 -1 0 0 0 0 0 1"
    cameras = frames.cameras_from_srn_pose(frames.parse_srn_pose(text))
    close(cameras.centers[0], torch.tensor([0, -1.3, 0]))
    close(cameras.world_to_camera, orbit(-90, 0, 1.3, FOV, 128, 128).world_to_camera)
    close(cameras.intrinsics, intrinsics_from_fov(FOV, 128, 128), 1e-4)
    # PyTorch3D's T = -R^T c of the published reader, R = pose with its first two columns negated
    rotation, translation = frames.pytorch3d_rt(cameras)
    close(rotation[0], torch.tensor([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    close(translation[0], torch.tensor([0, 0, 1.3]))
    for wrong in ("1 2 3", "a " * 16, ""):
        with pytest.raises(InputError, match="16 numbers"):
            frames.parse_srn_pose(wrong)


def test_load3d_camera_of_a_known_view():
    camera = frames.load3d_camera(orbit(0, 0, 2.0, 60, 100, 50))
    assert camera["position"] == pytest.approx({"x": 2, "y": 0, "z": 0}, abs=1e-6)
    assert camera["target"] == pytest.approx({"x": 0, "y": 0, "z": 0}, abs=1e-6)
    half = math.sqrt(0.5)  # three.js: a quarter turn about Y lets -Z point to -X
    assert camera["quaternion"] == pytest.approx({"x": 0, "y": half, "z": 0, "w": half}, abs=1e-6)
    assert camera["fov"] == pytest.approx(2 * math.degrees(math.atan(math.tan(math.radians(30)) / 2)), abs=1e-4)
    assert camera["cameraType"] == "perspective" and camera["aspect"] == 2


@settings(max_examples=40, deadline=None)
@given(azimuth=st.floats(-180, 180), elevation=st.floats(-85, 85), distance=st.floats(0.5, 20))
def test_load3d_target_alone_gives_the_same_camera(azimuth, elevation, distance):
    cameras = orbit(azimuth, elevation, distance, 40, 64, 64)
    camera = frames.load3d_camera(cameras)
    del camera["quaternion"]
    same(frames.cameras_from_load3d(camera, 64, 64), cameras)


def test_load3d_zoom_is_a_longer_focal_length():
    camera = frames.load3d_camera(orbit(0, 0, 2.0, 60, 64, 64)) | {"zoom": 2.0}
    assert float(frames.cameras_from_load3d(camera, 64, 64).intrinsics[0, 0, 0]) == pytest.approx(
        64 / math.tan(math.radians(30)), rel=1e-5
    )


def test_load3d_refuses_what_it_cannot_use():
    good = frames.load3d_camera(orbit(0, 0, 2.0, 60, 64, 64))
    at_target = good | {"quaternion": None, "target": good["position"]}
    for wrong, says in (
        (good | {"cameraType": "orthographic"}, "perspective"),
        (good | {"fov": 190}, "fov"),
        (good | {"zoom": -1}, "zoom"),
        ({"quaternion": good["quaternion"]}, "position"),
        (good | {"position": {"x": float("nan"), "y": 0, "z": 0}}, "finite"),
        (good | {"quaternion": {"x": 0, "y": 0, "z": 0, "w": 0}}, "zero"),
        (at_target, "looks at"),
    ):
        with pytest.raises(InputError, match=says):
            frames.cameras_from_load3d(wrong, 64, 64)


def test_matrices_of_wrong_shape_are_refused():
    k = intrinsics_from_fov(FOV, 64, 64)
    with pytest.raises(InputError):
        frames.cameras_from_opencv(torch.zeros(2, 3, 4), k, 64, 64)
    with pytest.raises(InputError, match="determinant 0"):
        frames.cameras_from_opengl(torch.diag(torch.tensor([1.0, 1, 0, 1]))[None], k, 64, 64)
    with pytest.raises(InputError):
        frames.cameras_from_pytorch3d_rt(torch.eye(3)[None], torch.zeros(2, 3), 64, 64, fov=FOV)
    with pytest.raises(InputError, match="either"):
        frames.cameras_from_pytorch3d_rt(torch.eye(3)[None], torch.zeros(1, 3), 64, 64)
    with pytest.raises(InputError):
        frames.cameras_from_colmap(torch.ones(2, 4), torch.zeros(1, 3), k, 64, 64)


# ---- rotations ---------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(q=quaternions)
def test_quaternions_and_matrices_are_two_names_of_a_rotation(q):
    matrix = matrix_from_quaternion(torch.tensor(q, dtype=torch.float64))
    close(matrix @ matrix.mT, torch.eye(3), 1e-12)
    assert torch.linalg.det(matrix) == pytest.approx(1)
    back = quaternion_from_matrix(matrix)
    assert back[0] >= 0 and back.norm() == pytest.approx(1)
    close(matrix_from_quaternion(back), matrix, 1e-9)


def test_half_turns_have_quaternions():
    for axis in torch.eye(3, dtype=torch.float64):
        matrix = 2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64)
        close(matrix_from_quaternion(quaternion_from_matrix(matrix)), matrix)


@settings(max_examples=50, deadline=None)
@given(p=quaternions, q=quaternions)
def test_products_of_quaternions_compose_rotations(p, q):
    p, q = (torch.nn.functional.normalize(torch.tensor(v, dtype=torch.float64), dim=0) for v in (p, q))
    close(
        matrix_from_quaternion(quaternion_multiply(p, q)), matrix_from_quaternion(p) @ matrix_from_quaternion(q), 1e-9
    )


def test_harmonics_are_those_of_3dgs():
    """Against the published constants of degrees 0 to 3, with their signs."""
    d = torch.nn.functional.normalize(
        torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    x, y, z = d.unbind(-1)
    expected = torch.stack(
        [
            0.28209479177387814 * torch.ones_like(x),
            -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
            1.0925484305920792 * x * y, -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y),
            -0.5900435899266435 * y * (3 * x * x - y * y), 2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y), -0.5900435899266435 * x * (x * x - 3 * y * y),
        ],
        dim=-1,
    )  # fmt: skip
    close(sh_basis(d, 3), expected, 1e-12)


def test_harmonics_are_orthonormal_up_to_degree_four():
    """Integrated over the sphere by Gauss-Legendre in z and equal steps in angle, exact for these polynomials."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(8)
    angle = torch.arange(16, dtype=torch.float64) * math.pi / 8
    z = torch.tensor(nodes)[:, None].expand(8, 16)
    ring = (1 - z**2).sqrt()
    d = torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=-1).reshape(-1, 3)
    w = (torch.tensor(weights)[:, None].expand(8, 16) * math.pi / 8).reshape(-1)
    basis = sh_basis(d, 4)
    close(basis.mT @ (basis * w[:, None]), torch.eye(25), 1e-10)


@settings(max_examples=30, deadline=None)
@given(q=quaternions, degree=st.integers(0, 4), seed=st.integers(0, 1000))
def test_rotated_harmonics_are_the_function_on_rotated_directions(q, degree, seed):
    generator = torch.Generator().manual_seed(seed)
    rotation = matrix_from_quaternion(torch.tensor(q, dtype=torch.float64))
    sh = torch.randn(2, (degree + 1) ** 2, 3, dtype=torch.float64, generator=generator)
    d = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64, generator=generator), dim=-1)
    before = torch.einsum("dk,nkc->ndc", sh_basis(d, degree), sh)
    after = torch.einsum("dk,nkc->ndc", sh_basis(d @ rotation.mT, degree), rotate_sh(sh, rotation))
    close(after, before, 1e-9)


def test_counts_of_harmonics():
    assert [sh_degree(n) for n in (1, 4, 9, 16, 25)] == [0, 1, 2, 3, 4]
    for wrong in (0, 2, 3, 15, 36):
        with pytest.raises(InputError):
            sh_degree(wrong)
    with pytest.raises(InputError):
        sh_basis(torch.zeros(1, 3), 5)
