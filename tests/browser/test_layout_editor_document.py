"""The document on both sides of the 3D layout editor: items 9, 10 and 75 of its acceptance list (part D)."""

import json
import os
import re
import shutil
import subprocess

import pytest
from layout_page import ROOT, box, scene

from sightline.scene.document import (
    SceneError,
    document_to_text,
    parse_document,
    prompt_parts,
    read_document,
)

EXAMPLES = sorted((ROOT / "scene" / "document" / "examples").glob("*.json"))
CHAIR = box("chair", (0.1234567, -0.5, 0), (1, 1.5, 0.75), 30)


def changed(path, value):
    """A good scene with one value replaced (or removed, for ...)."""
    document = json.loads(scene(CHAIR, box("table")))
    at = document
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(document)


TEXTS = {
    "good": scene(CHAIR, box("table")),
    "no number": changed(["objects", 0, "position", 1], "left"),
    "too large": changed(["objects", 0, "size", 0], 5000),
    "too small": changed(["objects", 1, "size", 2], 0),
    "two numbers": changed(["objects", 0, "position"], [1, 2]),
    "yaw -180": changed(["objects", 0, "yaw_deg"], -180),
    "yaw 400": changed(["objects", 0, "yaw_deg"], 400),
    "text for a flag": changed(["objects", 0, "visible"], "yes"),
    "number for a text": changed(["objects", 0, "prompt"], 7),
    "long words": changed(["objects", 0, "prompt"], "x" * 401),
    "trimmed words": changed(["objects", 0, "prompt"], "  a red chair "),
    "no id": changed(["objects", 0, "id"], ...),
    "twice the same id": changed(["objects", 1, "id"], "chair"),
    "unknown preset": changed(["objects", 0, "preset"], "dragon"),
    "unknown key": changed(["objects", 0, "mood"], {"a": [1e-9, 2.50]}),
    "no camera": changed(["cameras"], []),
    "other active camera": changed(["active_camera"], "cam9"),
    "lens 0": changed(["cameras", 0, "lens_mm"], 0),
    "broken mode": changed(["cameras", 0, "mode"], "fisheye"),
    "outside": changed(["objects", 0, "image"], {"kind": "input", "name": "../x.png"}),
    "half a step": changed(["output"], {"size": [1024, 1024], "steps": 2.5}),
    "not a list": changed(["objects"], {}),
    "newer": changed(["version"], 9),
    "other format": changed(["format"], "blender"),
    "ext": changed(["ext"], {"z": 1.10, "a": {"k": 1e21, "b": [0.1, -0.0]}}),
    "no JSON": "{",
    "a list": "[]",
    "129 boxes": scene(*[box(f"b{i}") for i in range(129)]),
}


def problems(text):
    try:
        return [(p.code, p.pointer) for p in read_document(text)[1]]
    except SceneError as error:
        return [(p.code, p.pointer) for p in error.problems]


@pytest.fixture
def page(classic):
    return classic if classic.id is not None else classic.fresh()


def test_d9_both_sides_find_the_same(page):
    for name, text in TEXTS.items():
        found = sorted((p["code"], p["pointer"]) for p in page.hooks("problemsOf", text))
        assert found == sorted(problems(text)), name


def test_d10_both_sides_write_the_same_bytes(page):
    texts = dict(TEXTS) | {path.stem: path.read_text("utf-8") for path in EXAMPLES}
    written = 0
    for name, text in texts.items():
        try:
            document = parse_document(text)
        except SceneError:
            continue
        assert page.hooks("canonicalText", text) == document_to_text(document), name
        written += 1
    assert written >= 9 + len(EXAMPLES)


def test_d43_both_sides_make_the_same_prompt(page):
    for path in EXAMPLES:
        text = path.read_text("utf-8")
        ours = page.page.evaluate(
            "async (t) => { const { hooks } = await __sightline.load(); return hooks.promptOf(t); }", text
        )
        assert ours == prompt_parts(parse_document(text)).text


def test_d75_the_bundle_is_readable_offline_and_carries_its_licences():
    for name in ("sightline.js", "lib/editor.mjs"):
        text = (ROOT / "web" / name).read_text("utf-8")
        assert not re.search(r"\beval\(|new Function\(", text)
        assert not re.search(r"""(fetch|import)\(\s*["'`]https?:""", text)
        assert "Apache-2.0" in text.split("\n")[0]
    assert "@license" in (ROOT / "web" / "lib" / "editor.mjs").read_text("utf-8")
    assert "MIT" in (ROOT / "web" / "lib" / "THIRD_PARTY.txt").read_text("utf-8")


def test_d75_the_bundle_is_what_the_sources_give(tmp_path):
    node = shutil.which("node")
    if node is None or not (ROOT / "web_src" / "node_modules" / "esbuild").exists():
        pytest.skip("node and web_src/node_modules are needed to build (npm install in web_src)")
    done = subprocess.run(
        [node, "build.mjs", str(tmp_path)], cwd=ROOT / "web_src", capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    for name in ("sightline.js", "lib/editor.mjs", "lib/THIRD_PARTY.txt"):
        assert (tmp_path / name).read_bytes() == (ROOT / "web" / name).read_bytes(), name
