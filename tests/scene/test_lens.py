import math

import pytest
import torch
from PIL import Image

from sightline.scene.errors import InputError
from sightline.scene.lens import fov_from_exif, fov_from_intrinsics, fov_of_crop, horizontal_fov

FOCAL, FOCAL_35, PLANE_X, PLANE_Y, UNIT, RECORDED, ORIENTATION = (
    0x920A, 0xA405, 0xA20E, 0xA20F, 0xA210, 0xA002, 0x0112,
)  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    """photo({tag: value}, size) -> the path of a JPEG with these EXIF entries."""

    def make(entries, size=(60, 40)):
        exif = Image.Exif()
        if ORIENTATION in entries:
            exif[ORIENTATION] = entries.pop(ORIENTATION)
        exif.get_ifd(0x8769).update(entries)
        path = tmp_path / "photo.jpg"
        Image.new("RGB", size).save(path, exif=exif)
        return path

    return make


def angle(width, focal):
    return math.degrees(2 * math.atan(width / (2 * focal)))


def test_degrees_and_radians():
    assert horizontal_fov(49.13) == 49.13
    assert horizontal_fov(radians=0.2) == pytest.approx(11.459156, abs=1e-6)
    for wrong in ({"degrees": 0}, {"degrees": 180}, {"degrees": -5}, {"degrees": math.nan}, {"radians": math.pi}):
        with pytest.raises(InputError, match="between 0 and 180"):
            horizontal_fov(**wrong)
    for both in ({}, {"degrees": 1, "radians": 1}):
        with pytest.raises(InputError, match="not both"):
            horizontal_fov(**both)


def test_a_crop_sees_less():
    assert fov_of_crop(90, 100, 100) == pytest.approx(90)
    assert fov_of_crop(90, 100, 50) == pytest.approx(2 * math.degrees(math.atan(0.5)))
    assert fov_of_crop(fov_of_crop(40, 300, 90), 90, 300) == pytest.approx(40)


def test_intrinsics_normalized_and_in_pixels():
    normalized = torch.tensor([[1.2, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])
    expected = math.degrees(2 * math.atan(1 / 2.4))
    assert fov_from_intrinsics(normalized) == pytest.approx(expected, abs=1e-5)
    assert fov_from_intrinsics(normalized[None]) == pytest.approx(expected, abs=1e-5)
    assert fov_from_intrinsics((normalized * 640).tolist(), 640) == pytest.approx(expected, abs=1e-5)
    for wrong, says in ((normalized * 640, "looks like pixels"), (normalized * 0, "above 0"), (normalized[:2], "3, 3")):
        with pytest.raises(InputError, match=says):
            fov_from_intrinsics(wrong)


def test_the_35_mm_equivalent_compares_diagonals(photo):
    assert fov_from_exif(photo({FOCAL_35: 50})) == pytest.approx(angle(36, 50), abs=1e-6)  # 3:2, as full frame
    diagonal = math.hypot(36, 24)
    wide = fov_from_exif(photo({FOCAL_35: 28}, (80, 60)))
    assert wide == pytest.approx(angle(diagonal * 0.8, 28), abs=1e-6)
    tall = fov_from_exif(photo({FOCAL_35: 28, ORIENTATION: 6}, (80, 60)))
    assert tall == pytest.approx(angle(diagonal * 0.6, 28), abs=1e-6)


def test_the_focal_plane_resolution_comes_first(photo):
    # 60 pixels on a plane of 10 pixels/mm: 6 mm wide behind 9 mm
    entries = {FOCAL: 9.0, PLANE_X: 100.0, PLANE_Y: 50.0, UNIT: 3, FOCAL_35: 500}
    assert fov_from_exif(photo(dict(entries))) == pytest.approx(angle(6, 9), abs=1e-6)
    assert fov_from_exif(photo({**entries, UNIT: 2, PLANE_X: 254.0})) == pytest.approx(angle(6, 9), abs=1e-6)
    assert fov_from_exif(photo({**entries, RECORDED: 120})) == pytest.approx(angle(12, 9), abs=1e-6)
    assert fov_from_exif(photo({**entries, ORIENTATION: 8})) == pytest.approx(angle(8, 9), abs=1e-6)  # 40 px at 5/mm


@pytest.mark.parametrize("entries", [{}, {FOCAL: 9.0}, {FOCAL_35: 0}, {FOCAL: 9.0, PLANE_X: 100.0, UNIT: 9}])
def test_a_photo_that_does_not_say(photo, entries):
    with pytest.raises(InputError, match="does not say with which focal length.*as a number"):
        fov_from_exif(photo(entries))


def test_no_photo_at_all(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="cannot be read as a photo"):
        fov_from_exif(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="does not exist"):
        fov_from_exif(tmp_path / "b.jpg")
