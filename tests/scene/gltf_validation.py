"""Khronos' glTF validator, where node and its npm package `gltf-validator` are found; else the caller skips.

Looked for in the repository's `node_modules`, in $NODE_PATH, and among npm's global packages.
"""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(0))).then(
  report => console.log(JSON.stringify(report.issues)), error => { console.error(error); process.exit(1); });
"""
CAUSE = "needs node and `npm install gltf-validator`"


@functools.cache
def environment() -> dict | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        return None
    folders = [str(Path(__file__).resolve().parents[2] / "node_modules"), os.environ.get("NODE_PATH", "")]
    if npm is not None:
        found = subprocess.run([npm, "root", "-g"], capture_output=True, text=True)
        folders.append(found.stdout.strip())
    variables = {**os.environ, "NODE_PATH": os.pathsep.join(f for f in folders if f)}
    test = subprocess.run([node, "-e", "require('gltf-validator')"], env=variables, capture_output=True)
    return variables if test.returncode == 0 else None


def check_glb(data: bytes) -> None:
    """Fail unless the validator finds neither errors nor warnings; skip where there is none."""
    variables = environment()
    if variables is None:
        pytest.skip(CAUSE)
    done = subprocess.run(["node", "-e", SCRIPT], input=data, env=variables, capture_output=True, check=True)
    issues = json.loads(done.stdout)
    assert issues["numErrors"] == 0 and issues["numWarnings"] == 0, json.dumps(issues["messages"][:5], indent=1)
