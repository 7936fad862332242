"""Chromium on the real front end: the system's browser, driven through playwright, against the run's one server."""

import os
import shutil
from contextlib import contextmanager

import pytest

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACK = "ComfyUI-Sightline"
READY = """() => Boolean(
    window.app?.graph?.nodes.length && app.extensionManager?.setting &&
    LiteGraph.registered_node_types.SightlineSelfCheck
)"""


@pytest.fixture(scope="session")
def chromium():
    """The running browser."""
    path = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"there is no Chromium here (none of {', '.join(NAMES)} in PATH, and CHROMIUM_PATH is not set)")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as missing:
        pytest.skip(f"playwright is not installed ({missing}); pip install playwright")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*FLAGS.split(), "--disable-component-update"])
        yield browser
        browser.close()


@pytest.fixture
def editor(chromium, server):
    """Call it as ``with editor(nodes2=..., locale=..., query=...) as page``; fails on errors that name our files."""

    @contextmanager
    def opened(nodes2: bool = False, locale: str = "en", query: str = ""):
        settings = {"Comfy.VueNodes.Enabled": nodes2, "Comfy.Locale": locale, "Comfy.TutorialCompleted": True}
        server.post("/settings", settings | {"Comfy.Minimap.Visible": False})
        page = chromium.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(30_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
        page.on(
            "console",
            lambda said: (
                said.type == "error"
                and PACK in f"{said.text} {said.location.get('url')}"
                and not said.location.get("url", "").endswith(
                    "/en.md"
                )  # asked for first, then the page without a language
                and errors.append(f"{said.text} ({said.location.get('url')})")
            ),
        )
        try:
            page.goto(server.url + query)
            page.wait_for_function(READY)
            yield page
        finally:
            page.close()
        assert not errors, "\n".join(errors)

    return opened


@pytest.fixture(scope="session")
def layout_pages(chromium, server):
    """Pages with the 3D layout editor, opened once each, by name (`PAGES`)."""
    from contextlib import ExitStack

    from layout_page import PAGES, opened

    pages = {}
    with ExitStack() as stack:

        def page(name: str):
            if name not in pages:
                pages[name] = stack.enter_context(opened(chromium, server, **PAGES[name]))
            return pages[name]

        yield page


def _layout_page(name: str, about: str):
    def page(layout_pages):
        found = layout_pages(name)
        found.errors.clear()
        yield found
        assert not found.errors, "\n".join(found.errors)

    page.__doc__ = about
    return pytest.fixture(page, name=name)


classic = _layout_page("classic", "The layout editor with classic nodes; the test fails on errors that name our files.")
nodes2 = _layout_page("nodes2", "The same in Nodes 2.0.")
simple = _layout_page("simple", "The same with classic nodes and without WebGL.")


@pytest.fixture(params=["classic", "nodes2"])
def both(request):
    """One after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["classic", "simple"])
def drawn(request):
    """With and without WebGL."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["classic", "nodes2", "simple"])
def every(request):
    """All three."""
    return request.getfixturevalue(request.param)
