"""Waiting for a library call that cannot be interrupted, in a way that can."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

BEAT = 0.1  # seconds between looks at the caller's wish to stop


def patiently(call: Callable[[], Any], beat: Callable[[], None] | None = None) -> Any:
    """The result of `call()`, computed in a thread, while `beat()` is called ten times a second.

    Where `beat` raises, the exception goes on at once; the thread ends by itself when its call does, and what it found
    is dropped. What `call` raises is raised here. Without `beat` it is simply called.
    """
    if beat is None:
        return call()
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found["result"] = call()
        except BaseException as error:  # handed to the thread that waits
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(BEAT)
        beat()
    if "error" in found:
        raise found["error"]
    return found["result"]
