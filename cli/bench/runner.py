"""Times contenders in turn, each in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...scene.errors import InputError
from .clock import finish
from .op import Missing, Op

SLOW = 8.0  # seconds: what takes longer is not warmed up and not repeated


class Worker:
    """A contender's process: it prepares, then runs once for every line it is sent."""

    def __init__(self, op: Op, size: str, contender: str, threads: int, device: str, folder: str):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        task = {
            "op": op.name,
            "size": size,
            "contender": contender,
            "threads": threads,
            "device": device,
            "output": str(Path(folder) / f"{contender}.safetensors".replace(" ", "_").replace("/", "_")),
        }
        command = [sys.executable, "-m", __package__.rsplit(".", 2)[0], "bench", "--worker", json.dumps(task)]
        self.output = task["output"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.ready: dict[str, Any] = {}

    def ask(self, word: str) -> dict[str, Any]:
        """Send a word, read the answer; raises Missing or RuntimeError with what the process said."""
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except OSError:
            pass
        return self.answer()

    def answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith("{"):  # a contender may print what it likes
                found = json.loads(line)
                if "missing" in found:
                    raise Missing(found["missing"])
                return found
        said = self.process.stderr.read().strip().splitlines()
        raise RuntimeError(said[-1] if said else f"its process ended with code {self.process.wait()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


def time_op(
    op: Op,
    size: str,
    threads: int = 1,
    rounds: int = 7,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Time every contender of `op` at one size; returns the table as plain data.

    Each entry of "contenders": name, and either "missing" (why), or wall and CPU medians and minima in seconds, runs,
    peak_rss and growth over the prepared state in bytes (None where the system does not tell), cuda_peak in bytes (None
    elsewhere), figures {name: value} of an operation with `measure`, stages {name: wall_median, cuda_peak} of
    contenders with stages, ratio and ratio_cpu (its median by ours, wall and CPU time), and difference {output: largest
    absolute difference to ours}.
    """
    if size not in op.sizes:
        raise InputError(f"{op.name} has no size {size}; {', '.join(op.sizes)} would work.")
    if threads < 1 or rounds < 1:
        raise InputError(f"There are {threads} threads and {rounds} rounds; both must be at least 1.")
    workers: dict[str, Worker] = {}
    entries: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for contender in op.contenders:
                entry = entries[contender.name] = {
                    "name": contender.name,
                    "same": contender.same,
                    "note": contender.note,
                }
                if size not in contender.sizes:
                    entry["missing"] = "left out at this size"
                    continue
                tell(f"{op.name} {size}: preparing {contender.name}")
                worker = Worker(op, size, contender.name, threads, device, folder)
                workers[contender.name] = worker
                try:
                    worker.ready = worker.answer()
                    first = worker.ask("run")
                    entry["runs"] = [first] if first["wall"] > SLOW else []
                except (Missing, RuntimeError) as error:
                    entry["missing"] = str(error)
                    workers.pop(contender.name).close()
            for turn in range(rounds):
                tell(f"{op.name} {size}: round {turn + 1} of {rounds}")
                for name, worker in workers.items():
                    runs = entries[name]["runs"]
                    if not runs or runs[0]["wall"] <= SLOW:
                        runs.append(worker.ask("run"))
            for name, worker in workers.items():
                entries[name] |= _summary(entries[name].pop("runs"), worker.ask("memory"), worker.ready["rss"])
                entries[name]["figures"] = worker.ask("save")["figures"]
            _compare(op, entries, workers)
        finally:
            for worker in workers.values():
                worker.close()
    return {
        "op": op.name,
        "size": size,
        "case": op.sizes[size],
        "threads": threads,
        "device": device,
        "contenders": list(entries.values()),
    }


def _summary(runs: list[dict], memory: dict, before: int | None) -> dict[str, Any]:
    wall, cpu = [run["wall"] for run in runs], [run["cpu"] for run in runs]
    peak = memory["peak"]
    return {
        "wall_median": statistics.median(wall),
        "wall_min": min(wall),
        "cpu_median": statistics.median(cpu),
        "cpu_min": min(cpu),
        "runs": len(runs),
        "peak_rss": peak,
        "growth": None if peak is None or before is None else max(0, peak - before),
        "cuda_peak": memory.get("cuda_peak"),
        "stages": _stages([run.get("stages") or {} for run in runs]),
    }


def _stages(runs: list[dict[str, dict]]) -> dict[str, dict[str, float]]:
    """Median seconds and largest memory of every stage over all runs."""
    found: dict[str, dict[str, float]] = {}
    for name in runs[0]:
        walls = [run[name]["wall"] for run in runs]
        peaks = [run[name]["cuda_peak"] for run in runs if "cuda_peak" in run[name]]
        found[name] = {"wall_median": statistics.median(walls), **({"cuda_peak": max(peaks)} if peaks else {})}
    return found


def _compare(op: Op, entries: dict[str, dict], workers: dict[str, Worker]) -> None:
    """Ratios and differences to the first contender."""
    import numpy as np
    from safetensors.numpy import load_file

    ours = op.contenders[0].name
    if ours not in workers:
        return
    own = load_file(workers[ours].output)
    for name, worker in workers.items():
        if name == ours:
            continue
        for ratio, clock in (("ratio", "wall_median"), ("ratio_cpu", "cpu_median")):
            entries[name][ratio] = entries[name][clock] / entries[ours][clock]
        theirs = load_file(worker.output)
        entries[name]["difference"] = {
            key: float(np.abs(own[key].astype(np.float64) - theirs[key]).max(initial=0.0))
            for key in own
            if key in theirs and own[key].shape == theirs[key].shape
        }


def work(task: dict[str, Any], op: Op) -> None:
    """The life of a worker process: one JSON line for "ready" and for every line on stdin, until that ends."""
    import torch

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    contender = next(c for c in op.contenders if c.name == task["contender"])
    try:
        run = contender.prepare({**op.sizes[task["size"]], "device": task["device"]})
    except Missing as error:
        _say({"missing": str(error)})
        return
    _say({"rss": resident()})
    outputs: dict = {}
    for line in sys.stdin:
        word = line.strip()
        if word == "run":
            finish(task["device"])
            wall, cpu = time.perf_counter(), time.process_time()
            result = run()
            finish(task["device"])
            spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            outputs = dict(result or {})
            stages = outputs.pop("stages", None)
            _say({**spent, "stages": stages or {}})
        elif word == "memory":
            _say({"peak": peak_resident(), "cuda_peak": _cuda_peak(task["device"])})
        elif word == "save":
            from safetensors.torch import save_file

            save_file({k: v.detach().float().cpu().contiguous() for k, v in outputs.items()}, task["output"])
            figures = op.measure({**op.sizes[task["size"]], "device": task["device"]}, outputs) if op.measure else {}
            _say({"saved": len(outputs), "figures": figures})


def _cuda_peak(device: str) -> int | None:
    """The most memory that was allocated on a CUDA device since the last stage began; None elsewhere."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_allocated()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def resident() -> int | None:
    """Bytes of memory this process holds now; None where the system does not tell."""
    return _status("VmRSS")


def peak_resident() -> int | None:
    """The most bytes of memory this process ever held.

    From /proc where there is one, since `getrusage` counts the parent's memory at the fork as ours.
    """
    peak = _status("VmHWM")
    if peak is None:
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return peak


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)
