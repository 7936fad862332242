"""Worker processes that flatten patches: several at a time, each with a time limit, gone as soon as the caller stops.

A worker is a plain Python that runs `worker.py`; neither this package nor its host is imported in it. A thread for each
talks to it. A patch that takes too long costs its worker, which is replaced, and comes back without a result.
"""

from __future__ import annotations

import os
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Progress = Callable[[int, int], None]
WORKER = Path(__file__).with_name("worker.py")
START_TIME = 60.0  # seconds a worker may take to import xatlas on top of the limit of its first patch
BEAT = 0.1  # seconds between looks at clocks and at the caller's wish to stop


class Patch(NamedTuple):
    """A piece of a surface: vertices [V, 3] float32, faces [F, 3] int32, texels per unit of length (a scale)."""

    vertices: np.ndarray
    faces: np.ndarray
    density: float


class Flat(NamedTuple):
    """Its charts: source [V'] of every new vertex, chart [V'] it belongs to, faces [F, 3], uv [V', 2] in texels."""

    source: np.ndarray
    chart: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


class _Worker:
    """One process and the thread that feeds it."""

    def __init__(self, jobs: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.job, self.since, self.fresh = None, time.monotonic(), True
        self.thread = threading.Thread(target=self._feed, args=(jobs, results), daemon=True)
        self.thread.start()

    def _feed(self, jobs: queue.SimpleQueue, results: queue.SimpleQueue) -> None:
        while True:
            job = jobs.get()
            if job is None:
                return
            number, patch = job
            self.since, self.job = time.monotonic(), number
            try:
                flat = self._ask(number, patch)
            except (OSError, ValueError, struct.error):  # it ended, or was ended
                results.put((self, number, None, False))
                return
            self.job, self.fresh = None, False
            results.put((self, number, flat, True))

    def _ask(self, number: int, patch: Patch) -> Flat | None:
        pipe = self.process.stdin
        pipe.write(struct.pack("<qqqd", number, len(patch.vertices), len(patch.faces), patch.density))
        pipe.write(np.ascontiguousarray(patch.vertices, "<f4").tobytes())
        pipe.write(np.ascontiguousarray(patch.faces, "<i4").tobytes())
        pipe.flush()
        answered, count = struct.unpack("<qq", self._read(16))
        if answered != number:
            raise ValueError("out of step")
        if count < 0:
            self._read(struct.unpack("<q", self._read(8))[0])
            return None
        source, chart = (np.frombuffer(self._read(4 * count), "<i4") for _ in range(2))
        faces = np.frombuffer(self._read(12 * len(patch.faces)), "<i4").reshape(-1, 3)
        return Flat(source, chart, faces, np.frombuffer(self._read(8 * count), "<f4").reshape(-1, 2))

    def _read(self, count: int) -> bytes:
        data = self.process.stdout.read(count)
        if len(data) != count:
            raise ValueError("it ended")
        return data

    def late(self, limit: float) -> bool:
        return self.job is not None and time.monotonic() - self.since > limit + START_TIME * self.fresh

    def end(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.wait()
        self.thread.join()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # what was not yet written to a killed process
                pass


def flatten_patches(
    patches: list[Patch], workers: int, limit: float, progress: Progress | None = None
) -> list[Flat | None]:
    """The charts of every patch, None for those that failed or took more than `limit` seconds.

    workers: processes at most. progress(done, total) counts patches; it is called ten times a second too, and where it
    raises, all processes end at once and the exception goes on.
    """
    results: queue.SimpleQueue = queue.SimpleQueue()
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    order = sorted(range(len(patches)), key=lambda i: -len(patches[i].faces))  # the longest first
    for number in order:
        jobs.put((number, patches[number]))
    found: list[Flat | None] = [None] * len(patches)
    crew: list[_Worker] = []
    everyone: list[_Worker] = []

    def hire() -> None:
        crew.append(_Worker(jobs, results))
        everyone.append(crew[-1])

    done, failures = 0, 0
    try:
        for _ in range(min(workers, len(patches))):
            hire()
        while done < len(patches):
            if progress is not None:
                progress(done, len(patches))
            try:
                worker, number, flat, alive = results.get(timeout=BEAT)
            except queue.Empty:
                for worker in crew:
                    if worker.late(limit):
                        worker.end()  # its thread reports the patch as lost
                continue
            done += 1
            found[number] = flat
            if alive:
                failures = 0
                continue
            worker.end()
            crew.remove(worker)
            failures += 1
            if failures > 2 * workers and not any(flat is not None for flat in found):
                break  # no worker starts here at all
            if done < len(patches):
                hire()
        if progress is not None:
            progress(len(patches), len(patches))
    finally:
        for _ in everyone:
            jobs.put(None)
        for worker in everyone:
            worker.end()
        for worker in everyone:
            worker.close()
    return found
