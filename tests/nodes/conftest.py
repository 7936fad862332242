"""What ComfyUI gets to know about the nodes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import headless


@pytest.fixture(scope="session")
def described(tmp_path_factory) -> dict:
    """{node id: the host's node info and what else `describe_nodes` says}."""
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    script = Path(__file__).parents[1] / "comfy" / "describe_nodes.py"
    run = subprocess.run(
        [sys.executable, str(script), str(tree.path), str(tmp_path_factory.mktemp("base"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("DESCRIBED ")]
    assert run.returncode == 0 and lines, run.stderr[-4000:]
    return json.loads(lines[0].removeprefix("DESCRIBED "))
