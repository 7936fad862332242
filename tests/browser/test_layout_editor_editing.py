"""Editing in the 3D layout editor: items 27 to 41 of its acceptance list (part D of the specification)."""

import json
import math

import pytest
from layout_page import ROOT, box, scene

CHAIR = box("chair", (0, 0, 0), (1, 1, 1))
TABLE = box("table", (-2, 1.2, 0), (1, 2, 0.8))
OWN = "Sightline.LayoutEditor.Presets"
PRESETS = json.loads((ROOT / "scene" / "document" / "presets.json").read_text("utf-8"))["presets"]


@pytest.mark.parametrize("scale", [0.5, 0.8, 1, 1.5])
def test_d27_an_arrow_moves_along_its_axis_only_and_the_node_stays(every, scale):
    page = every.fresh(scene(CHAIR), scale=scale, pos=(20, 40) if scale > 1 else (80, 60))
    page.select("chair")
    place = page.page.evaluate("(id) => [...app.graph.getNodeById(id).pos]", page.id)
    for axis in range(3):
        before, old = page.commits(), [0, 0, 0]
        start = page.grip(f"move-{'xyz'[axis]}")
        toward = page.middle()
        page.drag(start, [a + (a - b) * 0.4 for a, b in zip(start, toward)])
        position = page.object()["position"]
        assert abs(position[axis] - old[axis]) > 0.1
        assert [v for i, v in enumerate(position) if i != axis] == [v for i, v in enumerate(old) if i != axis]
        assert page.commits() == before + 1
        page.ed("e.store.undo()")
        page.settle()
    assert page.page.evaluate("(id) => [...app.graph.getNodeById(id).pos]", page.id) == place


def test_d28_dragging_a_box_moves_it_on_the_floor(every):
    page = every.fresh(scene(CHAIR))
    page.by(page.middle(), 60, 20)
    x, y, z = page.object()["position"]
    assert z == 0 and math.hypot(x, y) > 0.3


def test_d29_the_ring_turns_about_the_vertical_and_ctrl_snaps(drawn):
    page = drawn.fresh(scene(CHAIR | {"yaw_deg": 3}))
    page.select("chair")
    page.ed("e.store.set({ tool: 'turn' })")
    page.by(page.grip("turn"), 60, -30)
    free = page.object()
    assert free["position"] == [0, 0, 0] and free["size"] == [1, 1, 1]
    assert free["yaw_deg"] != 3
    page.by(page.grip("turn"), -70, 25, hold=["Control"])
    assert page.object()["yaw_deg"] % 15 == 0


def test_d30_a_scale_handle_changes_one_extent_and_the_bottom_stays(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.select("chair")
    page.ed("e.store.set({ tool: 'scale' })")
    page.by(page.grip("scale+z"), 0, -40)
    tall = page.object()
    assert tall["size"][2] > 1.1 and tall["size"][:2] == [1, 1] and tall["position"] == [0, 0, 0]
    page.by(page.grip("scale+y"), 40, 8)
    wide = page.object()
    assert wide["size"][1] > 1.1 and wide["position"][1] == pytest.approx((wide["size"][1] - 1) / 2, abs=1e-3)
    page.by(page.grip("scale+y"), 30, 6, hold=["Alt"])
    centred = page.object()
    assert centred["size"][1] > wide["size"][1] and centred["position"] == wide["position"]


def test_d31_typed_moves_are_exact_and_esc_restores(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.select("chair")
    page.press("g", "x", "1", ".", "5", "Enter")
    assert page.object()["position"] == [1.5, 0, 0]
    text = page.text()
    page.press("g", "y", "3", "Escape")
    assert page.text() == text and page.ed("return e.store.text()") == text
    page.press("r", "4", "5", "Enter")
    assert page.object()["yaw_deg"] == 45
    page.press("s", "2", "Enter")
    assert page.object()["size"] == [2, 2, 2]


def along(page, axis, distance):
    """Drag the selected box by its arrow so that it would move by this much, with Ctrl; what it snapped to."""
    page.grip(f"move-{'xyz'[axis]}")  # the arrow is there
    *middle, reach = page.ed(
        "const o = e.store.primary, c = e.view.camera(), p = [...o.position]; p[2] += o.size[2] / 2;"
        "const depth = p.reduce((s, v, i) => s + (v - c.position[i]) * c.forward[i], 0);"
        "return [...p, (75 * depth) / c.focal]"
    )
    at = lambda by: page.point(*[v + (by if i == axis else 0) for i, v in enumerate(middle)])  # noqa: E731
    page.mouse.move(*at(reach))
    page.keys.down("Control")
    page.mouse.down()
    page.mouse.move(*at(reach + distance), steps=6)
    guides = page.ed("return e.view.transform.guides.map((g) => [g.axis, g.with])")
    page.mouse.up()
    page.keys.up("Control")
    page.settle()
    return guides


def test_d32_the_grid_snaps_exactly(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.select("chair")
    assert along(page, 1, 0.83) == []
    assert page.object()["position"] == [0, 0.8, 0]
    page.ed("e.store.set({ grid: 0.25 })")
    along(page, 1, 0.4)
    assert page.object()["position"] == [0, 1.25, 0]


def test_d32_faces_and_centres_of_other_boxes_snap_exactly(drawn):
    page = drawn.fresh(scene(CHAIR, box("crate", (0.37, 2.53, 0), (1, 1, 1))))
    page.select("chair")
    assert along(page, 1, 1.5) == [[1, "crate"]]
    assert page.object()["position"] == [0, 1.53, 0]  # face to face, off the grid
    assert [0, "crate"] in along(page, 0, 0.39)
    assert page.object()["position"] == [0.37, 1.53, 0]  # centre to centre
    page.nudge(2, 0.7)
    page.press("End")
    assert page.object()["position"] == [0.37, 1.53, 0]  # dropped


def test_d33_number_fields_take_sums_commas_scrubbing_and_say_the_range(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.select("chair")
    x = page.page.get_by_label("X", exact=True)
    x.fill("2*1.5 - 1")
    x.press("Enter")
    assert page.object()["position"][0] == 2
    x.fill("0,25")
    x.press("Tab")
    assert page.object()["position"][0] == 0.25
    assert page.page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Y"
    x.fill("5000")
    x.press("Enter")
    assert "1000" in page.locate(".se-note:not(:empty)").inner_text()
    x.press("Escape")
    assert page.object()["position"][0] == 0.25
    commits = page.commits()
    name = page.locate(".se-scrub").first.bounding_box()
    page.by((name["x"] + 4, name["y"] + 5), 50, 0)
    assert page.object()["position"][0] == pytest.approx(0.75)
    assert page.commits() == commits + 1


def test_d34_adding_by_search_preset_and_free_words(drawn):
    page = drawn.fresh(scene(CHAIR))
    page.press("Shift+A")
    search = page.page.get_by_label("Search, or type what it is…").first
    search.fill("off")
    page.locate(
        ".se-choice",
    ).get_by_text("office chair", exact=True).click()
    page.press("Shift+A")
    page.keys.type("a blue neon robotic dog")
    page.keys.press("Enter")
    page.settle()
    objects = page.doc()["objects"]
    assert [o["prompt"] for o in objects] == ["chair", "office chair", "a blue neon robotic dog"]
    assert objects[1]["size"] == PRESETS["office chair"]["size"] and objects[1]["preset"] == "office chair"
    for i, a in enumerate(objects):
        for b in objects[:i]:
            assert any(abs(a["position"][k] - b["position"][k]) >= (a["size"][k] + b["size"][k]) / 2 for k in (0, 1))
    assert page.ed("return e.store.session.selection") == [objects[2]["id"]]


def test_d35_every_command_is_one_step(drawn):
    page = drawn.fresh(scene(CHAIR, TABLE))
    steps = page.ed("return e.store.history.length")

    def one_step(expected):
        nonlocal steps
        page.settle()
        steps += 1
        assert page.ed("return e.store.history.length") == steps
        assert expected(page.doc())

    page.select("chair")
    page.press("Shift+D")
    one_step(lambda d: [o["prompt"] for o in d["objects"]] == ["chair", "table", "chair"])
    page.press("Delete")
    one_step(lambda d: len(d["objects"]) == 2)
    page.select("chair")
    page.press("F2")
    page.keys.type("Grandpa's chair")
    page.keys.press("Enter")
    one_step(lambda d: d["objects"][0]["name"] == "Grandpa's chair")
    page.locate(".se-row").first.focus()
    page.keys.press("Alt+ArrowDown")
    one_step(lambda d: [o["id"] for o in d["objects"]] == ["table", "chair"])
    page.press("h")
    one_step(lambda d: d["objects"][1]["visible"] is False)
    page.press("Alt+h")
    one_step(lambda d: "visible" not in d["objects"][1])
    page.press("l")
    one_step(lambda d: d["objects"][1]["locked"] is True)
    page.press("l")
    one_step(lambda d: "locked" not in d["objects"][1])
    page.ed("e.actions.group('Things')")
    one_step(lambda d: d["groups"][0]["name"] == "Things" and d["objects"][1]["group"] == d["groups"][0]["id"])
    page.press("/")
    assert page.ed("return e.store.shown.map((b) => b.id)") == ["chair"]  # a matter of the view, not the document
    page.press("/")
    assert page.ed("return e.store.history.length") == steps


def test_d35_rows_reorder_by_dragging(drawn):
    page = drawn.fresh(scene(CHAIR, TABLE, box("lamp", (1, -1.5, 0))))
    page.locate('[data-id="lamp"].se-row').drag_to(page.locate('[data-id="chair"].se-row'))
    page.settle()
    assert [o["id"] for o in page.doc()["objects"]] == ["lamp", "chair", "table"]


def test_d36_several_boxes_move_turn_align_and_distribute(drawn):
    boxes = [box("a", (0, -2, 0)), box("b", (0.3, 0.2, 0)), box("c", (-0.4, 2, 0))]
    page = drawn.fresh(scene(*boxes))
    page.mouse.click(*page.middle(0))
    page.keys.down("Shift")
    page.mouse.click(*page.point(0.8, 0.2, 0.2))
    page.keys.up("Shift")
    page.settle()
    assert page.ed("return e.store.session.selection") == ["a", "b"]
    page.press("g", "x", "1", "Enter")
    assert [o["position"] for o in page.doc()["objects"]] == [[1, -2, 0], [1.3, 0.2, 0], [-0.4, 2, 0]]
    page.press("r", "9", "0", "Enter")
    assert [o.get("yaw_deg", 0) for o in page.doc()["objects"]] == [90, 90, 0]
    page.select("a", "b", "c")
    page.page.get_by_label("Centres along X").click()
    assert len({round(o["position"][0], 4) for o in page.doc()["objects"]}) == 1
    page.page.get_by_label("Equal distances along Y").click()
    ys = sorted(o["position"][1] for o in page.doc()["objects"])
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=2e-4)
    page.select()
    page.press("b")
    page.drag(page.client(4, 40), page.client(page.ed("return e.view.width") - 4, page.ed("return e.view.height") - 4))
    assert set(page.ed("return e.store.session.selection")) == {"a", "b", "c"}


def test_d37_boxes_are_copied_between_nodes_and_no_node_is(both):
    page = both.fresh(scene(CHAIR, TABLE), scale=0.7)
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    other = page.add(pos=(760, 60))
    page.wait_for("return e.view.width > 10", node=other)
    page.select("table")
    page.press("Control+c")
    copied = page.page.evaluate("() => navigator.clipboard.readText()")
    assert copied.startswith('{"format":"sightline.scene"')
    page.ed("e.view.root.focus()", node=other)
    page.keys.press("Control+v")
    page.settle()
    assert [o["prompt"] for o in page.doc(other)["objects"]] == ["table"]
    assert page.page.evaluate("() => app.graph.nodes.length") == 2


def test_d38_a_scene_is_pasted_from_text_and_bad_text_is_refused(classic):
    page = classic.fresh(scene(CHAIR))
    paste = (
        "const t = new DataTransfer(); t.setData('text/plain', a);"
        "e.view.root.dispatchEvent(new ClipboardEvent('paste', { clipboardData: t, bubbles: true, cancelable: true }))"
    )
    page.focus()
    page.ed(paste, scene(TABLE))
    assert [o["prompt"] for o in page.doc()["objects"]] == ["chair", "table"]
    text = page.text()
    page.ed(paste, "no scene at all")
    assert "not a Sightline scene" in page.locate(".se-speech").inner_text()
    assert page.text() == text


def test_d39_delete_in_the_editor_leaves_the_node(both):
    page = both.fresh(scene(CHAIR))
    page.page.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", page.id)
    page.press("Delete", "Backspace")
    assert page.page.evaluate("() => app.graph.nodes.length") == 1
    assert len(page.doc().get("objects", [0])) == 1  # nothing was selected in the editor either


def test_d40_harmonise_gives_believable_sizes(classic):
    cat = box("cat", (0, 0, 0.5), PRESETS["cat"]["size"], preset="cat")
    horse = box("horse", (-2, 2, 0), PRESETS["horse"]["size"], preset="horse")
    edited = box("dog", (-2, -2, 0), (3, 3, 3.1), preset="dog")
    text = scene(cat, horse, edited)
    top = max(PRESETS["cat"]["scale"], PRESETS["horse"]["scale"])
    kind = {"keepHeight": True, "edited": False, "keepScale": True}
    found = classic.fresh(text).hooks("harmonise", text, kind)
    assert set(found) == {"cat", "horse"}
    expected = [v * PRESETS["cat"]["scale"] / top for v in PRESETS["cat"]["size"]]
    assert found["cat"]["size"] == pytest.approx(expected) and found["cat"]["z"] == 0.5
    # exactly like the reference: everything, from the preset's size, on the floor
    classic.ed("e.windows.harmonise()")
    classic.page.get_by_text("Exactly like the reference").click()
    classic.page.get_by_label("Apply").click()
    classic.settle()
    top = max(PRESETS[o["preset"]]["scale"] for o in (cat, horse, edited))
    for made in classic.doc()["objects"]:
        preset = PRESETS[made["preset"]]
        assert made["size"] == pytest.approx([v * preset["scale"] / top for v in preset["size"]], abs=1e-6)
        assert made["position"][2] == 0


def test_d41_all_presets_add_with_their_sizes(classic):
    page = classic.fresh()
    page.ed("for (const name of a) e.actions.add(name, name)", sorted(PRESETS))
    objects = page.doc()["objects"]
    assert len(objects) == 46
    assert {o["preset"]: o["size"] for o in objects} == {k: v["size"] for k, v in PRESETS.items()}


def test_own_sizes_are_kept_in_the_settings(classic):
    page = classic.fresh(scene(box("throne", (0, 0, 0), (0.8, 0.9, 2.1))))
    page.setting(OWN, [])
    page.select("throne")
    page.ed("e.windows.presets()")
    page.page.get_by_label("Name of the preset").fill("king's chair")
    page.page.get_by_label("Keep", exact=True).click()
    page.press("Shift+A")
    page.keys.type("king's chair")
    page.keys.press("Enter")
    page.settle()
    made = page.object(1)
    assert made["prompt"] == "king's chair" and made["size"] == [0.8, 0.9, 2.1] and "preset" not in made
    page.ed("e.windows.presets()")
    page.page.get_by_label("Name of the preset").fill("king's chair")
    page.page.get_by_label("Forget the preset of this name").click()
    assert page.page.evaluate("(k) => app.extensionManager.setting.get(k)", OWN) == []
