"""Captures: every layout is found and read, alignment undoes any COLMAP world, bad folders get one sentence."""

import json

import numpy as np
import pytest
from PIL import Image
from scene_captures import model, room_points, write_capture

from sightline.scene.alignment import align_scene, estimate_alignment
from sightline.scene.captures import PointFilter, find_layout, read_capture
from sightline.scene.colmap import ColmapCamera, ColmapImage, ColmapModel
from sightline.scene.errors import InputError
from sightline.scene.point_filters import encode_points
from sightline.scene.scene_photos import photos_from_cameras


@pytest.mark.parametrize("binary", [False, True])
def test_colmap_folder(tmp_path, binary):
    scene = read_capture(write_capture(tmp_path, model(), binary))
    assert find_layout(tmp_path) == "colmap" and len(scene) == 6 and len(scene.points) == 1500
    np.testing.assert_allclose(scene.poses[0][:3, 3], [0.6, 0, 1.5], atol=1e-9)
    np.testing.assert_allclose(scene.poses[0][:3, 1], [0, 0, 1], atol=0.2)  # camera up is about world up
    assert scene.photos[0].read().shape == (32, 48, 3)


def test_fisheye_and_resized_pictures(tmp_path):
    camera = ColmapCamera("OPENCV_FISHEYE", 96, 64, (40.0, 40.0, 48.0, 32.0, 0.01, 0.0, 0.0, 0.0))
    scene = read_capture(write_capture(tmp_path, model(2, camera), size=(48, 32)))
    photo = scene.photos[0]
    assert photo.read().shape[:2] == (photo.straight.height, photo.straight.width)


def test_scannet_layouts(tmp_path):
    given = model(3)
    for room in ("dslr", "iphone"):
        write_capture(tmp_path / room, given, pictures="unused")
        (tmp_path / room / "sparse" / "0").rename(tmp_path / room / "colmap")
    for name in ("iphone/rgb", "dslr/resized_undistorted_images"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (48, 32)).save(tmp_path / name / f"{i:03d}.png")
    assert find_layout(tmp_path) == "scannet_iphone" and len(read_capture(tmp_path)) == 3
    swapped = [[0, 1, 0, 2], [1, 0, 0, 3], [0, 0, -1, -4], [0, 0, 0, 1]]
    frames = [{"file_path": f"{i:03d}.png", "transform_matrix": swapped} for i in range(3)]
    document = {"fl_x": 30, "fl_y": 31, "cx": 24, "cy": 16, "w": 48, "h": 32, "frames": frames}
    (tmp_path / "dslr" / "nerfstudio").mkdir()
    (tmp_path / "dslr" / "nerfstudio" / "transforms_undistorted.json").write_text(json.dumps(document))
    assert find_layout(tmp_path) == "scannet_dslr"
    scene = read_capture(tmp_path)
    np.testing.assert_allclose(scene.poses[0], [[1, 0, 0, 3], [0, 1, 0, 2], [0, 0, 1, 4], [0, 0, 0, 1]])
    np.testing.assert_allclose(scene.intrinsics[0], [[30 / 48, 0, 0.5], [0, 31 / 32, 0.5], [0, 0, 1]])


def test_transforms_json(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "points.ply").write_bytes(encode_points(room_points(50), np.zeros((50, 3), np.uint8)))
    pose = np.eye(4).tolist()
    frame = {"file_path": "a", "transform_matrix": pose}
    document = {"camera_angle_x": 1.0, "ply_file_path": "points.ply", "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    scene = read_capture(tmp_path)
    assert len(scene.points) == 50
    np.testing.assert_allclose(scene.intrinsics[0][0, 0], 0.5 / np.tan(0.5))
    for change, complaint in [
        ({"frames": []}, "`frames` is missing or empty"),
        ({"frames": [{**frame, "file_path": "../a.png"}]}, "outside its folder"),
        ({"frames": [{**frame, "transform_matrix": np.diag([1, 1, 3, 1.0]).tolist()}]}, "no rotation"),
        ({"camera_angle_x": None}, "neither `camera_angle_x` nor `fl_x`"),
        ({"frames": [{**frame, "file_path": "b.png"}]}, "None of the 1 posed pictures"),
    ]:
        (tmp_path / "transforms.json").write_text(json.dumps({**document, **change}))
        with pytest.raises(InputError, match=complaint):
            read_capture(tmp_path)


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="holds no poses"):
        read_capture(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        read_capture(tmp_path / "none")
    given = model(2)
    outside = [ColmapImage(1, i.rotation, i.translation, 1, "../../etc/passwd") for i in given.images]
    folder = write_capture(tmp_path / "a", given)
    (folder / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 1 ../../etc/passwd\n\n")
    assert outside[0].name.startswith("..")
    with pytest.raises(InputError, match="outside its folder"):
        read_capture(folder)
    empty = write_capture(tmp_path / "b", ColmapModel(given.cameras, given.images, given.points))
    for file in (empty / "images" / "shot").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="None of the 2 posed pictures"):
        read_capture(empty)
    linked = write_capture(tmp_path / "c", given)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (48, 32)).save(secret)
    (linked / "images/shot/000.png").unlink()
    (linked / "images/shot/000.png").symlink_to(secret)
    with pytest.raises(InputError, match="outside the allowed folders"):
        read_capture(linked)


def turned_world(seed):
    draw = np.random.default_rng(seed)
    q, r = np.linalg.qr(draw.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    q *= np.linalg.det(q)
    world = np.eye(4)
    world[:3, :3] = q * draw.uniform(0.2, 4.0)
    world[:3, 3] = draw.normal(size=3)
    return world


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alignment_undoes_a_colmap_world(tmp_path, seed):
    room = room_points(4000, seed=seed)
    scene = read_capture(write_capture(tmp_path, model(8, points=room, world=turned_world(seed))))
    found = align_scene(scene)
    assert "scale" in found.note
    low, high = np.percentile(found.points.xyz, [1, 99], axis=0)
    np.testing.assert_allclose(high[2] - low[2], 2.6, atol=0.05)
    np.testing.assert_allclose(low[2], 0, atol=0.03)
    np.testing.assert_allclose(sorted(high[:2] - low[:2]), [4, 5], atol=0.12)
    np.testing.assert_allclose(found.poses[:, 2, 3], 1.5, atol=0.03)
    np.testing.assert_allclose(
        found.poses[:, :3, :3] @ found.poses[:, :3, :3].transpose(0, 2, 1), [np.eye(3)] * 8, atol=1e-6
    )


def test_alignment_refuses_too_little():
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 2
    cameras = np.stack([np.eye(4)] * 2), np.stack([np.diag([4.0, 4.0, 1.0])] * 2)
    with pytest.raises(InputError, match="0 points"):
        estimate_alignment(photos_from_cameras(pictures, *cameras))
    with pytest.raises(InputError, match="2 pictures and 1 cameras"):
        photos_from_cameras(pictures, cameras[0][:1], cameras[1][:1])


def test_point_filter_drops_by_error_and_track():
    points = model(1).points
    points.error[:10], points.track[10:20] = 9.0, 1
    kept = PointFilter(2.0, 4, clean=False).apply(points)
    np.testing.assert_array_equal(kept, np.arange(20, len(points)))
