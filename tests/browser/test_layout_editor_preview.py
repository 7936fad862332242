"""Words and previews of the 3D layout editor: items 42 to 50 of its acceptance list (part D of the specification)."""

import io
import json
import random
import urllib.error

import numpy as np
import pytest
from layout_page import NODE, ROOT, box, of_golden, scene
from PIL import Image
from safetensors.numpy import load_file

FOLDERS = (ROOT / "tests" / "golden" / "seethrough3d", ROOT.parent / "shared" / "golden" / "seethrough3d")
LAYOUTS = sorted({p.name: p for folder in FOLDERS for p in folder.glob("layout_*.json")}.values())
RENDERED = [p for p in LAYOUTS if p.with_name(f"{p.stem}_oscr_512.png").exists()]
SPANS = next((folder / "token_spans.json" for folder in FOLDERS if (folder / "token_spans.json").exists()), None)
CHAIR = box("chair", (0.5, -0.7, 0), (0.9, 0.9, 1.1), 35)
TABLE = box("table", (-1, 0.4, 0), (1.2, 1.8, 0.8), -20)


def exact(server, text) -> np.ndarray:
    picture = Image.open(io.BytesIO(server.request("/sightline/scene/preview", text.encode())))
    return np.array(picture.convert("RGB"), int)


def live(page, text, size, samples) -> np.ndarray:
    found = page.hooks("control", text, size, samples)
    return np.array(found["data"], int).reshape(found["h"], found["w"], 3)


@pytest.fixture
def page(classic):
    return classic.fresh(scene(CHAIR, TABLE))


def test_d42_chips_follow_the_objects_and_hover_both_ways(page):
    page.ed("e.store.set({ tab: 'words' })")
    page.settle()
    words = page.locate(".se-word")
    assert [t.split("\n")[-1] for t in words.all_inner_texts()] == ["chair", "table"]
    page.ed("e.actions.reorder('table', 0)")
    page.settle()
    assert [t.split("\n")[-1] for t in words.all_inner_texts()] == ["table", "chair"]
    chips = "return [...e.root.querySelectorAll(a)].map((c) => getComputedStyle(c).getPropertyValue('--chip'))"
    assert page.ed(chips, ".se-word") == page.ed(chips, ".se-row .se-chip")
    words.first.hover()
    page.settle()
    assert page.ed("return e.view.hovered") == "table"
    page.mouse.move(*page.middle(1))
    page.page.wait_for_function("() => document.querySelector('.se-word.se-hovered')?.dataset.id === 'chair'")


@pytest.mark.skipif(SPANS is None, reason="there is no token_spans.json")
def test_d43_the_prompt_is_the_reference_s(classic):
    classic.fresh()
    for case in json.loads(SPANS.read_text("utf-8")):
        boxes = [box(f"b{i}") | {"prompt": subject} for i, subject in enumerate(case["subjects"])]
        if any(subject != subject.strip() for subject in case["subjects"]):
            continue  # descriptions are trimmed here, on purpose
        text = scene(*boxes, prompt={"background": case["surrounding_prompt"]})
        found = classic.page.evaluate(
            "async (t) => { const m = await __sightline.load(); const e = [...__sightline.editors.values()][0].editor;"
            "e.store.load(t); return m.hooks.fullPrompt(e.store.scene) }", text
        )  # fmt: skip
        assert found["text"] == case["prompt"]
        spans = [found["text"][s["start"] : s["end"]] for s in found["spans"]]
        assert spans == case["subjects"]


@pytest.mark.skipif(not RENDERED, reason="there is no rendered layout")
@pytest.mark.parametrize("path", RENDERED, ids=lambda p: p.stem)
def test_d44_the_live_control_image_equals_the_recorded_one(classic, path):
    classic.fresh()
    recorded = Image.open(path.with_name(f"{path.stem}_oscr_512.png")).convert("RGB").resize((256, 256), Image.BOX)
    assert np.abs(live(classic, of_golden(path), 256, 2) - np.array(recorded, int)).mean() <= 2


def test_d45_the_exact_view_is_the_node_s_output(page, server):
    page.nudge(0, 0.1)
    page.ed("e.store.set({ mode: 'exact' })")
    page.wait_for("return e.view.exact !== null && e.exact.note === ''")
    size = page.ed("return [e.view.exact.width, e.view.exact.height]")
    graph = {"1": {"class_type": NODE, "inputs": {"scene": page.text()}},
             "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 1], "filename_prefix": "d45"}}}  # fmt: skip
    run = server.run(graph)
    saved = np.array(Image.open(next(p for p in run.files if "d45" in str(p))).convert("RGB"), int)
    assert size == [saved.shape[1], saved.shape[0]]
    assert (exact(server, page.text()) == saved).all()
    shown = page.ed(
        "const c = document.createElement('canvas'); [c.width, c.height] = [e.view.exact.width, e.view.exact.height];"
        "const x = c.getContext('2d'); x.drawImage(e.view.exact, 0, 0);"
        "return Array.from(x.getImageData(0, 0, c.width, c.height).data)"
    )
    assert (np.array(shown).reshape(*saved.shape[:2], 4)[..., :3] == saved).all()


def test_d46_live_and_exact_agree_on_random_scenes(classic, server):
    classic.fresh()
    draw = random.Random(5)
    for _ in range(4):
        boxes = [
            box(f"b{i}", (draw.uniform(-4, 1.5), draw.uniform(-1.2, 1.2), draw.choice([0, 0, 0.5])),
                [draw.uniform(0.3, 1.6) for _ in range(3)], draw.uniform(-180, 180))
            for i in range(draw.randint(1, 6))
        ]  # fmt: skip
        output = {"size": [512, 512], "control_size": 128}
        text = scene(*boxes, elevation=draw.uniform(8, 40), lens=draw.uniform(40, 90), output=output)
        assert np.abs(live(classic, text, 128, 2) - exact(server, text)).mean() <= 2


@pytest.mark.skipif(not LAYOUTS, reason="there is no recorded layout")
@pytest.mark.parametrize("path", LAYOUTS, ids=lambda p: p.stem)
def test_d47_mask_cells_equal_the_recorded_ones(classic, path):
    if classic.id is None:
        classic.fresh()
    recorded = load_file(path.with_suffix(".safetensors"))["masks_32"].reshape(-1, 1024) > 0
    found = np.array(classic.hooks("masks", of_golden(path))) > 0
    assert (found != recorded).sum() <= 2


def test_d48_occlusion_is_shown_and_a_hidden_object_is_named(page):
    wall = box("wall", (2, 0, 0), (0.3, 3, 2.5))
    text = scene(CHAIR, wall, box("half", (-1, 1.6, 0), (0.5, 0.8, 0.8)))
    page.fresh(text)
    assert "W111" in page.hooks("warnings", text)
    hidden = page.hooks("hidden", text)
    assert hidden["chair"] == 1 and hidden["wall"] == 0
    page.page.wait_for_selector('[data-id="chair"].se-row .se-warn')
    assert page.locate('[data-id="chair"].se-row .se-seen').inner_text() == "100%"


def test_d49_compare_shows_the_last_picture_of_a_run(page, server):
    page.page.evaluate(
        "() => { const n = app.graph.nodes[0], s = LiteGraph.createNode('SaveImage');"
        "app.graph.add(s); n.connect(1, s, 0); }"
    )
    page.nudge(0, 0.1)
    page.ed("e.store.set({ mode: 'compare' })")
    page.page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for("return e.store.session.generated !== null")
    assert "filename=" in page.ed("return e.store.session.generated")
    page.settle()
    f = page.ed("return e.view.frameRect")
    page.by(page.client(f["x"] + f["w"] / 2, f["y"] + f["h"] / 2), -40, 0)
    assert page.ed("return e.view.wipe") < 0.5


def test_d50_a_failing_preview_keeps_the_last_picture_and_says_so(page):
    page.page.route("**/sightline/scene/preview", lambda route: route.fulfill(status=500, body="{}"))
    try:
        page.ed("e.view.exact = e.view.base; e.store.set({ mode: 'exact' })")
        page.wait_for("return e.exact.note.length > 3")
        page.settle()
        assert "kept" in page.locate(".se-status").inner_text()
        assert page.ed("return e.view.exact === e.view.base")
    finally:
        page.page.unroute("**/sightline/scene/preview")
    page.errors[:] = [e for e in page.errors if "500" not in e]
    page.nudge(0, 0.1)
    assert page.object()["position"][0] == 0.6


def test_d74_the_preview_refuses_what_is_too_large_or_no_scene(server):
    for body, status in ((b"x" * 300_000, 413), (b"{}", 400), (b"no", 400)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.request("/sightline/scene/preview", body)
        assert refused.value.code == status
        assert json.loads(refused.value.read())["error"]
    outside = json.loads(scene(CHAIR | {"image": {"kind": "input", "name": "../../secret.png"}}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request("/sightline/scene/preview", json.dumps(outside).encode())
    assert json.loads(refused.value.read())["problems"][0]["code"] == "E130"
