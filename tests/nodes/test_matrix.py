"""Every node: schema, tooltips, help pages, locales, and the order that saved workflows rely on.

``frozen_widgets.json`` is a contract: widgets, sockets and outputs keep their order. New ones are added to the file at
the end of their list; renames go through the host's node replacement.
"""

import json
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FROZEN = json.loads((HERE / "frozen_widgets.json").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh", "ja")
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
# tooltips with parts that are computed (licences): the English locale leaves them to the schema
COMPUTED = {("SightlineSparseGenLoader", "weights"), ("SightlineDownloadWeights", "weights")}

every_node = pytest.mark.parametrize("node", FROZEN)
every_language = pytest.mark.parametrize("language", LANGUAGES)


def inputs_of(info: dict) -> dict[str, list]:
    """All inputs in the order of the editor: required, then optional."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def is_widget(entry: list) -> bool:
    return (isinstance(entry[0], list) or entry[0] in WIDGETS) and not entry[1].get("forceInput")


def locale(language: str) -> dict:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def help_page(node: str, language: str) -> Path:
    docs = ROOT / "web" / "docs"
    return docs / f"{node}.md" if language == "en" else docs / node / f"{language}.md"


def test_the_frozen_list_names_every_node(described):
    assert list(described) == list(FROZEN)


@every_node
def test_order_of_widgets_sockets_and_outputs_is_frozen(described, node):
    info = described[node]
    entries = inputs_of(info)
    assert [name for name, entry in entries.items() if is_widget(entry)] == FROZEN[node]["widgets"]
    assert [name for name, entry in entries.items() if not is_widget(entry)] == FROZEN[node]["sockets"]
    assert list(zip(info["output_name"], info["output"])) == [tuple(pair) for pair in FROZEN[node]["outputs"]]


@every_node
def test_names(described, node):
    info = described[node]
    assert re.fullmatch(r"Sightline[A-Z][A-Za-z0-9]+", node)
    assert info["display_name"] and "Sightline" not in info["display_name"]
    assert info["category"] == "Sightline" or info["category"].startswith("Sightline/")
    assert len(info["description"]) > 40 and info["description"].endswith(".")
    assert info["search_aliases"] and info["doc"]
    assert not info["deprecated"] and not info["api_node"]


@every_node
def test_every_input_and_output_has_a_tooltip(described, node):
    info = described[node]
    for name, entry in inputs_of(info).items():
        assert len(entry[1].get("tooltip") or "") >= 10, name
    for inner in info["template_inputs"]:
        assert len(inner["tooltip"] or "") >= 10, inner["id"]
    assert len(info["output_tooltips"] or ()) == len(info["output"])
    assert all(len(tip or "") >= 10 for tip in info["output_tooltips"])


@every_node
def test_every_widget_has_a_default_inside_its_range(described, node):
    for name, (kind, options) in inputs_of(described[node]).items():
        if is_widget([kind, options]):
            assert "default" in options, name
        if kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name
        if kind == "COMBO":
            assert options["default"] in options["options"], name


@every_node
def test_execute_takes_exactly_the_inputs(described, node):
    info = described[node]
    assert sorted(info["execute"]) == sorted(inputs_of(info))
    if info["validate"] != ["kwargs"]:
        assert set(info["validate"]) <= set(inputs_of(info))


@every_node
@every_language
def test_help_page(node, language):
    text = help_page(node, language).read_text(encoding="utf-8")
    assert text.startswith(f"# {locale(language)[node]['display_name']}\n")
    for name in (*FROZEN[node]["widgets"], *FROZEN[node]["sockets"]):
        assert f"`{name}`" in text, name
    for name, _ in FROZEN[node]["outputs"]:
        assert f"`{name}`" in text, name
    assert not re.search(r"\]\(https?://|<script|<img", text), "a help page must work offline"


@every_language
def test_no_help_page_without_a_node(language):
    docs = ROOT / "web" / "docs"
    pages = docs.glob("*.md") if language == "en" else docs.glob(f"*/{language}.md")
    assert {page.stem if language == "en" else page.parent.name for page in pages} == set(FROZEN)


@every_language
def test_locale_covers_exactly_what_there_is(language):
    entries = locale(language)
    assert list(entries) == list(FROZEN)
    for node, entry in entries.items():
        frozen = FROZEN[node]
        assert set(entry["inputs"]) == {*frozen["widgets"], *frozen["sockets"]}
        assert list(entry["outputs"]) == [str(i) for i in range(len(frozen["outputs"]))]
        texts = [entry["display_name"], entry["description"]]
        for name, one in (*entry["inputs"].items(), *entry["outputs"].items()):
            texts += [one["name"], one.get("tooltip", "computed" if (node, name) in COMPUTED else "")]
        assert all(texts)
        # these have a meaning for the editor's translation library and would vanish or break
        assert not any(sign in text for text in texts for sign in "{}|@")


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_locale_is_translated(language):
    english = locale("en")
    for node, entry in locale(language).items():
        assert entry["display_name"] != english[node]["display_name"]
        assert entry["description"] != english[node]["description"]
        for name, one in entry["inputs"].items():
            assert one["tooltip"] != english[node]["inputs"][name].get("tooltip"), name


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_translated_loader_names_weights_and_licences(language):
    from sightline.models.sparsegen.weights import ALL

    tooltip = locale(language)["SightlineSparseGenLoader"]["inputs"]["weights"]["tooltip"]
    for weights in ALL:
        assert weights.name in tooltip and weights.licence in tooltip


@every_node
def test_english_locale_is_the_schema(described, node):
    info, entry = described[node], locale("en")[node]
    assert (entry["display_name"], entry["description"]) == (info["display_name"], info["description"])
    for name, (_, options) in inputs_of(info).items():
        assert entry["inputs"][name]["name"] == options.get("display_name", name)
        if (node, name) not in COMPUTED:
            assert entry["inputs"][name]["tooltip"] == options["tooltip"]
    for i, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"])):
        assert entry["outputs"][str(i)] == {"name": name, "tooltip": tooltip}


def test_loader_tooltip_names_weights_and_licences(described):
    from sightline.models.sparsegen.weights import ALL

    tooltip = described["SightlineSparseGenLoader"]["input"]["required"]["weights"][1]["tooltip"]
    for weights in ALL:
        assert weights.name in tooltip and f"Licence {weights.licence}" in tooltip


@every_language
def test_download_names_weights_sizes_and_licences(described, language):
    from sightline.models.download import size_text
    from sightline.pipelines.published import SETS

    entry = described if language == "en" else locale(language)
    texts = [help_page("SightlineDownloadWeights", language).read_text(encoding="utf-8")]
    if language == "en":
        texts.append(entry["SightlineDownloadWeights"]["input"]["required"]["weights"][1]["tooltip"])
    else:
        texts.append(entry["SightlineDownloadWeights"]["inputs"]["weights"]["tooltip"])
    for weights in SETS:
        known = sum(file.bytes or 0 for file in weights.files)
        parts = (weights.name, weights.licence, *([size_text(known)] if known else ()))
        assert all(part in text for text in texts for part in parts)
