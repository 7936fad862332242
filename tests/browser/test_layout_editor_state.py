"""Hosting and state of the 3D layout editor: items 1 to 8, 15 to 17 and 51 to 60 of its acceptance list (part D)."""

import json

import pytest
from layout_page import NODE, ROOT, box, opened, scene

CHAIR = box("chair", (0, 0, 0), (1, 1, 1))
# the colours of the picture, as numbers
COLOURS = (
    "const d = e.view.base.getContext('2d').getImageData(0, 0, e.view.base.width, e.view.base.height).data;"
    "const at = (i) => d[4 * i] << 16 | d[4 * i + 1] << 8 | d[4 * i + 2];"
    "return [...new Set(Array.from({ length: d.length / 4 }, (_, i) => at(i)))]"
)
# What the editor's own code holds on to outside of its elements, and its long timers, which run out at once.
HELD = """
window.held = { count: 0, timers: [] };
const ours = () => new Error().stack.includes("editor.mjs");
for (const target of [window, document])
    for (const [name, by] of [["addEventListener", 1], ["removeEventListener", -1]]) {
        const call = target[name];
        target[name] = function (...all) { if (ours()) held.count += by; return call.apply(target, all); };
    }
for (const name of ["ResizeObserver", "IntersectionObserver", "MutationObserver"]) {
    const Observer = window[name];
    window[name] = class extends Observer {
        constructor(...all) { super(...all); this.ours = ours(); if (this.ours) held.count++; }
        disconnect() { if (this.ours) held.count--; this.ours = false; super.disconnect(); }
    };
}
const later = window.setTimeout;
window.setTimeout = (call, ms, ...all) => {
    if (!(ms > 20000 && ours())) return later(call, ms, ...all);
    held.timers.push(ms);
    return later(call, 200, ...all);
};"""
SAVED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
PROMPT = f"""async () => {{
    const {{ output }} = await app.graphToPrompt();
    return Object.values(output).find((n) => n.class_type === "{NODE}").inputs.scene;
}}"""


def first(page):
    """The id of the graph's editor node, which the host makes anew at each undo."""
    page.page.wait_for_function("() => app.graph.nodes.some((n) => __sightline.editor(n.id))")
    return page.page.evaluate(f"() => app.graph.nodes.find((n) => n.type === '{NODE}').id")


def test_d1_d4_d6_nothing_is_loaded_before_and_nothing_is_held_after(chromium, server):
    with opened(chromium, server, script=HELD) as page:
        page.page.evaluate("() => app.graph.clear()")
        page.settle()
        assert not [url for url in page.requests if "editor.mjs" in url]
        entry = (ROOT / "web" / "sightline.js").read_text("utf-8")
        assert len(entry.encode()) < 30_000 and "three" not in entry.replace("three.js", "")
        # D4: with an editor in the page nothing leaves the server
        seen = len(page.requests)
        page.fresh(scene(CHAIR))
        page.ed("e.windows.examples(); e.store.set({ mode: 'exact' })")
        page.wait_for("return e.view.exact !== null")
        assert not [u for u in page.requests[seen:] if not u.startswith((server.url, "data:", "blob:"))]
        # D6: all nodes removed
        others = [page.add(pos=(80 + 20 * i, 60)) for i in range(2)]
        page.settle()
        held = page.page.evaluate("() => held.count")
        assert held > 10 and page.counters()["contexts"] == 1
        page.page.evaluate(
            "(ids) => ids.forEach((id) => app.graph.remove(app.graph.getNodeById(id)))", [page.id, *others]
        )
        assert page.page.evaluate("() => held.count") == 0
        assert page.counters()["listeners"] == 0 and page.counters()["editors"] == 0
        assert page.page.evaluate("() => held.timers") == [30_000]
        page.until("async () => (await __sightline.load()).hooks.peekGL() === null")
        assert page.counters()["contexts"] == 0
        page.fresh(scene(CHAIR))
        assert page.counters()["contexts"] == 1 and len(set(page.ed(COLOURS))) > 20


def test_d2_a_new_node_shows_the_viewport(both):
    page = both.fresh()
    assert page.locate("canvas").count() == 2
    size = page.ed("return [e.view.width, e.view.height]")
    assert min(size) > 150
    assert len(page.ed(COLOURS)) > 20  # ground, grid, axes
    assert page.text() == ""  # looking is not editing


def test_d5_one_context_for_all_editors(classic):
    page = classic.fresh()
    base = page.counters()["listeners"]
    others = []
    for count in (3, 20):
        others += [page.add(pos=(80 + 20 * i, 60)) for i in range(len(others), count - 1)]
        page.settle()
        counted = page.counters()
        assert counted["contexts"] == 1 and counted["editors"] == count
    page.page.evaluate("(ids) => ids.forEach((id) => app.graph.remove(app.graph.getNodeById(id)))", others)
    counted = page.counters()
    assert counted["listeners"] == base and counted["editors"] == 1
    assert page.page.evaluate("() => document.querySelectorAll('.sightline-editor').length") == 1


def test_d7_d8_the_text_widget_is_hidden_first_and_in_the_prompt(both):
    page = both.fresh(scene(CHAIR))
    page.nudge(0, 1)
    names = page.page.evaluate("(id) => app.graph.getNodeById(id).widgets.map((w) => w.name)", page.id)
    assert names[:2] == ["scene", "layout"]  # the host adds its own preview after a run
    assert page.page.evaluate("(id) => app.graph.getNodeById(id).widgets[0].hidden", page.id)
    panel = "Comfy.RightSidePanel.IsOpen"
    page.setting(panel, True)  # the side panel lists the widgets of what is selected
    page.page.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", page.id)
    page.page.get_by_test_id("properties-panel").wait_for()
    page.page.wait_for_timeout(300)
    shown = page.page.evaluate(
        "() => [...document.querySelectorAll('textarea, input')]"
        ".filter((t) => t.value.includes('sightline.scene') && t.offsetParent).length"
    )
    assert shown == 0
    page.setting(panel, False)
    assert json.loads(page.page.evaluate(PROMPT))["objects"][0]["position"] == [1, 0, 0]


def test_d15_a_newer_document_is_read_only_and_stays_as_it_is(classic):
    newer = scene(CHAIR).replace('"version": 1', '"version": 3')
    page = classic.fresh(newer)
    assert "newer Sightline (version 3)" in page.locate(".se-trouble").inner_text()
    page.ed("e.store.select(['chair']); e.actions.nudge(0, 1); e.store.commit('x'); e.actions.add('dog')")
    assert page.text() == newer
    assert page.page.evaluate(PROMPT) == newer
    assert page.ed("return e.store.shown.length") == 1  # shown all the same


def test_d16_garbage_stays_until_the_user_chooses(classic):
    page = classic.fresh("no scene")
    assert page.locate('.se-trouble [data-code="E100"]').count() == 1
    assert page.text() == "no scene"
    page.page.get_by_label("Start empty").click()
    page.settle()
    assert page.doc()["format"] == "sightline.scene" and page.locate(".se-trouble").count() == 0
    page = classic.fresh(scene(box("big", size=(2000, 1, 1))))
    assert page.locate('.se-trouble [data-code="E111"]').count() == 1
    page.page.get_by_label("Fix").click()
    page.settle()
    assert page.object()["size"] == [1000, 1, 1]


def test_d17_unknown_keys_survive_an_edit(classic):
    odd = json.loads(scene(CHAIR | {"future": {"a": [1, 2.5e-7]}}, ext={"studio": {"shot": 7}}))
    odd["prompt"] = {"background": "x", "tone": "warm"}
    page = classic.fresh(json.dumps(odd))
    page.nudge(1, 0.5)
    found = page.doc()
    assert found["objects"][0]["future"] == {"a": [1, 2.5e-7]} and found["ext"] == {"studio": {"shot": 7}}
    assert found["prompt"]["tone"] == "warm" and found["objects"][0]["position"] == [0, 0.5, 0]


def test_d51_a_gesture_is_one_commit_and_none_while_it_lasts(every):
    page = every.fresh(scene(CHAIR))
    page.select("chair")
    page.ed("e.store.set({ tab: 'camera' })")
    page.settle()

    def held(place, dx, dy):
        """Press, move: nothing is written; let go: one commit and one step."""
        before, text, steps = page.commits(), page.text(), page.ed("return e.store.history.length")
        page.mouse.move(*place)
        page.mouse.down()
        page.mouse.move(place[0] + dx, place[1] + dy, steps=4)
        assert (page.commits(), page.text()) == (before, text)
        page.mouse.up()
        page.settle()
        assert page.commits() == before + 1 and page.text() != text
        assert page.ed("return e.store.history.length") == steps + 1

    for tool, grip in (
        ("move", "move-y"),
        ("move", "plane-z"),
        ("turn", "turn"),
        ("scale", "scale+y"),
        ("scale", "uniform"),
    ):
        page.ed("e.store.set({ tool: a })", tool)
        held(page.grip(grip), 25, -8)
    page.ed("e.store.set({ tool: 'move' })")
    held(page.middle(), 20, 12)  # the body
    slider = page.locate("input[type=range]").first.bounding_box()
    held((slider["x"] + slider["width"] * 0.25, slider["y"] + slider["height"] / 2), 40, 0)
    page.ed("e.store.set({ through: true, tab: 'object' })")
    page.settle()
    held(page.empty(), 30, 10)  # the camera that is looked through
    name = page.locate(".se-scrub").first.bounding_box()
    held((name["x"] + 4, name["y"] + 5), 30, 0)
    for keys in (["ArrowUp", "ArrowUp", "ArrowRight"], ["g", "x", "1", "Enter"], [",", ","]):
        before = page.commits()
        page.press(*keys)
        page.wait_for("return !e.store.busy")
        assert page.commits() == before + 1
    before = page.commits()
    page.mouse.move(*page.empty())
    page.focus()
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    page.until("async (n) => (await __sightline.load()).hooks.counters.commits === n + 1", arg=before)


def test_d52_host_undo_and_redo_restore_document_view_and_selection(every):
    page = every.fresh(scene(CHAIR))
    page.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState?.()")
    page.select("chair")
    page.ed("e.store.set({ view: { ...e.store.session.view, azimuth_deg: 77 } })")
    page.press("g", "x", "1", "Enter")
    one = page.text()
    page.press("g", "y", "2", "Enter")
    two = page.text()
    for key, expected in (("Control+z", one), ("Control+Shift+z", two)):
        page.keys.press(key)
        page.page.wait_for_function(
            f"(t) => app.graph.nodes.find((n) => n.type === '{NODE}')?.widgets[0].value === t", arg=expected
        )
        page.id = first(page)
        page.wait_for("return e.store.text() === a", expected)
        assert page.ed("return [e.store.session.view.azimuth_deg, e.store.session.selection]") == [77, ["chair"]]
        page.focus()


def test_d53_d57_saved_graphs_come_back_and_new_nodes_begin_empty(every):
    page = every.fresh(scene(CHAIR))
    page.nudge(0, 1)
    text, saved = page.text(), page.page.evaluate(SAVED)
    page.page.evaluate("() => app.graph.clear()")
    page.page.evaluate("(g) => app.loadGraphData(g)", saved)
    page.id = first(page)
    page.wait_for("return e.store.text() === a", text)
    assert page.text() == text
    page.page.evaluate("() => app.graph.clear()")
    page.id = page.add()
    page.settle()
    assert page.text() == "" and page.ed("return e.store.scene.objects.length") == 0


def test_d54_a_reload_right_after_an_edit_offers_the_edit(chromium, server):
    with opened(chromium, server) as page:
        page.fresh(scene(CHAIR))
        page.nudge(0, 0.1)
        saved = page.page.evaluate(SAVED)
        page.nudge(0, 1)
        page.reload()
        page.page.evaluate("(g) => app.loadGraphData(g)", saved)
        page.id = first(page)
        page.wait_for("return e.root.querySelector('.se-offer') !== null")
        assert page.object()["position"] == [0.1, 0, 0]
        page.page.get_by_label("Restore", exact=True).click()
        page.settle()
        assert page.object()["position"] == [1.1, 0, 0]


def test_d55_resizing_collapsing_themes_and_nodes2_change_nothing(classic):
    page = classic.fresh(scene(CHAIR))
    page.nudge(0, 1)
    page.select("chair")
    text, commits = page.text(), page.commits()
    kept = lambda: (page.text(), page.commits(), page.ed("return e.store.text()")) == (text, commits, text)  # noqa: E731
    page.page.evaluate("(id) => app.graph.getNodeById(id).setSize([700, 900])", page.id)
    page.settle()
    assert kept()
    for _ in range(2):
        page.page.evaluate("(id) => app.graph.getNodeById(id).collapse()", page.id)
        page.settle()
        assert kept()
    try:
        page.setting("Comfy.ColorPalette", "light")
        page.wait_for("return !e.view.look.dark")
        assert kept()
        page.setting("Comfy.ColorPalette", "dark")
        page.wait_for("return e.view.look.dark")
        page.setting("Comfy.VueNodes.Enabled", True)
        page.page.wait_for_selector("[data-node-id] .sightline-editor canvas")
        page.wait_for("return e.view.width > 10")
        assert kept() and page.ed("return e.store.session.selection") == ["chair"]
        page.nudge(1, 1)
        text, commits = page.text(), page.commits()
        assert page.object()["position"] == [1, 1, 0]
    finally:
        page.setting("Comfy.ColorPalette", "dark")
        page.setting("Comfy.VueNodes.Enabled", False)
    page.page.wait_for_selector("[data-node-id] .sightline-editor", state="detached")
    page.wait_for("return e.root.isConnected && e.view.width > 10")
    assert kept() and page.page.evaluate("() => document.querySelectorAll('.sightline-editor').length") == 1


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_d56_a_subgraph_keeps_the_scene(chromium, server, nodes2):
    with opened(chromium, server, nodes2=nodes2) as page:  # the host keeps the subgraph's definition in the page
        page.fresh(scene(CHAIR, output={"control_size": 64}))
        page.nudge(0, 1)
        text = page.text()
        page.page.evaluate(
            "(id) => { const n = app.graph.getNodeById(id), s = LiteGraph.createNode('SaveImage');"
            "app.graph.add(s); s.widgets[0].value = 'd56'; n.connect(1, s, 0);"
            "app.canvas.selectNode(n); app.graph.convertToSubgraph(new Set([n])); }",
            page.id,
        )
        page.settle()
        outer = "app.rootGraph.nodes.find((n) => n.subgraph)"
        inner = f"() => {outer}.subgraph.nodes[0].widgets.find((w) => w.name === 'scene').value"
        assert page.page.evaluate(inner) == text
        assert json.loads(page.page.evaluate(PROMPT))["objects"][0]["position"] == [1, 0, 0]
        # enter, edit, leave
        page.page.evaluate(f"() => {{ const n = {outer}; app.canvas.openSubgraph(n.subgraph, n); }}")
        page.id = page.page.evaluate(f"() => {outer}.subgraph.nodes[0].id")
        page.wait_for("return e.root.isConnected && e.store.scene.objects.length === 1")
        page.nudge(1, 0.5)
        page.page.evaluate("() => app.canvas.setGraph(app.rootGraph)")
        page.settle()
        edited = page.page.evaluate(inner)
        assert json.loads(edited)["objects"][0]["position"] == [1, 0.5, 0]
        # save, load, run
        saved = page.page.evaluate("() => JSON.parse(JSON.stringify(app.rootGraph.serialize()))")
        page.page.evaluate("() => app.rootGraph.clear()")
        page.page.evaluate("(g) => app.loadGraphData(g)", saved)
        page.page.wait_for_function(f"() => Boolean({outer})")
        assert page.page.evaluate(inner) == edited
        graph = page.page.evaluate("async () => (await app.graphToPrompt()).output")
        sent = next(n for n in graph.values() if n["class_type"] == NODE)["inputs"]["scene"]
        assert json.loads(sent)["objects"][0]["position"] == [1, 0.5, 0]
        assert any("d56" in str(path) for path in server.run(graph).files)


def test_d58_a_copied_node_is_on_its_own_after_an_edit(both):
    page = both.fresh(scene(CHAIR), scale=0.6)
    page.nudge(0, 1)
    text = page.text()
    page.page.evaluate(
        "(id) => { const n = app.graph.getNodeById(id); app.canvas.copyToClipboard(new Set([n]));"
        "app.canvas.pasteFromClipboard({ position: [800, 60] }); }",
        page.id,
    )
    page.page.wait_for_function(
        "() => app.graph.nodes.length === 2 && app.graph.nodes.every((n) => __sightline.editor(n.id))"
    )
    twin = page.page.evaluate("(id) => app.graph.nodes.find((n) => n.id !== id).id", page.id)
    page.wait_for("return e.store.scene.objects.length === 1", node=twin)
    assert page.text(twin) == text
    page.nudge(1, 1, node=twin)
    assert page.text() == text
    assert page.doc(twin)["id"] != page.doc()["id"] and page.doc(twin)["objects"][0]["position"] == [1, 1, 0]


def test_d59_a_run_takes_what_is_being_typed(classic):
    page = classic.fresh(scene(CHAIR))
    page.select("chair")
    prompt = page.page.get_by_label("What it is", exact=True)
    prompt.fill("a velvet armchair")
    assert json.loads(page.page.evaluate(PROMPT))["objects"][0]["prompt"] == "a velvet armchair"


def test_d60_cosmetic_edits_send_the_same_scene(classic):
    page = classic.fresh(scene(CHAIR))
    page.nudge(0, 1)
    sent = page.page.evaluate(PROMPT)
    text = page.text()
    page.ed("e.store.edit('Colour', (s) => { s.objects[0].color = '#123456'; s.title = 'Shot 7'; })")
    page.ed("e.actions.lock(e.store.scene.objects, true)")
    page.select("chair")
    page.ed("e.actions.group('A')")
    assert page.text() != text and page.page.evaluate(PROMPT) == sent


def test_d61_the_large_editor_keeps_state_and_has_its_own_history(both):
    page = both.fresh(scene(CHAIR))
    page.select("chair")
    page.press("f")
    page.page.wait_for_selector("dialog.sightline-dialog[open]")
    page.press("g", "x", "1", "Enter")
    page.press("g", "x", "1", "Enter")
    assert page.object()["position"] == [2, 0, 0]
    page.press("Control+z")
    assert page.object()["position"] == [1, 0, 0]
    page.press("Control+Shift+z")
    assert page.object()["position"] == [2, 0, 0]
    assert page.ed("return e.store.session.selection") == ["chair"]
    page.press("Escape", "Escape")
    page.page.wait_for_selector("dialog.sightline-dialog", state="detached")
    assert page.page.evaluate("(id) => Boolean(app.graph.getNodeById(id))", page.id)
    assert page.ed("return document.activeElement === e.view.root && e.root.isConnected")
    assert page.object()["position"] == [2, 0, 0]
