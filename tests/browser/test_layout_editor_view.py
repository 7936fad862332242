"""View and camera of the 3D layout editor: items 18 to 26 of its acceptance list (part D of the specification)."""

import json

import numpy as np
import pytest
from layout_page import ROOT, box, of_golden, scene
from safetensors.numpy import load_file

FOLDERS = (ROOT / "tests" / "golden" / "seethrough3d", ROOT.parent / "shared" / "golden" / "seethrough3d")
LAYOUTS = sorted({p.name: p for folder in FOLDERS for p in folder.glob("layout_*.json")}.values())
CHAIR = box("chair", (0, 0, 0), (1, 1, 1))


def view(page):
    return page.ed("return JSON.parse(JSON.stringify(e.store.session.view))")


DRAGS = [
    ("left", [], "orbit"), ("middle", [], "orbit"), ("left", ["Shift"], "pan"), ("middle", ["Shift"], "pan"),
    ("right", [], "pan"),
]  # fmt: skip


def test_d18_drags_on_empty_space_orbit_or_pan_and_end_with_the_button(every):
    page = every.fresh(scene(CHAIR))
    for button, hold, what in DRAGS:
        old, text = view(page), page.text()
        page.by(page.empty(), 60, 30, button=button, hold=hold)
        new = view(page)
        turned = new["azimuth_deg"] != old["azimuth_deg"] and new["elevation_deg"] != old["elevation_deg"]
        assert (turned, new["target"] != old["target"]) == (what == "orbit", what == "pan"), (button, hold)
        page.mouse.move(*page.client(200, 200))
        assert view(page) == new and page.text() == text


def test_d19_the_wheel_zooms_what_has_the_focus(every):
    page = every.fresh(scene(CHAIR))
    zoom = "() => app.canvas.ds.scale"
    page.page.evaluate("() => document.activeElement?.blur?.()")
    page.mouse.move(*page.empty())
    distance = view(page)["distance"]
    page.mouse.wheel(0, 120)
    page.page.wait_for_function(f"() => ({zoom})() !== 1")
    assert view(page)["distance"] == distance
    page.page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.setDirty(true, true); }")
    page.settle()
    page.mouse.click(*page.empty())
    page.mouse.wheel(0, 120)
    page.wait_for("return e.store.session.view.distance !== a", distance)
    assert page.page.evaluate(zoom) == 1


def test_d20_keys_set_the_views(drawn):
    page = drawn.fresh(scene(CHAIR, box("far", (-4, 3, 0))))
    page.press("0")
    assert page.ed("return e.store.looksThrough")
    for key, azimuth, elevation in (("1", 0, 4), ("3", 90, 4), ("7", None, 90)):
        page.press(key)
        found = view(page)
        assert not page.ed("return e.store.looksThrough")
        assert found["elevation_deg"] == elevation and azimuth in (None, found["azimuth_deg"])
    page.select("far")
    page.press(".")
    assert view(page)["target"] == pytest.approx([-4, 3, 0.5])
    near = view(page)["distance"]
    page.press("Home")
    assert view(page)["distance"] > near and view(page)["target"] == pytest.approx([-2, 1.5, 0.5])


def test_d20_a_click_on_the_view_cube_looks_from_there_and_a_drag_orbits(drawn):
    page = drawn.fresh(scene(CHAIR))
    side = "const s = e.view.cube.find((s) => s.name === a); return s ? s.middle : null"
    for name, azimuth, elevation in (("top", 28, 90), ("front", 0, 4), ("right", 90, 4), ("back", -180, 4)):
        page.ed(
            "e.store.set({ view: { ...e.store.session.view, ...a } })", {"azimuth_deg": azimuth, "elevation_deg": 40}
        )
        page.settle()
        page.mouse.click(*page.client(*page.ed(side, name)))
        page.settle()
        found = view(page)
        assert (abs(found["azimuth_deg"]) % 360, found["elevation_deg"]) == (abs(azimuth) % 360, elevation), name
    place = page.client(*page.ed(side, "back"))
    page.by(place, -50, 20)
    assert view(page)["azimuth_deg"] not in (180, -180) and view(page)["elevation_deg"] > 4
    page.press("0")
    assert page.ed("return e.view.cube.length") == 0


@pytest.mark.parametrize("size", [[1024, 1024], [1280, 720], [720, 1280]])
def test_d21_the_frame_has_the_aspect_of_the_picture(drawn, size):
    page = drawn.fresh(scene(CHAIR, output={"size": size}))
    page.press("0")
    frame = page.ed("return e.view.frameRect")
    assert frame["w"] / frame["h"] == pytest.approx(size[0] / size[1], abs=1 / min(frame["w"], frame["h"]))
    assert frame["x"] >= 0 and frame["x"] + frame["w"] <= page.ed("return e.view.width")


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda p: p.stem)
def test_d22_corners_in_camera_view_equal_the_recorded_ones(drawn, path):
    if not path.with_suffix(".safetensors").exists():
        pytest.skip(f"{path.stem} has no recorded corners")
    recorded = load_file(path.with_suffix(".safetensors"))["projected_corners_analytic"][..., :2] / 2  # 1024 -> 512
    page = drawn.fresh(of_golden(path))
    page.press("0")
    frame = page.ed("return e.view.frameRect")
    found = np.array(
        page.page.evaluate(
            "async (id) => (await __sightline.load()).hooks.shownCorners(__sightline.editor(id).view)", page.id
        )
    )[..., :2]
    found = (found - [frame["x"], frame["y"]]) * 512 / frame["w"]
    key = lambda corners: corners[np.lexsort(np.round(corners, 2).T)]  # noqa: E731
    for ours, theirs in zip(found, recorded):
        assert np.abs(key(ours) - key(theirs)).max() <= 0.05  # pixels; 1 is asked for


def test_d23_camera_sliders_change_document_and_picture(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.ed("e.store.set({ tab: 'camera', through: true })")
    page.settle()
    before = page.pixels()
    for i, read in enumerate((lambda c: c["orbit"]["elevation_deg"], lambda c: c["lens_mm"])):
        place = page.locate("input[type=range]").nth(i).bounding_box()
        y, x = place["y"] + place["height"] / 2, place["x"]
        default = (20, 50)[i]
        start = x + 8 + (place["width"] - 16) * ((default - (0, 10)[i]) / (90, 190)[i])
        page.drag((start, y), (x + place["width"] * 0.6, y))
        assert read(page.doc()["cameras"][0]) > default
        assert page.pixels() != before
        before = page.pixels()
    lens = page.page.get_by_role("textbox", name="Lens")
    lens.fill("85")
    lens.press("Enter")
    assert page.doc()["cameras"][0]["lens_mm"] == 85
    page.locate("input[type=range]").nth(1).dblclick()
    assert "lens_mm" not in page.doc()["cameras"][0]
    page.page.get_by_label("Reset").first.click()
    assert page.doc()["cameras"][0]["orbit"]["elevation_deg"] == 20


def badge(page, field, value):
    """What the badge of the camera says after a number was typed."""
    one = page.locate(".se-panel").get_by_role("textbox", name=field)
    one.fill(str(value))
    one.press("Enter")
    page.settle()
    return set(page.locate(".se-badge [data-code]").evaluate_all("(all) => all.map((p) => p.dataset.code)"))


def test_d24_hints_come_and_go_at_their_thresholds(classic):
    page = classic.fresh(scene(CHAIR))
    page.ed("e.store.set({ tab: 'camera' })")
    page.settle()
    for value, expected in ((4.9, {"W101"}), (5, set()), (45, set()), (45.1, {"W101"}), (-3, {"W113"}), (20, set())):
        assert badge(page, "Height angle", value) == expected, value
    for value, expected in ((34, {"W102"}), (35, set()), (135, set()), (136, {"W102"})):
        assert badge(page, "Lens", value) == expected, value
    assert "136" in page.locate('.se-badge [data-code="W102"]').inner_text()
    assert badge(page, "Lens", 50) == set() and page.locate(".se-warnings").count() == 0


def test_d24_hints_about_overlaps_and_long_texts_are_shown(classic):
    page = classic.fresh(scene(*[box(f"b{i}", (-i * 0.9, 0, 0), (0.3, 1, 1)) for i in range(4)]))
    listed = "return e.problems.map((p) => p.code)"
    assert not {"W107", "W109"} & set(page.ed(listed))
    row = [box(f"b{i}", (-i * 0.9, 0, 0), (0.3, 1, 1)) for i in range(6)]
    page.fresh(scene(*row, prompt={"background": "a very " * 280}))
    page.wait_for("return e.problems.some((p) => p.code === 'W107')")
    page.locate(".se-warnings").click()
    for code, words in (("W107", "goes black after 8 faces"), ("W109", "of 512 tokens")):
        assert words in page.locate(f'.se-window [data-code="{code}"]').inner_text()


def test_d25_bringing_the_camera_home_keeps_the_picture(classic):
    lamp = box("lamp", (-2, -1, 0), (0.4, 0.4, 2))
    turned = json.loads(scene(CHAIR, box("table", (-1.5, 1, 0), (1, 2, 0.7), 30), lamp))
    turned["cameras"][0]["orbit"] = {"target": [0.3, -0.2, 0], "azimuth_deg": 37, "elevation_deg": 18, "distance": 8}
    page = classic.fresh(json.dumps(turned))
    page.ed("e.store.set({ tab: 'camera', through: true })")
    page.settle()
    page.page.get_by_label("Bring camera home").click()
    home = page.text()
    orbit = json.loads(home)["cameras"][0]["orbit"]
    assert (orbit["azimuth_deg"], orbit["distance"], orbit["target"]) == (0, 6, [0, 0, 0])
    before = np.array(page.hooks("control", json.dumps(turned), 128, 1)["data"], float)
    after = np.array(page.hooks("control", home, 128, 1)["data"], float)
    assert np.abs(before - after).mean() <= 0.5
    corners = [np.array(page.hooks("projected", text, 512))[..., :2] for text in (json.dumps(turned), home)]
    assert np.abs(corners[0] - corners[1]).max() < 1e-2


def test_d26_a_view_ring_adds_cameras_in_the_role_of_views(classic):
    page = classic.fresh(scene(CHAIR))
    page.ed("e.store.set({ tab: 'camera' })")
    page.settle()
    page.page.get_by_role("button", name="View ring").click()
    page.page.get_by_label("Cameras").fill("5")
    page.page.get_by_label("Make them").click()
    page.settle()
    ring = page.doc()["cameras"][1:]
    assert len(ring) == 5 and all(c["roles"] == ["view"] for c in ring)
    assert len({c["orbit"]["azimuth_deg"] for c in ring}) == 5
    assert page.doc()["active_camera"] == "cam1"


def test_cameras_have_small_pictures_and_can_be_switched(classic):
    page = classic.fresh(scene(CHAIR, box("table", (-1.5, 1, 0))))
    page.ed("e.store.set({ tab: 'camera' }); e.actions.viewRing(3, 30)")
    page.settle()
    cards = page.locate(".se-cam")
    assert cards.count() == 4
    pictures = page.ed("return [...e.root.querySelectorAll('.se-cam canvas')].map((c) => c.toDataURL())")
    assert len(set(pictures)) == 4  # each from its own side; the ring begins at the camera's, at another height
    cards.nth(2).click()
    page.settle()
    assert page.doc()["active_camera"] == page.doc()["cameras"][2]["id"]
    assert cards.nth(2).get_attribute("aria-pressed") == "true"
