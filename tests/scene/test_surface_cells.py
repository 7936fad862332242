"""How many voxels a room will have, told from sparse points: against the surface itself."""

import numpy as np
import pytest
from scene_captures import room_points

from sightline.scene.chunk_layout import RoomBox, place_chunks, room_box, single_chunk
from sightline.scene.surface_cells import expected_cells

SIZE = (5.0, 4.0, 2.6)


def crossed(points, layout, resolution):
    """Voxels with a point in them, of every chunk."""
    counts = []
    for center in layout.centers:
        cells = np.floor(((points - center) / layout.size + 0.5) * resolution).astype(int)
        cells = cells[((cells >= 0) & (cells < resolution)).all(1)]
        counts.append(len(np.unique(cells, axis=0)))
    return np.array(counts)


def furnished(count, seed=0):
    """Points on a box room with a cupboard in it."""
    draw = np.random.default_rng(seed)
    box = draw.uniform(-0.5, 0.5, (count // 4, 3))
    side = draw.choice(3, len(box))
    box[np.arange(len(box)), side] = np.sign(draw.uniform(-1, 1, len(box))) / 2
    return np.concatenate([room_points(count, SIZE, seed), box * [1.2, 0.8, 1.6] + [0.6, -0.5, 0.8]])


@pytest.mark.parametrize("resolution", [16, 32])
@pytest.mark.parametrize("count", [2000, 20_000])
def test_a_furnished_room(resolution, count):
    points, dense = furnished(count), furnished(400_000, 1)
    layout = place_chunks(room_box(points))
    # planes on the border of two voxels would put dense points into both: looked at from slightly inside
    real = crossed(dense * [0.999, 0.999, 0.998] + [0, 0, 0.002], layout, resolution)
    found = expected_cells(points, layout, resolution, room_box(points))
    assert abs(found.sum() / real.sum() - 1) < 0.15
    assert np.abs(found / real - 1).max() < 0.4


def test_a_room_without_points_is_counted_by_its_box():
    box = RoomBox((-2.5, 2.5), (-2.0, 2.0), (0.0, 2.6))
    layout = place_chunks(box)
    found = expected_cells(np.zeros((0, 3)), layout, 32, box)
    real = crossed(room_points(400_000, SIZE) * 0.999 + [0, 0, 0.001], layout, 32)
    assert (found > real).all() and (found < 1.6 * real).all()


def test_walls_that_no_point_shows_are_not_counted():
    points = room_points(20_000, SIZE)
    box, layout = room_box(points), place_chunks(room_box(points))
    open_side = points[points[:, 0] > -1.0]
    less = expected_cells(open_side, layout, 32, box).sum()
    assert less < 0.95 * expected_cells(points, layout, 32, box).sum()


def test_never_more_than_the_chunk_has():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200_000, 3))
    box = RoomBox((-5.0, 5.0), (-5.0, 5.0), (-5.0, 5.0))
    assert expected_cells(points, single_chunk((0, 0, 0), 1.0), 8, box)[0] == 8**3
