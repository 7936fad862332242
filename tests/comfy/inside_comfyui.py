"""Programs that work inside ComfyUI, for tests: each a process of its own, since ComfyUI's modules (`nodes`, `server`,
`utils`, ...) do not mix with other tests.

A test calls `ask`; the program, ``python PROGRAM.py COMFYUI_TREE BASE_FOLDER``, calls `enter` first and `answer` last.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARK = "ANSWER "


def command(program: str, base: Path) -> dict:
    """What to start ``tests/comfy/PROGRAM`` with; skips the test where there is no ComfyUI."""
    import pytest

    from sightline.cli import headless

    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    return {
        "args": [sys.executable, str(HERE / program), str(tree.path), str(base)],
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        "text": True,
    }


def ask(program: str, base: Path) -> dict:
    """The answer of ``tests/comfy/PROGRAM``; skips the test where this ComfyUI lacks what the program needs."""
    run = subprocess.run(**command(program, base), capture_output=True)
    answers = [line for line in run.stdout.splitlines() if line.startswith(MARK)]
    assert run.returncode == 0 and answers, run.stderr[-4000:]
    found = json.loads(answers[0].removeprefix(MARK))
    if "absent" in found:
        import pytest

        pytest.skip(f"this ComfyUI has no {found['absent']} (0.33 has)")
    return found


def enter(*flags: str) -> None:
    """Make this process a ComfyUI on the CPU, as `main.py` begins."""
    tree, base = sys.argv[1:]
    sys.path.insert(0, tree)
    sys.argv = ["main.py", "--cpu", *flags, "--base-directory", base]
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch

    torch.set_num_threads(1)


def our_nodes() -> dict:
    """{node id: class} as the host gets them."""
    import sightline

    extension = asyncio.run(sightline.comfy_entrypoint())
    asyncio.run(extension.on_load())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


def answer(found: dict) -> None:
    print(MARK + json.dumps(found), flush=True)
