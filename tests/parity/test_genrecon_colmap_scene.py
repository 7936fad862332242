"""Undistorted frames of a COLMAP capture."""

import numpy as np
from PIL import Image

from sightline.scene.captures import read_capture

SYSTEM, KIND, SUFFIX = "genrecon", "colmap_scene", "/"


def test_undistorted_frames(fixture, ledger):
    scene = read_capture(fixture.path, "colmap", pictures="rgb")
    photos = {photo.name: photo for photo in scene.photos}
    for file in sorted((fixture.path / "rgb_undistorted").iterdir()):
        expected = np.asarray(Image.open(file).convert("RGB"))
        ledger.close("undistorted_frame", photos[file.name].read()[..., :3] / 255, expected / 255, atol=1.001 / 255)
