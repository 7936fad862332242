"""Fixtures of the host tests; the server itself is in ``tests/conftest.py``."""

import pytest


@pytest.fixture
def written(server):
    """Call it to get what appeared in the output folder since the test began."""
    output = server.base / "output"
    before = set(output.rglob("*"))
    return lambda: sorted(set(output.rglob("*")) - before)
