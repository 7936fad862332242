"""Projection, canonical cameras, comfort warnings, and other programs' formats."""

import dataclasses
import json

import numpy as np
import pytest
from scene_captures import model, room_points, write_capture

from sightline.scene.document import Free, Orbit, SceneCamera, SceneError, new_document, parse_document
from sightline.scene.document.camera_formats import (
    camera_from_load3d,
    camera_to_load3d,
    cameras_from_colmap,
    cameras_to_colmap,
)
from sightline.scene.document.comfort import comfort
from sightline.scene.document.convert import (
    read_colmap_scene,
    read_scene_bytes,
    read_table,
    transforms_text,
    write_scene_bytes,
    write_table,
)
from sightline.scene.document.examples import EXAMPLES, load_example
from sightline.scene.document.geometry import (
    box_corners,
    camera_pose,
    canonical,
    clip_polygon,
    convex_hull,
    polygon_area,
    project,
    quaternion_matrix,
    silhouette,
)
from sightline.scene.errors import InputError

MARS = load_example("mars")


def numbers(document):
    return np.array([[*o.position, *o.size, o.yaw_deg, *o.tilt] for o in document.objects])


def with_camera(camera, document=MARS):
    return document.replace(cameras=(camera,), active_camera=camera.id)


def random_camera(draw, **changes):
    q = draw.normal(size=4)
    free = Free(tuple(draw.normal(size=3) * 4), tuple(q / np.linalg.norm(q)))
    size = tuple(int(v) for v in draw.integers(200, 900, 2))
    return SceneCamera(mode="free", free=free, lens_mm=draw.uniform(20, 100), size=size, **changes)


def test_canonical_cameras_see_the_same_picture():
    draw, count = np.random.default_rng(0), 0
    while count < 200:
        orbit = Orbit(tuple(draw.uniform(-2, 2, 3)), draw.uniform(-179, 180), draw.uniform(2, 90), draw.uniform(3, 12))
        camera = SceneCamera(orbit=orbit, lens_mm=draw.uniform(20, 120))
        if camera_pose(camera).center[2] < 0.2:
            continue
        count += 1
        document = with_camera(camera)
        home = canonical(document)
        assert home.reason is None and home.document.camera.orbit.azimuth_deg == 0
        for one, other in zip(document.objects, home.document.objects):
            a = project(camera, 800, 600, box_corners(one))
            b = project(home.document.camera, 800, 600, box_corners(other))
            seen = a[:, 2] > 0.1
            assert np.abs(a - b)[seen, :2].max(initial=0) < 1e-3


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        (SceneCamera(orbit=Orbit(elevation_deg=0.0, target=(0.0, 0.0, 1.0))), "looks level or upward"),
        (SceneCamera(orbit=Orbit(elevation_deg=-20.0, target=(0.0, 0.0, 5.0))), "looks level or upward"),
        (SceneCamera(orbit=Orbit(elevation_deg=-20.0)), "stands below the floor"),
        (SceneCamera(orbit=Orbit(), shift=(0.1, 0.0)), "has a shifted lens"),
        (SceneCamera(mode="free", free=Free((5.0, 0.0, 2.0), (0.6, 0.5, 0.45, 0.43))), "is rolled"),
    ],
)
def test_cameras_the_model_never_saw(camera, reason):
    home = canonical(with_camera(camera))
    assert home.reason == reason and home.document.objects == MARS.objects
    assert "W113" in [p.code for p in comfort(with_camera(camera))]


def test_silhouettes_behind_and_around_the_camera():
    box = MARS.objects[0]
    behind = dataclasses.replace(box, position=(30.0, 0.0, 0.0))
    assert len(silhouette(MARS.camera, 512, 512, behind)) == 0
    around = dataclasses.replace(box, position=(5.9, 0.0, 0.0), size=(2.0, 2.0, 3.0))
    hull = silhouette(MARS.camera, 512, 512, around)
    assert polygon_area(clip_polygon(hull, 512, 512)) == pytest.approx(512 * 512)
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [2, 2], [4, 4]])
    assert polygon_area(convex_hull(square)) == 16 and polygon_area(clip_polygon(convex_hull(square), 2, 3)) == 6


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_published_scenes_are_comfortable(name):
    assert {p.code for p in comfort(load_example(name))} <= {"W114"}


def test_comfort_names_what_is_unusual():
    boxes = [
        {"id": "a", "prompt": "far", "position": [-9, 0, 0]}, {"id": "b", "prompt": "high", "position": [0, 0, 3]},
        {"id": "c", "prompt": "tiny", "size": [0.05, 1, 1]}, {"id": "d", "prompt": "tiny", "position": [0, 40, 0]},
        {"id": "e", "prompt": "tilted", "tilt": [10, 0]}, *({"id": f"x{i}", "prompt": f"x{i}"} for i in range(4)),
    ]  # fmt: skip
    value = {
        "format": "sightline.scene", "version": 1, "id": "s", "objects": boxes, "output": {"size": [1024, 512]},
        "cameras": [{"id": "cam1", "lens_mm": 20, "orbit": {"elevation_deg": 60}}], "active_camera": "cam1",
    }  # fmt: skip
    found = comfort(parse_document(value))
    assert {p.code for p in found} == {"W101", "W102", "W103", "W104", "W105", "W106", "W108", "W110", "W112", "W114"}
    assert [p.code for p in found] == sorted(p.code for p in found)


@pytest.mark.parametrize("suffix", [".json", ".pkl", ".glb", ".csv"])
def test_files_give_the_same_boxes_back(suffix):
    tilted = dataclasses.replace(MARS.objects[0], tilt=(10.0, -20.0), yaw_deg=170.0)
    document = MARS if suffix in (".pkl", ".csv") else MARS.replace(objects=(tilted, *MARS.objects[1:]))
    again, _ = read_scene_bytes(f"scene{suffix}", write_scene_bytes(document, suffix))
    assert np.abs(numbers(again) - numbers(document)).max() < 1e-5
    assert [one.prompt for one in again.objects] == [one.prompt for one in document.objects]


def test_a_moved_node_of_a_glb_is_where_it_was_put():
    data = write_scene_bytes(MARS, ".glb")
    length = int.from_bytes(data[12:16], "little")
    gltf = json.loads(data[20 : 20 + length])
    gltf["nodes"][0]["matrix"][12] += 1.5
    gltf["nodes"][0]["extras"]["sightline"]["prompt"] = "a moved rover"
    again, _ = read_scene_bytes("scene.gltf", json.dumps(gltf).encode())
    moved, before = again.objects[0], MARS.objects[0]
    assert moved.prompt == "a moved rover" and moved.id == before.id
    assert np.allclose(np.subtract(moved.position, before.position), (1.5, 0, 0), atol=1e-5)
    assert again.objects[1] == MARS.objects[1] and again.prompt == MARS.prompt


def test_foreign_meshes_become_boxes():
    gltf = {
        "asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "red_sofa", "mesh": 0,
                   "rotation": [0, np.sin(0.15), 0, np.cos(0.15)], "translation": [1, 2, 3]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"min": [-1, 0, -0.5], "max": [1, 0.8, 0.5], "componentType": 5126, "count": 8, "type": "VEC3"}],
    }  # fmt: skip
    document, notes = read_scene_bytes("x.gltf", json.dumps(gltf).encode())
    (one,) = document.objects
    assert one.prompt == "red sofa" and not notes
    assert sorted(one.size) == pytest.approx([0.8, 1, 2]) and one.position == pytest.approx((1, -3, 2), abs=1e-6)
    gltf["accessors"][0].pop("min")
    with pytest.raises(SceneError, match="no mesh"):
        read_scene_bytes("x.gltf", json.dumps(gltf).encode())


@pytest.mark.parametrize(
    "data", [b"", b"glTF", b"glTF" + b"\xff" * 40, b"{}", b'{"asset":{"version":"1"}}', b"[" * 10_000,
             b'{"asset":{"version":"2.0"},"scenes":[{"nodes":[0]}],"nodes":[{"children":[0]}]}',
             b'{"asset":{"version":"2.0"},"scenes":[{"nodes":[5]}],"nodes":[]}',
             b'{"asset":{"version":"2.0"},"scenes":[{"nodes":[0]}],"nodes":[{"mesh":9}]}'],
)  # fmt: skip
def test_broken_gltf_is_refused_with_a_sentence(data):
    with pytest.raises(SceneError) as caught:
        read_scene_bytes("x.glb", data)
    assert caught.value.code == "E152" and "\n" not in str(caught.value)


def test_a_point_lands_on_the_same_pixel_through_every_camera_format(tmp_path):
    draw = np.random.default_rng(1)
    points = draw.normal(size=(50, 3))
    for i in range(30):
        camera = random_camera(draw)
        document = with_camera(camera)
        ours = project(camera, *camera.size, points)
        (tmp_path / str(i)).mkdir()
        for name, data in cameras_to_colmap(document, binary=i % 2 == 0).items():
            (tmp_path / str(i) / name).write_bytes(data)
        load3d = dataclasses.replace(camera_from_load3d(camera_to_load3d(document)), size=camera.size)
        transforms, _ = read_scene_bytes("transforms.json", transforms_text(document).encode())
        for other in (load3d, *cameras_from_colmap(tmp_path / str(i))[0], transforms.camera):
            assert other.size == camera.size
            theirs = project(other, *camera.size, points)
            seen = np.abs(ours[:, 2]) > 0.2
            assert np.abs(ours - theirs)[seen].max() < 1e-5


@pytest.mark.parametrize("given", [{}, {"up": True, "scale": True}, {"up": True, "scale": True, "points": False}])
def test_a_colmap_model_of_any_up_and_scale_is_set_upright(tmp_path, given):
    """The same room turned, shifted and 3.7 times as large: cameras as in the room, but for a turn of its walls."""
    world, turn = np.eye(4), quaternion_matrix(np.array([5, 5, -3, 2]) / 63**0.5)
    world[:3, :3], world[:3, 3] = 3.7 * turn, (3, -2, 9)
    points = room_points() if given.get("points", True) else np.zeros((0, 3))
    folder = write_capture(tmp_path, model(points=points, world=world))
    options = {"up": tuple(turn[:, 2]), "scale": 1 / 3.7} if given else {}
    document, (note,) = read_colmap_scene(folder, options)
    poses = [camera_pose(camera) for camera in document.cameras]
    centers = np.stack([pose.center for pose in poses])
    assert np.allclose(centers[:, 2], 1.5, atol=0.05) and "scale 0.27" in note
    assert np.allclose(np.linalg.norm(centers[:, :2] - centers[:, :2].mean(0), axis=1), 0.6, atol=0.02)
    assert all(abs(pose.rotation[2, 0]) < 0.02 for pose in poses)  # level
    plain, (said,) = read_colmap_scene(folder)
    assert "arbitrary" in said and not np.allclose(camera_pose(plain.cameras[0]).center[2], 1.5, atol=0.5)


def test_a_colmap_model_without_points_needs_up_and_scale(tmp_path):
    for name, data in cameras_to_colmap(MARS).items():
        (tmp_path / name).write_bytes(data)
    for options in ({}, {"up": (0, 0, 1)}, {"scale": 1.0}):
        with pytest.raises(InputError, match="0 points.*up and scale"):
            read_colmap_scene(tmp_path, options)
    assert len(read_colmap_scene(tmp_path, {"up": (0, 0, 1), "scale": 1.0})[0].cameras) == 1


def test_load3d_cameras_that_cannot_be_used():
    good = camera_to_load3d(MARS)
    for changes, code in (
        ({"cameraType": "orthographic"}, "E140"), ({"position": None}, "E110"), ({"fov": 190}, "E111"),
        ({"fov": "wide"}, "E110"), ({"quaternion": None, "target": good["position"]}, "E110"),
    ):  # fmt: skip
        with pytest.raises(SceneError) as caught:
            camera_from_load3d({**good, **changes})
        assert caught.value.code == code
    looking = camera_from_load3d({**good, "quaternion": None})
    assert np.allclose(camera_pose(looking).rotation, camera_pose(MARS.camera).rotation, atol=1e-6)


def test_tables_are_edited_and_read_again():
    text = write_table(MARS).decode().replace("1.5,0,0,", "2.5,0,0,", 1)
    again = read_table(text.encode(), MARS)
    assert again.objects[0].position[0] == 2.5 and again.objects[1].preset == MARS.objects[1].preset
    formula = MARS.replace(objects=(dataclasses.replace(MARS.objects[0], prompt="=SUM(1)"),))
    assert b"'=SUM" in write_table(formula) and read_table(write_table(formula)).objects[0].prompt == "=SUM(1)"
    for data in (b"a,b\n1,2\n", b"\xff\xfe", b"prompt,x,y,z,w,d,h\nbox,one,0,0,1,1,1\n"):
        with pytest.raises(SceneError):
            read_table(data)


@pytest.mark.parametrize("name", ["scene.zip", "scene.blend", "scene", "scene.exe"])
def test_files_of_other_kinds_are_refused(name):
    with pytest.raises(SceneError) as caught:
        read_scene_bytes(name, b"x")
    assert caught.value.code == "E154"


def test_new_documents_have_ids_of_their_own():
    assert new_document().id != new_document().id
