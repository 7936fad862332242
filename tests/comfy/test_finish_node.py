"""Mesh Finish on core's types: ragged batches, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import headless


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    script, base = Path(__file__).with_name("finish_node.py"), tmp_path_factory.mktemp("base")
    run = subprocess.run(
        [sys.executable, str(script), str(tree.path), str(base)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if line.startswith("SAID ")]
    assert run.returncode == 0 and lines, run.stderr[-4000:]
    return json.loads(lines[0].removeprefix("SAID "))


def test_a_ragged_batch_is_finished_item_by_item(said):
    assert said["untouched"] and said["same as alone"]
    assert said["faces"][0] <= 300 and said["faces"][1] == 192
    assert said["normals"][0][2] == 3 and said["normals"][1][:2] == said["normals"][0][:2]
    assert said["report"].count("border edges") == 2 and "faces added over holes" in said["report"]


@pytest.mark.parametrize("name", ["no faces", "not finite", "out of range", "no area"])
def test_what_is_broken_is_refused_in_one_sentence(said, name):
    text = said["refused"][name]
    assert text.endswith(".") and "\n" not in text and ("Item" in text or name == "no area")
