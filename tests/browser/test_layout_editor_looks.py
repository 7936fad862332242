"""How the 3D layout editor looks and reads: items 68 to 70 of its acceptance list (part D of the specification)."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from layout_page import ROOT, box, opened, scene
from PIL import Image

CHAIR = box("chair", (0, 0, 0), (1, 1, 1))
CHECK = Path(__file__).with_name("layout_checks.js").read_text("utf-8")
AXE = ROOT / "web_src" / "node_modules" / "axe-core" / "axe.min.js"
RUN_AXE = """async () => (await axe.run(document.querySelector(".sightline-editor"), {
    resultTypes: ["violations"], rules: { region: { enabled: false } },
})).violations.filter((v) => ["serious", "critical"].includes(v.impact))
   .map((v) => [v.id, v.impact, ...v.nodes.map((n) => n.html.slice(0, 160) + n.failureSummary.slice(0, 200))])"""
THEMES = ["dark", "light"]


@pytest.fixture
def themed(classic, request):
    """The classic page in a theme."""
    classic.setting("Comfy.ColorPalette", request.param)
    yield classic
    classic.setting("Comfy.ColorPalette", "dark")


def each_tab(page):
    """Show every panel in turn."""
    page.fresh(scene(CHAIR, box("table", (-2, 1, 0)), box("lamp", (-2.6, 1, 0), (0.4, 0.4, 2))))
    page.ed("e.store.select(['table', 'lamp']); e.actions.group('Things')")
    for tab in ("object", "words", "camera", "picture"):
        page.ed("e.store.select(['chair']); e.store.set({ tab: a })", tab)
        page.settle()
        yield tab


@pytest.mark.parametrize("themed", THEMES, indirect=True)
def test_d68_d70_names_sizes_and_contrast(themed):
    for tab in each_tab(themed):
        assert themed.ed(CHECK) == [], tab


@pytest.mark.parametrize("themed", THEMES, indirect=True)
def test_d68_axe_finds_nothing_serious(themed):
    if not AXE.exists():
        pytest.skip("axe-core is needed (npm install in web_src)")
    themed.page.evaluate(AXE.read_text("utf-8"))
    for tab in each_tab(themed):
        found = themed.page.evaluate(RUN_AXE)
        assert found == [], f"{tab}: {found}"
    for window in ("add", "presets", "examples", "harmonise", "help", "history"):
        themed.ed(f"e.windows.{window}()")
        themed.settle()
        found = themed.page.evaluate(RUN_AXE)
        assert found == [], f"{window}: {found}"
    themed.ed("e.root.querySelector('.se-window')?.close()")


PICTURES = Path(__file__).with_name("pictures")


@pytest.mark.parametrize("themed", THEMES, indirect=True)
def test_d70_the_editor_looks_as_it_did(themed, chromium, request):
    """Against pictures kept for this Chromium; SIGHTLINE_KEEP_PICTURES=1 writes them anew."""
    theme = request.node.callspec.params["themed"]
    kept = PICTURES / f"{theme}-{chromium.version.split('.')[0]}.png"
    if not kept.exists() and "SIGHTLINE_KEEP_PICTURES" not in os.environ:
        pytest.skip(f"no picture was kept for Chromium {chromium.version} (SIGHTLINE_KEEP_PICTURES=1 keeps one)")
    page = themed.fresh((ROOT / "scene" / "document" / "examples" / "garage.json").read_text("utf-8"))
    page.select("obj1")
    page.mouse.move(5, 5)
    page.ed("e.view.root.blur(); document.activeElement?.blur()")
    page.settle()
    page.page.wait_for_timeout(300)
    data = page.locate("").first.screenshot(animations="disabled")
    found = Image.open(io.BytesIO(data)).convert("RGB")
    if "SIGHTLINE_KEEP_PICTURES" in os.environ:
        PICTURES.mkdir(exist_ok=True)
        found.quantize(128, dither=Image.Dither.NONE).save(kept, optimize=True)
    before = np.array(Image.open(kept).convert("RGB"), int)
    after = np.array(found.quantize(128, dither=Image.Dither.NONE).convert("RGB"), int)
    assert after.shape == before.shape
    apart = np.abs(after - before)
    assert apart.mean() <= 3 and (apart.max(-1) > 40).mean() < 0.005


def test_d70_colours_of_the_panels_are_the_host_s():
    styles = (ROOT / "web_src" / "src" / "ui" / "styles.ts").read_text("utf-8")
    # a colour of ours stands only behind a host's variable, as our accent, on chips, in shadows, on black of pictures
    ours = re.sub(r"var\(--[\w-]+,\s*#\w+\)|--se-accent(-ink)?:#\w+|box-shadow:[^;}]*|rgba\(0,0,0[^)]*\)", "", styles)
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", ours)) <= {"#0d0f12", "#3fb68b", "#000"}


def texts(language):
    main = json.loads((ROOT / "locales" / language / "main.json").read_text("utf-8"))
    return main["sightline"]["editor"]


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_d69_every_text_is_translated(language):
    english, own = texts("en"), texts(language)
    assert set(own) == set(english)
    assert not [k for k, v in own.items() if v == english[k] and k != "preset.suv"]
    holes = [{k: set(re.findall(r"\{(\w+)\}", v)) for k, v in one.items()} for one in (english, own)]
    assert holes[0] == holes[1]


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_d69_texts_are_in_the_users_language_and_fit(chromium, server, language):
    with opened(chromium, server, locale=language, tips=0) as page:
        page.fresh(scene(CHAIR, elevation=60))
        page.ed("e.root.style.width = '420px'; e.store.select(['chair'])")
        page.settle()
        own = texts(language)
        assert own["tab.object"] in page.locate(".se-tabs").inner_text()
        assert own["tip.1"] in page.locate(".se-tip").inner_text()  # the first time there are three tips
        page.locate(".se-tip").get_by_label(own["tip.next"]).click()
        page.settle()
        assert own["tip.2"] in page.locate(".se-tip").inner_text()
        page.locate(".se-tip").get_by_label(own["tip.close"]).click()
        page.settle()
        assert page.locate(".se-tip:not(:empty)").count() == 0
        for tab in ("object", "words", "camera", "picture"):
            page.ed("e.store.set({ tab: a })", tab)
            page.settle()
            assert not re.search(
                r"\b(tab|tool|menu|object|list|mode|camera|picture)\.[a-z]+", page.ed("return e.root.innerText")
            )
            clipped = page.ed(
                "return [...e.root.querySelectorAll('.se-button, .se-tab, .se-caption, .se-check, .se-info')]"
                ".filter((b) => b.offsetParent && b.offsetWidth > 1 && b.scrollWidth > b.clientWidth + 1)"
                ".map((b) => b.title || b.textContent)"
            )
            assert clipped == [], tab
        page.ed("e.store.set({ tab: 'camera' })")
        page.settle()
        assert (
            own["code.W101"].split("{e}")[1].strip("°. ")[:8]
            in page.locate('.se-badge [data-code="W101"]').inner_text()
        )


def test_d69_numbers_are_written_and_read_as_the_language_has_them(classic):
    page = classic.fresh(scene(box("chair", (0.5, 0, 0))))
    page.ed("e.host.locale = 'de'; e.store.select(['chair'])")
    page.settle()
    x = page.page.get_by_label("X", exact=True)
    assert x.input_value() == "0,5"
    x.fill("1,25")
    x.press("Enter")
    assert page.object()["position"][0] == 1.25 and x.input_value() == "1,25"
    x.fill("2.5")
    x.press("Enter")
    assert page.object()["position"][0] == 2.5
