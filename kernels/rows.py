"""Work on many rows: slices that stay in the caches, on as many threads as torch uses, and rows picked quickly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import torch
from torch import Tensor

ROWS, MANY = 1 << 14, 1 << 19  # of a slice, and on devices that want much at once
BEAT = 0.05  # seconds between calls of `beat` at least
Progress = Callable[[int, int], None]


def pick(values: Tensor, index: Tensor) -> Tensor:
    """`values[index]`, for rows [N, ...] and an index of any shape; several times as fast on the CPU."""
    if values.device.type != "cpu" or values.requires_grad or values.dtype == torch.bfloat16:
        return values[index]
    return torch.from_numpy(values.numpy().take(index.numpy(), axis=0))


def at_once(values: Tensor) -> int:
    """How many rows of a slice suit the device of `values`."""
    return ROWS if values.device.type == "cpu" else MANY


def dot(a: Tensor, b: Tensor) -> Tensor:
    """`(a * b).sum(-1)` of vectors [..., 3]; several times as fast on the CPU, to the same bits."""
    x, y, z = (a * b).unbind(-1)
    return x + y + z


def by_rows(count: int, work: Callable[[slice], None], size: int = ROWS, beat: Progress | None = None) -> None:
    """Calls `work` with slices of at most `size` rows that together are `count` rows, several at a time.

    `work` writes its results to rows of its own. Every thread computes with one thread, in the caller's inference and
    gradient mode. beat(done, total) counts rows, in the caller's thread, a few times a second and at the end; what it
    or `work` raises ends the rest and is raised.
    """
    beat = _now_and_then(beat)
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        for part in parts:
            work(part)
            beat(part.stop, count)
        return
    todo, lock, results = iter(parts), threading.Lock(), SimpleQueue()
    ready = threading.Barrier(threads + 1)
    inference, grad, own = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_num_threads()

    def serve() -> None:
        torch.get_num_threads()  # a thread takes over the number of all when it is first asked, not later
        torch.set_num_threads(1)
        ready.wait()
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            for part in _shared(todo, lock):
                try:
                    work(part)
                except BaseException as error:  # handed to the thread that waits
                    results.put((error, 0))
                    return
                results.put((None, part.stop - part.start))

    crew = [threading.Thread(target=serve, daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    ready.wait()
    torch.set_num_threads(own)  # the number is the calling thread's and that of all threads to come
    done = 0
    try:
        for _ in parts:
            error, rows = results.get()
            if error is not None:
                raise error
            done += rows
            beat(done, count)
    finally:
        with lock:
            for _ in todo:  # nothing more to begin
                pass
        for thread in crew:
            thread.join()


def _now_and_then(beat: Progress | None) -> Progress:
    """`beat`, left out where the last call is not long ago, but for the last of all."""
    last = time.monotonic()

    def call(done: int, total: int) -> None:
        nonlocal last
        if beat is not None and (done == total or time.monotonic() - last > BEAT):
            last = time.monotonic()
            beat(done, total)

    return call


def _shared(items: Iterator, lock: threading.Lock) -> Iterator:
    """The items of an iterator that several threads take from."""
    while True:
        with lock:
            item = next(items, None)
        if item is None:
            return
        yield item
