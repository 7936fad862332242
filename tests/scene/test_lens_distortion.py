"""Lenses: undistorting undoes distorting, and an undistorted picture shows straight what was straight."""

import numpy as np
import pytest

from sightline.scene.colmap import ColmapCamera
from sightline.scene.errors import InputError
from sightline.scene.lens_distortion import Lens, undistort_picture, undistortion

CASES = {
    "SIMPLE_RADIAL": (90.0, 64.0, 48.0, 0.03),
    "RADIAL": (90.0, 64.0, 48.0, 0.03, -0.01),
    "OPENCV": (90.0, 92.0, 64.0, 48.0, 0.05, -0.02, 0.001, -0.0015),
    "FULL_OPENCV": (90.0, 92.0, 64.0, 48.0, 0.05, -0.02, 0.001, -0.001, 0.002, 0.01, 0.002, 0.001),
    "OPENCV_FISHEYE": (60.0, 60.0, 64.0, 48.0, 0.02, -0.005, 0.001, 0.0),
    "SIMPLE_RADIAL_FISHEYE": (60.0, 64.0, 48.0, 0.02),
    "RADIAL_FISHEYE": (60.0, 64.0, 48.0, 0.02, -0.003),
    "FOV": (60.0, 60.0, 64.0, 48.0, 0.9),
    "THIN_PRISM_FISHEYE": (60.0, 60.0, 64.0, 48.0, 0.02, -0.004, 0.001, -0.001, 0.001, 0.0, 0.002, -0.001),
    "RAD_TAN_THIN_PRISM_FISHEYE": (60.0, 60.0, 64.0, 48.0, 0.02, -0.004, 0.001, 0, 0, 0, 0.001, -0.001, 0.002, 0, 0, 0),
}


def lens_of(name):
    return Lens.of(ColmapCamera(name, 128, 96, CASES[name]))


@pytest.mark.parametrize("name", list(CASES))
def test_inverse(name):
    lens = lens_of(name)
    slopes = np.stack(np.meshgrid(np.linspace(-0.6, 0.6, 7), np.linspace(-0.5, 0.5, 5)), -1)
    back = lens.undistort(lens.distort(slopes), 50)
    np.testing.assert_allclose(back, slopes, atol=1e-5)


@pytest.mark.parametrize("name", list(CASES))
def test_a_straight_line_becomes_straight(name):
    lens = lens_of(name)
    slopes = np.stack(np.meshgrid(np.linspace(-1.2, 1.2, 900), [0.3]), -1)[0]
    at = lens.distort(slopes) * lens.focal + lens.center
    rows, columns = np.mgrid[: lens.height, : lens.width]
    picture = np.zeros((lens.height, lens.width, 3), np.uint8)
    inside = (at[:, 0] > 0) & (at[:, 0] < lens.width - 1) & (at[:, 1] > 0) & (at[:, 1] < lens.height - 1)
    for x, y in at[inside]:
        near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
        picture = np.maximum(picture, (255 * near[..., None]).astype(np.uint8))
    plan = undistortion(lens)
    straight = undistort_picture(picture, plan)[..., 0].astype(float)
    assert straight.shape == (plan.target.height, plan.target.width)
    bright = straight.max(0) > 150
    middle = (straight * np.arange(len(straight))[:, None]).sum(0) / np.maximum(straight.sum(0), 1)
    expected = 0.3 * plan.target.focal[1] + plan.target.center[1]
    assert bright.mean() > 0.7
    np.testing.assert_allclose(middle[bright], expected, atol=0.6)


def test_a_pinhole_needs_nothing():
    assert undistortion(Lens.pinhole(64, 48, (50, 50), (32, 24))) is None
    assert undistortion(Lens("RADIAL", 64, 48, (50, 50), (32, 24), (0.0, 0.0))) is None


def test_a_hopeless_lens_is_refused():
    with pytest.raises(InputError, match="leaves no upright part"):
        undistortion(Lens("SIMPLE_RADIAL", 64, 48, (20, 20), (32, 24), (-5.0,)))
    plan = undistortion(lens_of("OPENCV"))
    with pytest.raises(InputError, match="its lens is for 128x96"):
        undistort_picture(np.zeros((10, 10, 3), np.uint8), plan)
