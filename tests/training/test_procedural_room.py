"""Procedural rooms: deterministic, closed, free in the middle; photos, points and poses agree."""

import numpy as np
import pytest
import torch

from sightline.pipelines.genrecon import PlanOptions, plan_scene
from sightline.scene.alignment import align_scene
from sightline.scene.captures import PointFilter, read_capture
from sightline.scene.errors import InputError
from sightline.training.procedural_room import make_room, room_capture, write_room
from sightline.training.procedural_room.capture import room_cameras


@pytest.fixture(scope="module")
def room():
    return make_room(1)


@pytest.fixture(scope="module")
def capture(room):
    return room_capture(room, 6, (40, 30), points=3000)


def test_a_seed_is_a_room(room):
    again = make_room(1)
    assert room.size == again.size and len(room.primitives) == len(again.primitives)
    assert [p.center for p in room.primitives] == [p.center for p in again.primitives]
    assert make_room(2).size != room.size
    with pytest.raises(InputError, match="use a number from 0 up"):
        make_room(-1)
    with pytest.raises(InputError, match="at least 2 m"):
        make_room(0, (1.0, 4.0, 2.5))


def test_rooms_are_closed_and_cameras_stand_free(room):
    cameras = room_cameras(room, 6, 40, 30)
    draw = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(6, 120, 3, generator=draw), dim=-1)
    t, owner = room.hits(cameras.centers, direction)
    assert bool((owner >= 0).all()) and float(t.min()) > 0.05
    reach = max(room.size) * 1.8
    assert float(t.max()) < reach


def test_photos_depths_and_points_agree(room, capture):
    assert capture.pictures.shape == (6, 3, 30, 40) and 0 <= capture.pictures.min() and capture.pictures.max() <= 1
    assert len(torch.unique(capture.pictures.flatten(1), dim=0)) == 6
    y, x = torch.meshgrid(torch.arange(30) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(1, -1, 2).expand(6, -1, -1)
    world = capture.cameras.unproject(pixels, capture.depth.flatten(1)).reshape(-1, 3)
    low = torch.tensor([-room.size[0] / 2, -room.size[1] / 2, 0.0]) - 0.12
    high = torch.tensor([room.size[0] / 2, room.size[1] / 2, room.size[2]]) + 0.12
    assert bool(((world >= low) & (world <= high)).all())
    inside = ((capture.points.xyz >= low.numpy()) & (capture.points.xyz <= high.numpy())).all(1)
    assert inside.mean() > 0.98


@pytest.mark.parametrize("binary", [False, True])
def test_a_room_can_be_planned_from_its_files(room, capture, tmp_path, binary):
    angle = 0.7
    world = np.eye(4)
    world[:3, :3] = 0.4 * np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    write_room(room, tmp_path, capture, world=world, binary=binary)
    scene = align_scene(read_capture(tmp_path))
    assert len(scene) == 6 and len(scene.points) == 3000
    options = PlanOptions(min_points_per_chunk=30, points=PointFilter(2.0, radius=0.3))
    plan = plan_scene(scene, options)
    assert plan.layout.size == pytest.approx(1.11 * room.size[2], rel=0.12)
    assert 1 < len(plan.layout) < 30
