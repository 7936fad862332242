"""A progress bar on stderr: tqdm where it is installed, else a plain counter."""

from __future__ import annotations

import sys
import time


class Progress:
    """Usable as a `callback(done, total)` and as a context manager.

    shown: True, False, or None = only when stderr is a terminal. unit: of the numbers, such as "B" for bytes.
    """

    def __init__(self, label: str, shown: bool | None = None, unit: str | None = None) -> None:
        self.label = label
        self.unit = unit
        self.shown = sys.stderr.isatty() if shown is None else shown
        self._bar = None
        self._done = 0
        self._last = 0.0
        self._dirty = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __call__(self, done: int, total: int) -> None:
        if not self.shown:
            return
        if self._bar is None:
            self._bar = _tqdm_bar(self.label, total, self.unit) or False
        if self._bar:
            self._bar.update(done - self._done)
        else:
            self._print(done, total)
        self._done = done

    def _print(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= 0.2 or done >= total:
            sys.stderr.write(f"\r{self.label}: {done}/{total}")
            sys.stderr.flush()
            self._last, self._dirty = now, True

    def close(self) -> None:
        """End the line; further calls start a new bar."""
        if self._bar:
            self._bar.close()
        elif self._dirty:
            sys.stderr.write("\n")
        self._bar, self._done, self._dirty = None, 0, False


def _tqdm_bar(label: str, total: int, unit: str | None = None):
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    scale = {"unit": unit, "unit_scale": True, "unit_divisor": 1000} if unit else {}
    return tqdm(total=total, desc=label, file=sys.stderr, leave=False, **scale)
