"""What cannot be used ends in one sentence, on the node that was given it, and nothing is written."""

import pytest
from comfy_graphs import RANDOM, views

from sightline.cli import headless


def one_sentence(text: str) -> str:
    text = text.strip()
    assert "\n" not in text and "Traceback" not in text
    assert 20 < len(text) < 450 and text.endswith(".")
    return text


def failure(server, workflow) -> headless.Failed:
    with pytest.raises(headless.Failed) as caught:
        server.run(workflow)
    one_sentence(caught.value.exception_message)
    assert caught.value.exception_type == "ValueError"
    return caught.value


@pytest.mark.parametrize(
    "kind, node, words",
    [
        ("nan", "2", "not finite"),
        ("no pixels", "2", "32x0"),
        ("no pictures", "2", "no picture"),
        ("two channels", "2", "2 channels"),
    ],
)
def test_pictures(server, written, kind, node, words):
    workflow = views(image=("6", 0))
    workflow["6"] = {"class_type": "SightlineTestBrokenImage", "inputs": {"kind": kind}}
    error = failure(server, workflow)
    assert error.node_id == node and words in error.exception_message
    assert written() == []


def test_seven_views(server, written):
    workflow = views(image=("6", 0), azimuths="0,50,100,150,200,250,300")
    workflow["6"] = {"class_type": "SightlineTestBrokenImage", "inputs": {"kind": "seven"}}
    error = failure(server, workflow)
    assert "7 pictures" in error.exception_message and "1 to 6" in error.exception_message
    assert written() == []


@pytest.mark.parametrize(
    "kind, words", [("empty", "mask of Picture 1 is empty"), ("nan", "not finite"), ("three", "3 masks")]
)
def test_masks(server, written, kind, words):
    workflow = views(mask=["6", 0])
    workflow["6"] = {"class_type": "SightlineTestBrokenMask", "inputs": {"kind": kind}}
    error = failure(server, workflow)
    assert error.node_id == "2" and words in error.exception_message
    assert written() == []


@pytest.mark.parametrize(
    "kind, node, words",
    [
        ("zero determinant", "7", "rotation"),
        ("at its target", "7", "looks at"),
        ("nan", "7", "finite"),
        ("orthographic", "7", "perspective"),
        ("no position", "7", "position"),
        ("another fov", "4", "field of view"),
    ],
)
def test_cameras(server, written, kind, node, words):
    workflow = views(cameras=["7", 0])
    workflow["6"] = {"class_type": "SightlineTestBrokenCamera", "inputs": {"kind": kind}}
    workflow["7"] = {"class_type": "SightlineCameraFrom3DView", "inputs": {"camera_info": ["6", 0]}}
    error = failure(server, workflow)
    assert error.node_id == node and words in error.exception_message
    assert written() == []


@pytest.mark.parametrize("kind, words", [("no splats", "no Gaussians"), ("nan", "not finite")])
def test_splats(server, written, kind, words):
    workflow = {
        "1": {"class_type": "SightlineTestBrokenSplat", "inputs": {"kind": kind}},
        "2": views()["5"],
    }
    workflow["2"]["inputs"]["splat"] = ["1", 0]
    error = failure(server, workflow)
    assert error.node_id == "2" and words in error.exception_message
    assert written() == []


@pytest.mark.parametrize(
    "weights, words",
    [
        ("cut_short.safetensors", "cut short"),
        ("cut_short.pth", "cut short"),
        ("empty.safetensors", "empty.safetensors"),
        ("foreign_globals.pth", "nothing in it was run"),
        ("other_network.safetensors", "feature_extractor"),
    ],
)
def test_weights(server, written, weights, words):
    workflow = views()
    workflow["3"]["inputs"]["weights"] = weights
    error = failure(server, workflow)
    assert error.node_id == "3" and words in error.exception_message and weights in error.exception_message
    assert not (server.base / "models" / "sparsegen" / "executed").exists()
    assert written() == []


def rejected(server, workflow, node: str) -> list[dict]:
    with pytest.raises(headless.Rejected) as caught:
        server.run(workflow)
    return caught.value.node_errors[node]["errors"]


@pytest.mark.parametrize("text", ["left", "0; up", "", "0, nan"])
def test_azimuths_are_refused_before_anything_runs(server, written, text):
    errors = rejected(server, views(azimuths=text), "2")
    assert len(errors) == 1 and one_sentence(errors[0]["details"].removeprefix("azimuths - ")).startswith("`azimuths`")
    assert written() == []


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"elevations": "high"}, "`elevations` contains 'high'"),
        ({"azimuths": "0, 90"}, "2 values for 1 picture"),
        ({"elevations": "0, 90"}, "2 values for 1 picture"),
        ({"fov": 90.0}, "field of view"),
    ],
)
def test_angles_that_do_not_fit(server, written, inputs, words):
    assert words in failure(server, views(**inputs)).exception_message
    assert written() == []


@pytest.mark.parametrize("prefix", ["../evil", "/tmp/evil", "a/../../evil", "", "  ", ".."])
def test_outside_the_output_folder(server, written, prefix):
    workflow = views()
    workflow["5"]["inputs"]["filename_prefix"] = prefix
    errors = rejected(server, workflow, "5")
    assert len(errors) == 1 and one_sentence(errors[0]["details"].removeprefix("filename_prefix - "))
    workflow["6"] = {"class_type": "SightlineTestText", "inputs": {"text": prefix}}
    workflow["5"]["inputs"]["filename_prefix"] = ["6", 0]  # a link is not seen before it runs
    error = failure(server, workflow)
    assert error.node_id == "5" and "filename_prefix" in error.exception_message
    assert written() == [] and not list(server.base.parent.glob("evil*")) and not list(server.base.glob("evil*"))


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_out_of_range(server, steps):
    workflow = views()
    workflow["4"]["inputs"]["steps"] = steps
    assert "steps" in rejected(server, workflow, "4")[0]["details"]


def test_background_that_is_no_color(server):
    turn = {"splat": ["4", 0], "frames": 1, "width": 64, "height": 64, "elevation": 20.0, "background": "blu",
            "start": 0.0, "radius": 1.3, "fov": 51.99}  # fmt: skip
    workflow = views() | {"5": {"class_type": "SightlineSplatTurntable", "inputs": turn},
                          "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}}}  # fmt: skip
    assert "blu" in rejected(server, workflow, "5")[0]["details"]


def test_weights_that_went_away(server, written):
    workflow = views()
    gone = server.base / "models" / "sparsegen" / "gone.safetensors"
    gone.write_bytes((gone.parent / RANDOM).read_bytes())
    workflow["3"]["inputs"]["weights"] = gone.name
    server.object_info("SightlineSparseGenLoader")
    gone.unlink()
    with pytest.raises((headless.Failed, headless.Rejected)) as caught:
        server.run(workflow)
    assert gone.name in str(caught.value)
    assert written() == []


def test_the_server_still_works_after_all_this(server):
    assert server.run(views()).files
