"""Chunk layouts: rooms of any size, several layers, what is refused; views for them."""

import json

import numpy as np
import pytest
from scene_captures import model, room_points, write_capture

from sightline.scene.captures import read_capture
from sightline.scene.chunk_layout import (
    LATTICE,
    RoomBox,
    drop_empty,
    layout_from_json,
    place_chunks,
    room_box,
    single_chunk,
)
from sightline.scene.errors import InputError
from sightline.scene.view_choice import choose_photos, plan_views, square_crops, view_pictures


@pytest.mark.parametrize("side", [1.0, 3.3, 9.7, 30.0])
@pytest.mark.parametrize("overlap", [2, 4, 8])
def test_chunks_cover_the_room_on_one_lattice(side, overlap):
    box = RoomBox((-1.0, side), (2.0, 2.0 + side / 2), (0.0, 2.5))
    layout = place_chunks(box, 1.11, overlap)
    np.testing.assert_allclose(layout.relative * LATTICE, np.round(layout.relative * LATTICE), atol=1e-6)
    half = layout.size / 2
    for axis, (low, high) in enumerate((box.x, box.y)):
        line = np.unique(layout.centers[:, axis].round(9))
        assert line[0] - half <= low and line[-1] + half >= high
        assert (np.diff(line) <= layout.size * (1 - overlap / LATTICE) + 1e-6).all()
    assert layout.centers[:, 2].min() - half <= 0 and layout.centers[:, 2].max() + half >= 2.5


def test_a_tall_room_gets_layers():
    box = RoomBox((0, 4.0), (0, 4.0), (0.0, 9.0))
    one, several = place_chunks(box), place_chunks(box, max_size=3.0)
    assert not one.layered and one.size > 9 and several.layered and several.size == 3.0
    heights = np.unique(several.centers[:, 2].round(9))
    assert len(heights) > 2 and heights[0] - 1.5 <= 1e-9 and heights[-1] + 1.5 >= 9.0
    np.testing.assert_allclose(several.relative * LATTICE, np.round(several.relative * LATTICE), atol=1e-6)


def test_empty_chunks_are_dropped_and_none_left_is_said():
    points = room_points(3000)
    layout = place_chunks(room_box(points))
    kept = drop_empty(layout, points, 100)
    assert 0 < len(kept) <= len(layout) and min(kept.counts) >= 100
    with pytest.raises(InputError, match="No chunk holds 9999 points"):
        drop_empty(layout, points, 9999)


def test_what_is_refused():
    with pytest.raises(InputError, match="There are 3 points"):
        room_box(np.zeros((3, 3)))
    with pytest.raises(InputError, match="no height"):
        room_box(np.zeros((50, 3)))
    with pytest.raises(InputError, match="at most 1024"):
        place_chunks(RoomBox((0, 100.0), (0, 100.0), (0, 2.5)))
    with pytest.raises(InputError, match="low and high"):
        room_box(np.zeros((50, 3)), bounds=[[2, 1], [0, 1]])
    with pytest.raises(InputError, match="no chunk_transforms.json"):
        layout_from_json("{}")


def test_bounds_given_by_hand():
    box = room_box(room_points(), bounds=[[-9, 9], [-8, 8]])
    assert box.x == (-9, 9) and box.y == (-8, 8) and 2.4 < box.height < 2.7
    assert room_box(np.zeros((0, 3)), bounds=[[0, 1], [0, 1], [0, 2]]).height == 2


def test_the_json_comes_back():
    layout = place_chunks(RoomBox((0, 7.0), (0, 5.0), (0, 2.5)))
    back = layout_from_json(layout.to_json())
    np.testing.assert_allclose(back.centers, layout.centers)
    assert back.size == layout.size and len(json.loads(layout.to_json())["chunks"]) == len(layout)


def test_views_of_a_room(tmp_path):
    scene = read_capture(write_capture(tmp_path, model(6)))
    layout = place_chunks(room_box(scene.points.xyz))
    plan = plan_views(scene, layout, 4, "two")
    assert len(plan) == 8 and len(plan.chunk_views) == len(layout)
    pictures = list(view_pictures(scene, plan, 32))
    assert all(p.shape == (3, 32, 32) and 0 <= p.min() and p.max() <= 1 for p in pictures)
    with pytest.raises(InputError, match="0 photos"):
        plan_views(scene, layout, 0)
    with pytest.raises(InputError, match="crop 'wide'"):
        square_crops(scene.photos[0].straight, 0, "wide")


def test_a_camera_that_sees_nothing_is_left_out():
    seen = np.array([[True, False], [False, False], [False, True]])
    assert choose_photos(seen, 9) == [0, 2]
    assert choose_photos(np.zeros((3, 2), bool), 2) == [0, 2]


def test_one_cube_around_an_object():
    layout = single_chunk((1, 2, 3), 2.0)
    np.testing.assert_allclose(layout.world_to_chunk[0] @ [2, 2, 3, 1], [0.5, 0, 0, 1])
    with pytest.raises(InputError, match="above 0"):
        single_chunk((0, 0, 0), 0.0)
