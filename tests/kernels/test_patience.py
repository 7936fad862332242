"""Waiting for calls that cannot be interrupted."""

import threading
import time

import pytest

from sightline.kernels.patience import patiently


def test_the_result_and_the_error_come_through():
    beats = []
    assert patiently(lambda: time.sleep(0.35) or 7, lambda: beats.append(1)) == 7 and len(beats) >= 2
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, lambda: None)
    assert patiently(lambda: 3) == 3


def test_stopping_does_not_wait():
    go = threading.Event()

    def stop():
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        patiently(lambda: go.wait(30), stop)
    assert time.monotonic() - start < 2
    go.set()
