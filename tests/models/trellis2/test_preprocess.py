"""The crop of the object: geometry, background, and pictures that hold no object."""

import numpy as np
import pytest
from trellis2_tiny import picture

from sightline.models.trellis2.preprocess import crop_to_object, image_tensor
from sightline.scene.errors import InputError


def block(size=(40, 60), box=(10, 20, 30, 50), alpha=255):
    """[H, W, 4], gray, the object filling rows box[0]..box[2] and columns box[1]..box[3] (inclusive)."""
    image = np.full((*size, 4), 128, np.uint8)
    image[..., 3] = 0
    image[box[0] : box[2] + 1, box[1] : box[3] + 1, 3] = alpha
    return image


@pytest.mark.parametrize("padding, side", [(1.0, 30), (1.1, 32)])
def test_side_follows_the_longest_side(padding, side):
    out = crop_to_object(block(), padding)
    assert out.shape == (side, side, 3) and out.dtype == np.uint8
    inside = out[..., 0] > 0
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert rows == 21 and columns == min(31, side)


def test_edges_are_rounded_one_by_one_and_may_leave_the_square():
    out = crop_to_object(block(box=(10, 20, 31, 49)), 1.0)  # middle at row 20.5: edges 6.5 -> 6 and 34.5 -> 34
    assert out.shape[:2] == (28, 28)
    out = crop_to_object(block(box=(10, 20, 29, 49)), 1.0)  # 5.5 -> 6 and 33.5 -> 34 (half to even)
    assert out.shape[0] == 28


def test_outside_of_the_picture_is_background():
    out = crop_to_object(block(box=(0, 5, 39, 20)), 2.0, background=(1.0, 0.0, 0.5))
    assert out[0, 0].tolist() == [255, 0, 127]
    assert out[len(out) // 2, len(out) // 2].tolist() == [128, 128, 128]


def test_half_transparent_pixels_are_dimmed_but_do_not_make_the_object():
    image = block()
    image[10, 19, 3] = 100
    assert crop_to_object(image, 1.0).shape == crop_to_object(block(), 1.0).shape
    image[20, 30] = (200, 100, 50, 210)
    out = crop_to_object(image, 1.0)
    assert (out == (np.float32([200, 100, 50]) / 255 * (np.float32(210) / 255) * 255).astype(np.uint8)).all(-1).any()


def test_large_pictures_are_reduced_first():
    assert max(crop_to_object(picture(size=300), 1.0, max_side=150).shape) <= 101


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((8, 8, 3), np.uint8), "alpha channel"),
        (np.zeros((8, 8, 4), np.float32), "uint8"),
        (np.full((8, 8, 4), 255, np.uint8), "opaque everywhere"),
        (np.zeros((8, 8, 4), np.uint8), "nothing is selected"),
        (block(alpha=200), "nothing is selected"),
        (block(box=(10, 20, 10, 20)), "1 x 1 pixels"),
        (block(box=(10, 20, 11, 20)), "1 x 2 pixels"),
    ],
)
def test_pictures_without_an_object(image, message):
    with pytest.raises(InputError, match=message) as error:
        crop_to_object(image)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_smallest_object():
    assert crop_to_object(block(box=(10, 20, 12, 20)), 1.0).shape == (2, 2, 3)


def test_tensor_for_the_encoders():
    image = np.zeros((6, 9, 3), np.uint8)
    image[:, 4:] = 255
    out = image_tensor(image, 16)
    assert out.shape == (1, 3, 16, 16) and out.min() == 0 and out.max() == 1
    with pytest.raises(InputError, match="uint8"):
        image_tensor(image[..., 0], 16)
