"""Download Weights in the real server, from a hub in this process."""

import pytest

from sightline.cli import headless
from sightline.models.trellis2.weights import DINOV3, NAF


def graph(weights: str, accepted: bool) -> dict:
    inputs = {"weights": weights, "accept_licence": accepted}
    return {"1": {"class_type": "SightlineDownloadWeights", "inputs": inputs}}


@pytest.fixture
def place(server):
    """The folder that the encoder goes to; empty before and after."""
    folder = server.base / "models" / "trellis2" / DINOV3.files[0].repo
    server.hub.asked.clear()
    yield folder
    for path in folder.glob("*"):
        path.unlink()


def test_without_the_licence_nothing_is_fetched(server, place):
    with pytest.raises(headless.HeadlessError, match=r"1\.21 GB in 2 files .*DINOv3 License.*accept_licence"):
        server.run(graph("dinov3-vitl16", False))
    assert server.hub.asked == [] and not list(place.glob("*"))


def test_what_is_missing_is_fetched_from_the_hub(server, place):
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "model.safetensors", "wb") as stream:
        stream.truncate(DINOV3.files[1].bytes)  # takes no room on the disk
    run = server.run(graph("dinov3-vitl16", True))
    assert server.hub.asked == [f"/{DINOV3.files[0].repo}/resolve/main/config.json"]
    assert (place / "config.json").read_bytes() == b"{}"
    (text,) = run.outputs["1"]["text"]
    assert "2 files" in text and "1 fetched now" in text and str(place) in text


def test_an_interrupt_keeps_what_has_arrived(server, place):
    asked = []

    def interrupt(event):
        data = event["data"]
        if event["type"] == "progress" and data["node"] == "1" and data["value"] > 2 << 20 and not asked:
            asked.append(event)
            server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(graph("dinov3-vitl16", True), on_event=interrupt)
    assert asked and 2 << 20 < (place / "model.safetensors.part").stat().st_size < DINOV3.files[1].bytes
    assert not (place / "model.safetensors").exists()


def test_files_that_are_there_need_no_licence(server, place):
    there = server.base / "models" / "trellis2" / NAF.files[0].repo / NAF.files[0].name
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(bytes(NAF.files[0].bytes))
    try:
        (text,) = server.run(graph("naf", False)).outputs["1"]["text"]
    finally:
        there.unlink()
    assert "0 fetched now" in text and server.hub.asked == []
