"""Projection Grid Overlay in the real server."""

import numpy as np
import pytest
from PIL import Image

from sightline.cli import headless


def graph(**inputs) -> dict:
    views = {"images.image0": ["1", 0], "images.image1": ["1", 0], "azimuths": "0, 90", "elevations": "0",
             "fit": "pad", "radius": 1.6, "fov": 35.0}  # fmt: skip
    return {
        "1": {"class_type": "SightlineExamplePicture", "inputs": {"picture": EXAMPLE}},
        "2": {"class_type": "SightlineViewSet", "inputs": views},
        "3": {"class_type": "SightlineProjectionGridOverlay",
              "inputs": {"fov": 40.0, "mesh_scale": 1.0, **inputs}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }  # fmt: skip


EXAMPLE = "set by the fixture"


@pytest.fixture(autouse=True)
def example(server, monkeypatch):
    info = server.object_info("SightlineExamplePicture")["SightlineExamplePicture"]
    monkeypatch.setitem(globals(), "EXAMPLE", info["input"]["required"]["picture"][1]["default"])


def drawn(server, workflow) -> list[np.ndarray]:
    run = server.run(workflow)
    assert run.outputs["3"]["images"], "the node shows nothing itself"
    folder = server.base / "temp"
    return [
        np.asarray(Image.open(folder / one["subfolder"] / one["filename"]).convert("RGB")).astype(int)
        for one in run.outputs["4"]["images"]
    ]


def test_a_wrong_field_of_view_draws_another_grid(server):
    one, other = (drawn(server, graph(image=["1", 0], fov=fov))[0] for fov in (30.0, 70.0))
    assert one.shape == other.shape == (768, 768, 3)
    assert (np.abs(one - other).max(axis=2) > 60).mean() > 0.01


def test_every_view_through_its_own_camera(server):
    pictures = drawn(server, graph(views=["2", 0]))
    assert len(pictures) == 2 and np.abs(pictures[0] - pictures[1]).max() > 60


@pytest.mark.parametrize("inputs", [{}, {"image": ["1", 0], "views": ["2", 0]}])
def test_one_of_picture_and_views(server, inputs):
    with pytest.raises(headless.HeadlessError, match="either `image` or `views`"):
        server.run(graph(**inputs))
