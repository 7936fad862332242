"""Interrupting a run: it stops at once, nothing is written, the server goes on."""

import time

import pytest
from comfy_graphs import previews, views

from sightline.cli import headless


def test_interrupt_in_mid_run_leaves_the_server_usable(server, written):
    workflow = views()
    workflow["4"]["inputs"].update(steps=1000, seed=77)
    seen, stopped = [], []

    def interrupt_once_it_samples(event):
        if event["type"] == "progress" and event["data"]["node"] == "4":
            seen.append(event["data"]["value"])
            if len(seen) == 2:
                stopped.append(time.monotonic())
                server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(workflow, on_event=interrupt_once_it_samples)
    assert stopped and time.monotonic() - stopped[0] < 30
    assert 0 < max(seen) < 1000
    assert written() == []

    workflow["4"]["inputs"]["steps"] = 1
    run = server.run(workflow)
    assert run.files and "3" in run.cached, "the loaded model was lost"
    assert written()


def test_interrupt_while_a_turntable_is_drawn(server, written):
    workflow = views()
    turn = {"splat": ["4", 0], "frames": 720, "width": 512, "height": 512, "elevation": 20.0, "background": "#ffffff",
            "start": 0.0, "radius": 1.3, "fov": 51.99}  # fmt: skip
    workflow["5"] = {"class_type": "SightlineSplatTurntable", "inputs": turn}
    save = {"images": ["5", 0], "filename_prefix": "never/turn", "fps": 8.0, "lossless": True, "quality": 80,
            "method": "default"}  # fmt: skip
    workflow["6"] = {"class_type": "SaveAnimatedWEBP", "inputs": save}
    asked = []

    def interrupt(event):
        if event["type"] == "progress" and event["data"]["node"] == "5" and not asked:
            asked.append(event)
            server.interrupt()

    with pytest.raises(headless.Interrupted):
        server.run(workflow, on_event=interrupt)
    assert written() == []


def test_progress_counts_steps(server):
    workflow = views()
    workflow["4"]["inputs"].update(steps=5, seed=78)
    values = []
    server.run(
        workflow,
        on_event=lambda e: values.append(e["data"]) if e["type"] == "progress" and e["data"]["node"] == "4" else None,
    )
    assert values[-1]["value"] == values[-1]["max"] == 5


def test_guessed_views_are_shown_while_it_samples(server):
    """The host sends a JPEG of the virtual views, side by side, with the progress of every step but the last."""
    workflow = views()
    workflow["4"]["inputs"].update(steps=4, seed=79)
    pictures = previews(server, workflow)
    assert len(pictures) >= 3
    width, height = pictures[0].size  # the host makes it larger
    assert abs(width - 3 * height) <= 3
