"""Modes, access and robustness of the 3D layout editor: items 62 to 73 of its acceptance list (part D)."""

import json
import re
from pathlib import Path

import pytest
from layout_page import ROOT, box, opened, scene

CHAIR = box("chair", (0, 0, 0), (1, 1, 1))
NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return String(kind).startsWith("webgl") ? null : get.call(this, kind, ...rest);
};"""
PIXELS = (
    "const d = e.view.base.getContext('2d').getImageData(0, 0, e.view.base.width, e.view.base.height).data;"
    "let h = 0; for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 7 + d[i + 1] * 3 + d[i + 2]) % 1000003;"
    "return h"
)
DROP = """
const t = new DataTransfer();
t.items.add(new File([Uint8Array.from(a.data)], a.name, { type: a.type }));
const on = a.on ? e.root.querySelector(a.on) : e.view.root;
for (const kind of ["dragover", "drop"])
    on.dispatchEvent(new DragEvent(kind, { dataTransfer: t, bubbles: true, cancelable: true, clientX: 1, clientY: 1 }));
"""


def drop(page, name, data: bytes, kind="", on=None):
    page.ed(DROP, {"name": name, "data": list(data), "type": kind, "on": on})


def test_d62_without_webgl_everything_can_still_be_done(chromium, server):
    with opened(chromium, server, script=NO_WEBGL) as page:
        page.fresh(scene(CHAIR))
        assert "Simple view" in page.locate(".se-status").inner_text()
        page.by(page.empty(), 50, 20)  # D18
        assert page.ed("return e.store.session.view.azimuth_deg") != 28
        page.select("chair")
        page.by(page.grip("move-y"), 40, 0)  # D27
        moved = page.object()["position"]
        assert moved[1] > 0.1 and moved[0] == moved[2] == 0
        page.by(page.middle(), 30, 10)  # D28
        assert page.object()["position"][2] == 0 and page.object()["position"] != moved
        page.press("g", "x", "1", ".", "5", "Enter")  # D31
        page.press("0")
        assert page.ed("return e.store.looksThrough")
        assert len(page.doc()["objects"]) == 1 and page.doc()["rev"] >= 3  # D51
        page.ed("e.store.set({ mode: 'control' })")  # the server draws it
        page.wait_for("return e.view.exact !== null")
        assert not page.errors


def test_d63_a_lost_context_comes_back_with_the_same_picture(classic):
    page = classic.fresh(scene(CHAIR))
    page.settle()
    before = page.ed(PIXELS)
    page.page.evaluate(
        "async () => { const gl = (await __sightline.load()).hooks.peekGL().renderer.getContext();"
        "window.lose = gl.getExtension('WEBGL_lose_context'); lose.loseContext(); }"
    )
    page.page.wait_for_function("async () => (await __sightline.load()).hooks.peekGL().lost")
    page.ed("e.view.invalidate()")
    page.settle()
    assert page.ed(PIXELS) == before  # the last picture stays while it is gone
    page.page.evaluate("() => lose.restoreContext()")
    page.page.wait_for_function("async () => !(await __sightline.load()).hooks.peekGL().lost")
    page.ed("e.view.invalidate()")
    page.settle()
    assert page.ed(PIXELS) == before
    page.errors[:] = [e for e in page.errors if "Context Lost" not in e]


def test_d64_nothing_is_drawn_while_nothing_changes_or_can_be_seen(classic):
    page = classic.fresh(scene(CHAIR))
    page.page.wait_for_timeout(300)
    frames = page.counters()["frames"]
    page.page.wait_for_timeout(1000)
    assert page.counters()["frames"] == frames
    page.page.evaluate("() => { app.canvas.ds.offset = [-9000, 0]; app.canvas.setDirty(true, true); }")
    page.page.wait_for_timeout(300)
    frames = page.counters()["frames"]
    page.ed("e.view.invalidate()")
    page.page.wait_for_timeout(300)
    assert page.counters()["frames"] == frames


def test_d65_fifty_boxes_take_few_draw_calls(classic):
    boxes = [box(f"b{i}", (-5 + i % 10, -4 + i // 10 * 2, 0), (0.5, 0.5, 0.5)) for i in range(50)]
    page = classic.fresh(scene(*boxes))
    page.settle()
    assert 1 <= page.counters()["draws"] <= 12
    assert len(page.text() or page.ed("return e.store.text()")) < 20_000


def test_d66_fingers_move_orbit_and_pinch(chromium, server):
    with opened(chromium, server, touch=True) as page:
        page.fresh(scene(CHAIR))
        cdp = page.page.context.new_cdp_session(page.page)

        def touch(*points):
            for kind, fingers in points:
                cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
                    {"x": x, "y": y, "id": i} for i, (x, y) in enumerate(fingers)]})  # fmt: skip
            page.settle()

        x, y = page.middle()
        to = [("touchMove", [(x + 20, y + 5)]), ("touchMove", [(x + 45, y + 10)])]
        touch(("touchStart", [(x, y)]), *to, ("touchEnd", []))
        assert page.object()["position"] != [0, 0, 0] and page.object()["position"][2] == 0
        old = page.ed("return { ...e.store.session.view }")
        x, y = page.empty()
        to = [("touchMove", [(x + 20, y + 9)]), ("touchMove", [(x + 40, y + 9)])]
        touch(("touchStart", [(x, y)]), *to, ("touchEnd", []))
        assert page.ed("return e.store.session.view.azimuth_deg") != old["azimuth_deg"]
        touch(
            ("touchStart", [(x, y), (x + 40, y)]), ("touchMove", [(x, y), (x + 60, y)]),
            ("touchMove", [(x, y), (x + 120, y)]), ("touchEnd", []),
        )  # fmt: skip
        assert page.ed("return e.store.session.view.distance") < old["distance"]
        assert not page.errors


def test_d67_a_scene_is_made_with_the_keyboard_alone(classic):
    page = classic.fresh()
    page.press("Shift+A")
    page.keys.type("lighthouse")
    page.keys.press("Enter")
    page.settle()
    page.keys.press("ArrowUp")
    page.keys.press("ArrowRight")
    page.keys.press("PageUp")
    page.keys.press(",")
    page.wait_for("return !e.store.busy")
    page.settle()
    made = page.object()
    assert made["prompt"] == "lighthouse" and made["yaw_deg"] == 15 and made["position"][2] == 0.1
    page.keys.press("F2")
    page.keys.type("Old light")
    page.keys.press("Enter")
    page.settle()
    assert page.object()["name"] == "Old light"
    assert "Old light" in page.locate(".se-speech").inner_text()


CHECK = Path(__file__).with_name("layout_checks.js").read_text("utf-8")


def look(page, dark):
    page.fresh(scene(CHAIR, box("table", (-2, 1, 0))))
    assert page.ed("return e.view.look.dark") == dark
    for tab in ("object", "words", "camera", "picture"):
        page.ed("e.store.select(['chair']); e.store.set({ tab: a })", tab)
        page.settle()
        assert page.ed(CHECK) == []


def test_d68_d70_names_sizes_and_contrast_in_the_dark_theme(classic):
    look(classic, True)


def test_d68_d70_names_sizes_and_contrast_in_the_light_theme(chromium, server):
    with opened(chromium, server, theme="light") as page:
        look(page, False)


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


def test_d69_texts_are_in_the_users_language_and_fit(chromium, server):
    with opened(chromium, server, locale="ja") as page:
        page.fresh(scene(CHAIR))
        page.ed("e.root.style.width = '420px'; e.store.select(['chair'])")
        page.settle()
        assert texts("ja")["tab.object"] in page.locate(".se-tabs").inner_text()
        shown = page.ed("return e.root.innerText")
        assert not re.search(r"\b(tab|tool|menu|object|list|mode)\.[a-z]+", shown)
        clipped = page.ed(
            "return [...e.root.querySelectorAll('.se-button, .se-tab')]"
            ".filter((b) => b.offsetParent && b.offsetWidth > 1 && b.scrollWidth > b.clientWidth + 1)"
            ".map((b) => b.title)"
        )
        assert clipped == []
        assert not page.errors


def test_d71_files_open_by_dropping_and_others_are_refused(classic):
    page = classic.fresh(scene(CHAIR))
    drop(page, "scene.json", scene(box("dropped")).encode())
    page.wait_for("return e.store.scene.objects[0]?.prompt === 'dropped'")
    rover = {"name": "mars rover", "dims": [1, 2, 1], "x": [-6], "y": [0.5], "z": [0], "azimuth": [0]}
    camera = {"camera_elevation": 0.2, "lens": 50}
    reference = {"subjects_data": [rover], "camera_data": camera, "surrounding_prompt": "on mars"}
    drop(page, "saved.json", json.dumps(reference).encode())
    page.wait_for("return e.store.scene.objects[0]?.prompt === 'mars rover'")
    assert page.object()["position"] == [0, 0.5, 0] and page.doc()["prompt"]["background"] == "on mars"
    text = page.text()
    evil = b"cos\nsystem\n(S'echo'\ntR."
    for name, data in (("evil.pkl", evil), ("cut.glb", b"glTF"), ("colmap.zip", b"PK"), ("x.json", b"{")):
        page.ed("e.root.querySelector('.se-speech').textContent = ''")
        drop(page, name, data)
        page.wait_for("return e.root.querySelector('.se-speech').textContent.length > 10")
        assert page.text() == text
    page.errors[:] = [e for e in page.errors if "status of 400" not in e]


def test_d72_examples_open_with_thumbnails_and_can_be_undone(classic):
    page = classic.fresh(scene(CHAIR))
    index = json.loads((ROOT / "web" / "assets" / "examples" / "index.json").read_text("utf-8"))
    assert len(index) >= 5
    for one in index:
        page.ed("e.windows.examples()")
        page.page.wait_for_function(
            "(n) => [...document.querySelectorAll('.se-example img')].filter((i) => i.naturalWidth > 0).length === n",
            arg=len(index),
        )
        page.locate(f'[data-example="{one["file"]}"]').click()
        page.wait_for("return e.root.querySelector('.se-window') === null && e.store.scene.objects.length > 2")
        page.settle()
        assert page.ed("return e.store.history.at(-1).label") == "Example"
    page.ed("e.store.goTo(0)")
    assert [o["prompt"] for o in page.doc()["objects"]] == ["chair"]


def test_d73_a_reference_picture_is_uploaded_and_named(classic):
    page = classic.fresh(scene(CHAIR))
    png = (ROOT / "docs" / "banner.jpg").read_bytes()
    drop(page, "velvet.jpg", png, "image/jpeg", on=".se-row")
    page.wait_for("return e.store.scene.objects[0].image !== null")
    page.settle()
    image = page.object()["image"]
    assert image["subfolder"] == "sightline" and image["name"].startswith("velvet")
    page.page.wait_for_function("() => document.querySelector('.se-thumb')?.naturalWidth > 0")
    page.ed("e.store.edit('x', (s) => (s.objects[0].image = a))", image | {"name": "nowhere.png"})
    page.page.wait_for_selector(".se-broken")
    page.errors[:] = [e for e in page.errors if "nowhere" not in e and "404" not in e]
