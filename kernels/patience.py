"""Waiting for a library call that cannot be interrupted, in a way that can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

BEAT = 0.1  # seconds between looks at the caller's wish to stop


class Later:
    """`call()`, begun at once in a thread, in the inference mode of the caller."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._found: dict[str, Any] = {}
        inference = torch.is_inference_mode_enabled()

        def work() -> None:
            try:
                with torch.inference_mode(inference):
                    self._found["result"] = call()
            except BaseException as error:  # handed to the thread that waits
                self._found["error"] = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def result(self, beat: Callable[[], None] | None = None) -> Any:
        """What it returns, or raises, while `beat()` is called ten times a second.

        Where `beat` raises, the exception goes on at once; the thread ends by itself when its call does, and what it
        found is dropped.
        """
        while beat is not None and self._thread.is_alive():
            self._thread.join(BEAT)
            beat()
        self._thread.join()
        if "error" in self._found:
            raise self._found["error"]
        return self._found["result"]


def patiently(call: Callable[[], Any], beat: Callable[[], None] | None = None) -> Any:
    """The result of `call()`, computed in a thread, while `beat()` is called ten times a second; see `Later`.

    Without `beat` it is simply called.
    """
    return call() if beat is None else Later(call).result(beat)
