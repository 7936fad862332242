"""Drives `native_flux.py`: one process with core's FLUX for a whole run of tests."""

import json
import subprocess
from pathlib import Path

from inside_comfyui import MARK, command


class Worker:
    """Ask it, and get its answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = open(folder / "log.txt", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            **command("native_flux.py", folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        assert self.answer() == {"ready": True}

    def answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
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
    worker = Worker(tmp_path_factory.mktemp("core_flux"))
    yield worker
    worker.close()
