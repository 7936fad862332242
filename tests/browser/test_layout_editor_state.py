"""Hosting and state of the 3D layout editor: items 1 to 8, 15 to 17 and 51 to 60 of its acceptance list (part D)."""

import json

import pytest
from layout_page import NODE, ROOT, box, opened, scene

CHAIR = box("chair", (0, 0, 0), (1, 1, 1))
SAVED = "() => JSON.parse(JSON.stringify(app.graph.serialize()))"
PROMPT = f"""async () => {{
    const {{ output }} = await app.graphToPrompt();
    return Object.values(output).find((n) => n.class_type === "{NODE}").inputs.scene;
}}"""


def first(page):
    """The id of the graph's editor node, which the host makes anew at each undo."""
    page.page.wait_for_function("() => app.graph.nodes.some((n) => __sightline.editor(n.id))")
    return page.page.evaluate(f"() => app.graph.nodes.find((n) => n.type === '{NODE}').id")


def test_d1_a_graph_without_the_node_loads_no_editor(chromium, server):
    with opened(chromium, server) as page:
        page.page.evaluate("() => app.graph.clear()")
        page.settle()
        assert not [url for url in page.requests if "editor.mjs" in url]
        outside = [url for url in page.requests if not url.startswith((server.url, "data:", "blob:"))]
        assert not [url for url in outside if "sightline" in url.lower()]
        entry = (ROOT / "web" / "sightline.js").read_text("utf-8")
        assert len(entry.encode()) < 30_000 and "three" not in entry.replace("three.js", "")
        # D4 with an editor in the page: nothing of ours leaves the server
        seen = len(page.requests)
        page.fresh(scene(CHAIR))
        page.ed("e.windows.examples(); e.store.set({ mode: 'exact' })")
        page.page.wait_for_timeout(300)
        assert not [u for u in page.requests[seen:] if not u.startswith((server.url, "data:", "blob:"))]


def test_d2_a_new_node_shows_the_viewport(both):
    page = both.fresh()
    assert page.locate("canvas").count() == 2
    size = page.ed("return [e.view.width, e.view.height]")
    assert min(size) > 150
    drawn = page.ed(
        "const d = e.view.base.getContext('2d').getImageData(0, 0, e.view.base.width, e.view.base.height).data;"
        "return new Set(Array.from({ length: d.length / 4 }, (_, i) => d.slice(4 * i, 4 * i + 3).join())).size"
    )
    assert drawn > 20  # ground, grid, axes
    assert page.text() == ""  # looking is not editing


def test_d5_d6_one_context_for_all_editors_and_listeners_return(classic):
    page = classic.fresh()
    base = page.counters()["listeners"]
    others = [page.add(pos=(80 + 20 * i, 60)) for i in range(5)]
    page.settle()
    counted = page.counters()
    assert counted["contexts"] == 1 and counted["editors"] == 6
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
    page.page.wait_for_timeout(300)
    shown = page.page.evaluate(
        "() => [...document.querySelectorAll('textarea, input')]"
        ".filter((t) => t.value.includes('sightline.scene') && t.offsetParent).length"
    )
    assert shown == 0
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


def test_d51_a_gesture_is_one_commit_and_none_while_it_lasts(both):
    page = both.fresh(scene(CHAIR))
    page.select("chair")
    before, text = page.commits(), page.text()
    start = page.grip("move-y")
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 30, start[1], steps=4)
    assert page.commits() == before and page.text() == text
    assert page.ed("return e.store.scene.objects[0].position[1]") != 0
    page.mouse.up()
    page.settle()
    assert page.commits() == before + 1 and page.doc()["rev"] == 1


def test_d52_host_undo_and_redo_restore_document_view_and_selection(both):
    page = both.fresh(scene(CHAIR))
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


def test_d53_d57_saved_graphs_come_back_and_new_nodes_begin_empty(both):
    page = both.fresh(scene(CHAIR))
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


def test_d55_resizing_collapsing_and_themes_change_nothing(classic):
    page = classic.fresh(scene(CHAIR))
    page.nudge(0, 1)
    text, commits = page.text(), page.commits()
    page.page.evaluate("(id) => app.graph.getNodeById(id).setSize([700, 900])", page.id)
    page.settle()
    page.page.evaluate("(id) => { const n = app.graph.getNodeById(id); n.collapse(); n.collapse(); }", page.id)
    page.page.evaluate("() => document.body.classList.toggle('x-theme')")
    page.settle()
    assert page.text() == text and page.commits() == commits


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_d56_a_subgraph_keeps_the_scene(chromium, server, nodes2):
    with opened(chromium, server, nodes2=nodes2) as page:  # the host keeps the subgraph's definition in the page
        page.fresh(scene(CHAIR))
        page.nudge(0, 1)
        text = page.text()
        page.page.evaluate(
            "(id) => { const n = app.graph.getNodeById(id); app.canvas.selectNode(n);"
            "app.graph.convertToSubgraph(new Set([n])); }",
            page.id,
        )
        page.settle()
        inner = "() => app.graph.nodes[0].subgraph.nodes[0].widgets.find((w) => w.name === 'scene').value"
        assert page.page.evaluate(inner) == text
        assert json.loads(page.page.evaluate(PROMPT))["objects"][0]["position"] == [1, 0, 0]
        assert not page.errors


def test_d58_a_copied_node_is_on_its_own_after_an_edit(classic):
    page = classic.fresh(scene(CHAIR), scale=0.6)
    page.nudge(0, 1)
    text = page.text()
    twin = page.add(text, pos=(800, 60))
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
