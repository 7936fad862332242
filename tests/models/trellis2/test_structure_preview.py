import math

import pytest
import torch

from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.structure_preview import StructurePreview, draw_structure, guess_occupancy

CAMERA = FrontCamera(math.radians(40))


def box(low, high, resolution=32):
    """Logits of a filled box."""
    field = torch.full((resolution,) * 3, -3.0)
    field[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 3.0
    return field


def rows_and_columns(picture):
    lit = torch.argwhere(picture.sum(0) > 0)
    return lit.amin(0).tolist(), lit.amax(0).tolist()


def test_right_and_up_are_so_in_the_picture_and_no_holes_appear():
    picture = draw_structure(box((20, 22, 10), (30, 30, 20)), CAMERA, 128)
    (top, left), (bottom, right) = rows_and_columns(picture)
    assert left > 64 and bottom < 64
    middle = picture[:, top + 4 : bottom - 3, left + 4 : right - 3]
    assert middle.numel() and bool((middle.sum(0) > 0).all())


def test_near_covers_far_and_is_larger():
    near, far = box((12, 12, 24), (20, 20, 32)), box((12, 12, 0), (20, 20, 8))
    pictures = [draw_structure(one, CAMERA, 128) for one in (near, far, torch.maximum(near, far))]
    areas = [int((one.sum(0) > 0).sum()) for one in pictures]
    assert areas[0] > 1.3 * areas[1] and areas[2] == areas[0]


def test_the_lit_side_is_brighter():
    line = torch.linspace(-1, 1, 32)
    ball = 0.6 - (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).sqrt()
    picture = draw_structure(20 * ball, CAMERA, 128)[0]
    assert picture[45, 74] > 1.5 * picture[86, 50] > 0  # above right, below left


def test_up_of_the_other_frame():
    top = box((12, 12, 24), (20, 20, 32))  # Z up
    _, (bottom, _) = rows_and_columns(draw_structure(top, CAMERA, 128, z_up=True))
    assert bottom < 64
    front = box((12, 0, 12), (20, 8, 20))  # -Y faces the viewer
    back = box((12, 24, 12), (20, 32, 20))
    areas = [int((draw_structure(one, CAMERA, 128, z_up=True).sum(0) > 0).sum()) for one in (front, back)]
    assert areas[0] > 1.3 * areas[1]


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_nothing_is_black(value):
    assert not draw_structure(torch.full((8, 8, 8), value), CAMERA, 32).any()


@pytest.mark.parametrize("fov", [1.0, 120.0, 170.0])
def test_any_lens(fov):
    picture = draw_structure(torch.ones(8, 8, 8), FrontCamera(math.radians(fov)), 64)
    assert picture.isfinite().all() and picture.max() <= 1 and picture.any()


def test_guess_without_the_decoder():
    latent = torch.full((1, 4, 8, 8, 8), 0.3)
    latent[:, :, 3:5, 2:6, 3:5] += 2.0
    assert torch.equal(guess_occupancy(latent) > 0, latent[0, 0] > 1)


def test_costly_previews_are_rare_and_a_missing_decoder_is_replaced():
    now, shown = [0.0], []

    def decode(latent):
        now[0] += 1.0
        return None if len(shown) == 1 else torch.ones(1, 1, 8, 8, 8)

    preview = StructurePreview(decode, shown.append, CAMERA, clock=lambda: now[0])
    latent = torch.zeros(1, 4, 4, 4, 4)
    latent[..., 1:3, 1:3, 1:3] = 1
    for _ in range(30):
        now[0] += 1.0
        preview(latent)
    assert len(shown) == 4  # of a second each, in 34
    assert all(one.shape == (1, 3, 192, 192) and one.any() for one in shown)
