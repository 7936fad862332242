"""The parity harness: finds fixtures, hands each to the tests of its kind, and keeps the ledger.

A parity module names its system and its kind, and takes one ``fixture`` at a time::

    SYSTEM, KIND = "sparsegen", "raster"
    EXCLUDE = ("raster_grad",)     # optional: longer names that start alike and are a kind of their own
    SUFFIX = ".safetensors"        # optional: ".json" for plain JSON, "/" for folders

    def test_pixels(fixture, ledger):
        t = fixture.tensors()
        ledger.close("raster.rgba", render(t), t["out.rgba_premultiplied"], atol=1e-5, fraction=0.999)

Sizes, seeds and options are read from the fixture, never written in a test.
"""

from pathlib import Path

import pytest
from parity_harness import Ledger, discover, golden_dirs

LEDGER = pytest.StashKey[Ledger]()


def pytest_generate_tests(metafunc):
    if "fixture" not in metafunc.fixturenames:
        return
    module = metafunc.module
    missing = [name for name in ("SYSTEM", "KIND") if not hasattr(module, name)]
    if missing:
        raise pytest.UsageError(f"{module.__file__}: a parity module sets {' and '.join(missing)}")
    try:
        dirs = golden_dirs(metafunc.config.getoption("golden"))
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None
    exclude, suffix = getattr(module, "EXCLUDE", ()), getattr(module, "SUFFIX", ".safetensors")
    found = discover(dirs, module.SYSTEM, module.KIND, exclude, suffix)
    params = [pytest.param(fixture, id=fixture.id) for fixture in found]
    if not params:
        where = ", ".join(str(d) for d in dirs) or "no folder"
        skip = pytest.mark.skip(reason=f"no {module.SYSTEM}/{module.KIND} fixture in {where}")
        params = [pytest.param(None, id=f"{module.SYSTEM}/{module.KIND}-none", marks=skip)]
    metafunc.parametrize("fixture", params)


@pytest.fixture
def ledger(request):
    """Compare and record: ``ledger.close(component, actual, expected, atol=...)``, ``ledger.exact(...)``."""
    book = request.config.stash.setdefault(LEDGER, Ledger())
    callspec = getattr(request.node, "callspec", None)
    fixture = callspec.params.get("fixture") if callspec else None
    return book.page(fixture.id if fixture else request.node.name, fixture.system if fixture else "")


def pytest_terminal_summary(terminalreporter, config):
    book = config.stash.get(LEDGER, None)
    if book is None or not book.entries:
        return
    terminalreporter.section("parity ledger")
    for line in book.text():
        terminalreporter.write_line(line)


def pytest_sessionfinish(session):
    target = session.config.getoption("ledger")
    book = session.config.stash.get(LEDGER, None)
    if target and book is not None and book.entries:
        Path(target).write_text(book.markdown(), encoding="utf-8")
