"""Running commands for the installer: a log, one sentence when something fails, a lock, steps that are done once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT / ".sightline"  # lock, log, demo folders


class Failure(Exception):
    """A sentence for the user."""


def say(text: str) -> None:
    print(text, flush=True)


CAUSES = (
    (r"No space left|Errno 28|disk quota", "the disk is full"),
    (
        r"name resolution|Name or service|resolve host|getaddrinfo|unreachable|timed out|NewConnectionError"
        r"|Connection (refused|reset)|ProxyError|SSLError|CERTIFICATE",
        "the network cannot be reached (pip and git use your proxy settings)",
    ),
    (r"No matching distribution|Could not find a version", "a package is not to be had for this Python and platform"),
    (r"Permission denied|Errno 13", "a folder cannot be written"),
)


def run(what: str, command: list, timeout: float | None = None, env: dict | None = None) -> None:
    """Run a command with its output in the log; on failure raise one sentence with the likely cause."""
    log = ROOM / "install.log"
    started = time.monotonic()
    with open(log, "ab") as out:
        out.write(f"\n$ {' '.join(map(str, command))}\n".encode())
        out.flush()
        start = out.tell()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOM,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(env or {})},
        )  # fmt: skip
        try:
            while process.poll() is None:
                seconds = time.monotonic() - started
                if timeout and seconds > timeout:
                    raise Failure(f"{what} took longer than {timeout:.0f} seconds.")
                if sys.stdout.isatty():
                    print(f"\r  {what} ... {seconds:.0f} s", end="", flush=True)
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if sys.stdout.isatty():
                print("\r" + " " * 78 + "\r", end="")
    if process.returncode:
        with open(log, "rb") as written:
            written.seek(start)
            text = written.read().decode(errors="replace")
        cause = next((cause for pattern, cause in CAUSES if re.search(pattern, text, re.I)), "see the log")
        raise Failure(f"{what} failed: {cause}. The whole story is in {log}.")


def python_says(python: Path | str, code: str) -> str | None:
    """What a snippet prints in that interpreter, or None if it fails."""
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, cwd=ROOM)
    return answer.stdout.strip() if answer.returncode == 0 else None


@contextlib.contextmanager
def alone():
    """Hold the lock of this folder: a second run waits for the first. The system lets go of it if we die."""
    ROOM.mkdir(exist_ok=True)
    with open(ROOM / "lock", "a+b") as file:
        if not try_lock(file):
            say("Another install.py is at work in this folder; waiting for it.")
            while not try_lock(file):
                time.sleep(0.5)
        yield


def try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


class Steps:
    """What has been done to ``.venv``: each step with a key of what went into it, so that a change does it again."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.done = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.done = {}

    def do(self, name: str, key: str, action) -> None:
        if self.done.get(name) == key:
            return
        started = time.monotonic()
        action()
        say(f"  {name}: {time.monotonic() - started:.0f} s")
        self.done[name] = key
        half = self.path.with_suffix(".new")
        half.write_text(json.dumps(self.done, indent=1), encoding="utf-8")
        os.replace(half, self.path)
