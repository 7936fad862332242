"""Mesh Finish on core's types: ragged batches, and what is refused."""

import pytest
from inside_comfyui import ask


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict:
    return ask("finish_node.py", tmp_path_factory.mktemp("base"))


def test_a_ragged_batch_is_finished_item_by_item(said):
    assert said["untouched"] and said["same as alone"]
    assert said["faces"][0] <= 300 and said["faces"][1] == 192
    assert said["normals"][0][2] == 3 and said["normals"][1][:2] == said["normals"][0][:2]
    assert said["report"].count("border edges") == 2 and "faces added over holes" in said["report"]


@pytest.mark.parametrize("name", ["no faces", "not finite", "out of range", "no area"])
def test_what_is_broken_is_refused_in_one_sentence(said, name):
    text = said["refused"][name]
    assert text.endswith(".") and "\n" not in text and ("Item" in text or name == "no area")
