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


@pytest.mark.parametrize(
    ("button", "hold", "what"),
    [("left", [], "orbit"), ("middle", [], "orbit"), ("left", ["Shift"], "pan"), ("middle", ["Shift"], "pan"),
     ("right", [], "pan")],
)  # fmt: skip
def test_d18_drags_on_empty_space_orbit_or_pan_and_end_with_the_button(classic, button, hold, what):
    page = classic.fresh(scene(CHAIR))
    old, text = view(page), page.text()
    page.by(page.empty(), 60, 30, button=button, hold=hold)
    new = view(page)
    turned = new["azimuth_deg"] != old["azimuth_deg"] and new["elevation_deg"] != old["elevation_deg"]
    assert (turned, new["target"] != old["target"]) == (what == "orbit", what == "pan")
    page.mouse.move(*page.client(200, 200))
    assert view(page) == new and page.text() == text


def test_d18_orbiting_does_not_stick_in_nodes2(nodes2):
    page = nodes2.fresh(scene(CHAIR))
    old = view(page)
    page.by(page.empty(), 60, 30)
    new = view(page)
    assert new["azimuth_deg"] != old["azimuth_deg"]
    page.mouse.move(*page.client(200, 200))
    assert view(page) == new


def test_d19_the_wheel_zooms_what_has_the_focus(both):
    page = both.fresh(scene(CHAIR))
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


def test_d20_keys_set_the_views(classic):
    page = classic.fresh(scene(CHAIR, box("far", (-4, 3, 0))))
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


@pytest.mark.parametrize("size", [[1024, 1024], [1280, 720], [720, 1280]])
def test_d21_the_frame_has_the_aspect_of_the_picture(classic, size):
    page = classic.fresh(scene(CHAIR, output={"size": size}))
    page.press("0")
    frame = page.ed("return e.view.frameRect")
    assert frame["w"] / frame["h"] == pytest.approx(size[0] / size[1], abs=1 / min(frame["w"], frame["h"]))
    assert frame["x"] >= 0 and frame["x"] + frame["w"] <= page.ed("return e.view.width")


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda p: p.stem)
def test_d22_projected_corners_equal_the_recorded_ones(classic, path):
    if not path.with_suffix(".safetensors").exists():
        pytest.skip(f"{path.stem} has no recorded corners")
    recorded = load_file(path.with_suffix(".safetensors"))["projected_corners_analytic"][..., :2] / 2  # 1024 -> 512
    if classic.page.url == "about:blank":
        classic.fresh()
    found = np.array(classic.hooks("projected", of_golden(path), 512))[..., :2]
    key = lambda corners: corners[np.lexsort(np.round(corners, 3).T)]  # noqa: E731
    for ours, theirs in zip(found, recorded):
        assert np.abs(key(ours) - key(theirs)).max() <= 1e-2


def test_d23_camera_sliders_change_document_and_picture(classic):
    page = classic.fresh(scene(CHAIR))
    page.ed("e.store.set({ tab: 'camera', through: true })")
    page.settle()
    before = page.middle()
    page.ed(
        "const r = e.root.querySelector('input[type=range]'); r.value = 40;"
        "r.dispatchEvent(new Event('input')); r.dispatchEvent(new Event('change'))"
    )
    assert page.doc()["cameras"][0]["orbit"]["elevation_deg"] == 40
    assert page.middle() != before
    lens = page.page.get_by_role("textbox", name="Lens")
    lens.fill("85")
    lens.press("Enter")
    assert page.doc()["cameras"][0]["lens_mm"] == 85
    page.ed("e.root.querySelectorAll('input[type=range]')[1].dispatchEvent(new MouseEvent('dblclick'))")
    assert "lens_mm" not in page.doc()["cameras"][0]
    assert page.locate('[data-code="W101"]').count() == 0


def test_d24_hints_come_and_go_at_their_thresholds(classic):
    page = classic.fresh(scene(CHAIR))

    def codes(**changes):
        return set(page.hooks("warnings", scene(CHAIR, **changes)))

    assert codes() == set()
    assert [("W101" in codes(elevation=v)) for v in (4.9, 5, 45, 45.1)] == [True, False, False, True]
    assert [("W102" in codes(lens=v)) for v in (34, 35, 135, 136)] == [True, False, False, True]
    assert "W113" in codes(elevation=-3)
    page.ed("e.store.set({ tab: 'camera' })")
    slide = (
        "const r = e.root.querySelector('input[type=range]'); r.value = a; r.dispatchEvent(new Event('input'));"
        "r.dispatchEvent(new Event('change'))"
    )
    page.ed(slide, 60)
    page.page.wait_for_selector('.se-badge [data-code="W101"]')
    assert "60" in page.locate('.se-badge [data-code="W101"]').inner_text()
    page.ed(slide, 20)
    page.page.wait_for_selector('.se-badge [data-code="W101"]', state="detached")


def test_d25_bringing_the_camera_home_keeps_the_picture(classic):
    lamp = box("lamp", (-2, -1, 0), (0.4, 0.4, 2))
    turned = json.loads(scene(CHAIR, box("table", (-1.5, 1, 0), (1, 2, 0.7), 30), lamp))
    turned["cameras"][0]["orbit"] = {"target": [0.3, -0.2, 0], "azimuth_deg": 37, "elevation_deg": 18, "distance": 8}
    page = classic.fresh(json.dumps(turned))
    home = page.hooks("home", json.dumps(turned))
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
