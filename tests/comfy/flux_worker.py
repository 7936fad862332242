"""Drives `native_flux.py`: one process with core's FLUX for a whole run of tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import headless

HERE = Path(__file__).parent


class Worker:
    """Ask it, and get its answer."""

    def __init__(self, tree, folder: Path) -> None:
        self.folder = folder
        self.log = open(folder / "log.txt", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "native_flux.py"), str(tree.path), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self.answer() == {"ready": True}

    def answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        self.log.flush()
        raise AssertionError((self.folder / "log.txt").read_text(encoding="utf-8")[-4000:])

    def ask(self, do: str, **request) -> dict:
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        assert "failed" not in answer, answer["failed"]
        return answer

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:  # a busy machine; there is nothing left to lose
            self.process.kill()
            self.process.wait()
        self.log.close()


def running_worker(tmp_path_factory):
    """Yield the worker; skip without ComfyUI."""
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    worker = Worker(tree, tmp_path_factory.mktemp("core_flux"))
    yield worker
    worker.close()
