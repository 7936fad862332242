"""Options and markers of the whole suite. The parity harness is in ``tests/parity/conftest.py``."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests are many small operations; read by torch, and by every child

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent
TIERS = ("parity", "comfy", "browser")


def pytest_addoption(parser):
    group = parser.getgroup("sightline")
    group.addoption(
        "--golden",
        action="append",
        metavar="DIR",
        default=None,
        help="a folder of parity fixtures, DIR/<system>/<kind>*; repeatable. "
        "Replaces the default: tests/golden, and ../shared/golden where it exists.",
    )
    group.addoption("--ledger", metavar="FILE", default=None, help="write the parity ledger to FILE as markdown")


def pytest_configure(config):
    config.addinivalue_line("markers", "unit: needs nothing (every test outside the other tiers)")
    config.addinivalue_line("markers", "parity: compares with recorded outputs of the official code; needs fixtures")
    config.addinivalue_line("markers", "comfy: needs a ComfyUI tree and its requirements")
    config.addinivalue_line("markers", "browser: needs Chromium and playwright")


def pytest_collection_modifyitems(items):
    """Give every test the marker of its tier, which is its folder: ``pytest -m parity``, ``pytest -m "not comfy"``."""
    for item in items:
        parts = Path(item.path).relative_to(TESTS).parts if TESTS in Path(item.path).parents else ()
        tier = parts[0] if parts and parts[0] in TIERS else "unit"
        item.add_marker(getattr(pytest.mark, tier))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds ``pyproject.toml``."""
    return REPOSITORY


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One real ComfyUI for the whole run (`sightline.cli.headless.Server`)."""
    from comfy_server import running_server

    yield from running_server(tmp_path_factory)


@pytest.fixture(scope="session")
def core_flux(tmp_path_factory):
    """A process with our branch on core's own FLUX, for the whole run (`tests/comfy/flux_worker.py`)."""
    from flux_worker import running_worker

    yield from running_worker(tmp_path_factory)
