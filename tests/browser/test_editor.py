"""What a user sees in the editor: the shipped workflow, the blueprint, help pages, and names in his language."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLUEPRINTS = sorted(path.stem for path in (ROOT / "subgraphs").glob("*.json"))
DESCRIPTION = {
    name: json.loads((ROOT / "subgraphs" / f"{name}.json").read_text("utf-8"))["extra"]["BlueprintDescription"]
    for name in BLUEPRINTS
}
TURNTABLE = "SightlineSplatTurntable"
TEMPLATE = "/?template=sparsegen&source=ComfyUI-Sightline"  # what a link to one of the offered templates opens

# The end of the next run: "success", or what went wrong. Kept in an object, for a promise itself would be waited for.
LISTEN = """() => {
    const ended = new Promise((done) => {
        app.api.addEventListener("execution_success", () => done("success"));
        for (const kind of ["execution_error", "execution_interrupted"])
            app.api.addEventListener(kind, (event) => done(kind + ": " + JSON.stringify(event.detail)));
        setTimeout(() => done("no end within 60 seconds"), 60000);
    });
    window.sightlineTest = { ended };
}"""
UNKNOWN = "() => app.graph.nodes.filter((n) => !LiteGraph.registered_node_types[n.type]).map((n) => n.type)"
SHOWN = """(type) => {
    const node = app.graph.nodes.find((n) => n.type === type);
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
    const pictures = drawn ? [...drawn.querySelectorAll("img")] : node.imgs ?? [];
    return pictures.filter((i) => i.src.includes("type=temp")).map((i) => i.naturalWidth);
}"""

SELECT = """(type) => {
    const node = app.graph.nodes.find((n) => n.type === type);
    app.canvas.selectNode(node);
    app.canvas.centerOnNode(node);
    return document.querySelector('[data-testid="info-button"]') !== null;
}"""


def ends(page) -> str:
    """Press Run and wait."""
    page.evaluate(LISTEN)
    page.get_by_test_id("queue-button").click()
    return page.evaluate("() => window.sightlineTest.ended")


def fewer_frames(page, frames: int) -> None:
    """Shorten the turn; the test is about the editor."""
    change = "([type, frames]) => app.graph.nodes.find((n) => n.type === type).widgets[0].value = frames"
    page.evaluate(change, [TURNTABLE, frames])


def opened(page, kind: str) -> None:
    page.wait_for_function("(type) => app.graph.nodes.some((n) => n.type === type)", arg=kind)


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_the_shipped_workflow_opens_runs_and_shows_the_turntable(editor, nodes2):
    with editor(nodes2=nodes2, query=TEMPLATE) as page:
        opened(page, TURNTABLE)
        assert page.evaluate(UNKNOWN) in ([], ["MarkdownNote"])
        assert page.get_by_text("missing node").count() == 0
        fewer_frames(page, 4)
        assert ends(page) == "success"
        page.wait_for_function(f"(type) => ({SHOWN})(type).includes(256)", arg=TURNTABLE)


def test_the_question_mark_opens_our_help_page(editor):
    with editor(query=TEMPLATE) as page:
        opened(page, TURNTABLE)
        page.wait_for_function(SELECT, arg=TURNTABLE, polling=300)  # the editor clears selections while it loads
        page.get_by_test_id("info-button").click()
        text = page.locator(".node-help-content")
        # a line that is in the page but not in the schema, from which the editor makes a page where there is none
        last = (ROOT / "web" / "docs" / f"{TURNTABLE}.md").read_text("utf-8").strip().splitlines()[-1]
        text.get_by_text(max(last.split("`"), key=len).strip("- ")).first.wait_for()


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_is_found_placed_and_runs(editor, name, nodes2):
    with editor(nodes2=nodes2) as page:
        page.evaluate("() => app.graph.clear()")
        for _ in range(20):  # the canvas may not listen yet
            page.mouse.dblclick(700, 400)
            page.wait_for_timeout(500)
            if page.evaluate("() => document.activeElement.tagName === 'INPUT'"):
                break
        page.keyboard.type(name)
        page.get_by_text(DESCRIPTION[name][:40]).first.wait_for()
        page.keyboard.press("Enter")
        page.wait_for_function("() => app.graph.nodes.length === 1")
        page.mouse.click(600, 300)  # puts down what hangs on the pointer
        sockets = (
            "() => { const n = app.graph.nodes[0]; return [n.inputs, n.outputs].map((s) => s.map((i) => i.name)); }"
        )
        inputs, outputs = page.evaluate(sockets)
        own = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text("utf-8"))["definitions"]["subgraphs"][0]
        assert outputs == [one["name"] for one in own["outputs"]]
        assert inputs[: len(own["inputs"])] == [
            one["name"] for one in own["inputs"]
        ]  # widgets that were let out follow
        if "model" in inputs:
            return  # it needs weights that are not here
        page.evaluate("""() => {
            const node = app.graph.nodes[0];
            const [picture, save] = ["SightlineExamplePicture", "SaveImage"].map((t) => LiteGraph.createNode(t));
            for (const one of [picture, save]) app.graph.add(one);
            picture.connect(0, node, 0);
            node.connect(1, save, 0);
            node.widgets.find((w) => w.name === "frames").value = 3;
        }""")
        assert ends(page) == "success"
        page.wait_for_function("() => Object.values(app.nodeOutputs).some((o) => o.images?.length === 3)")


@pytest.mark.parametrize("locale", ["zh", "ja"])
def test_names_are_in_the_language_of_the_user(editor, locale):
    names = json.loads((ROOT / "locales" / locale / "nodeDefs.json").read_text("utf-8"))[TURNTABLE]
    english = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))[TURNTABLE]
    assert names["display_name"] != english["display_name"]
    with editor(nodes2=True, locale=locale) as page:
        page.evaluate("(t) => { app.graph.clear(); app.graph.add(LiteGraph.createNode(t)); }", TURNTABLE)
        page.get_by_text(names["display_name"], exact=True).first.wait_for()
        page.get_by_text(names["inputs"]["frames"]["name"], exact=True).first.wait_for()
