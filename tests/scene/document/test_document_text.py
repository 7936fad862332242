"""Reading and writing scene documents: canonical text, every error and warning code, hostile JSON."""

import json
import random

import pytest

from sightline.scene.document import (
    SceneError,
    document_to_json,
    document_to_text,
    fingerprint,
    harmonise,
    json_schema,
    new_document,
    parse_document,
    prompt_parts,
    read_document,
    run_problems,
)
from sightline.scene.document.examples import EXAMPLES, load_example
from sightline.scene.document.presets import PRESETS
from sightline.scene.document.schema import FILE, schema_text
from sightline.scene.document.text import number_text
from sightline.scene.errors import InputError

SMALLEST = (
    '{"format":"sightline.scene","version":1,"id":"a","cameras":[{"id":"cam1"}],"active_camera":"cam1","objects":[]}'
)


def scene(**changes) -> dict:
    one = {"id": "o1", "prompt": "a chair", "position": [0, 0, 0], "size": [1, 1, 1]}
    value = json.loads(SMALLEST) | {"objects": [one]}
    for path, new in changes.items():
        at, parts = value, path.split("__")
        for part in parts[:-1]:
            at = at[int(part) if part.isdigit() else part]
        at[int(parts[-1]) if parts[-1].isdigit() else parts[-1]] = new
    return value


def codes(value) -> list[str]:
    try:
        return [problem.code for problem in read_document(value)[1]]
    except SceneError as error:
        assert str(error).endswith((".", ")")) or "…" in str(error), str(error)
        return [problem.code for problem in error.problems]


def test_the_smallest_document_and_its_defaults():
    document = parse_document(SMALLEST)
    assert document.camera.orbit.elevation_deg == 20 and document.output.size == (1024, 1024)
    assert document.prompt.prefix == "a photo of "


@pytest.mark.parametrize("name", EXAMPLES)
def test_text_is_canonical(name):
    document = load_example(name)
    text = document_to_text(document)
    assert document_to_text(parse_document(text)) == text
    assert parse_document(document_to_json(document)) == parse_document(text)
    assert ": " not in text.split('"objects"')[0] and ', "' not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-0.0, "0"), (0.1, "0.1"), (1 / 128, "0.007813"), (-1 / 128, "-0.007813"), (1e-9, "0"), (-1e-9, "0"),
     (0.1 + 0.2, "0.3"), (123456.7890126, "123456.789013"), (9007199254740991, "9007199254740991")],
)  # fmt: skip
def test_numbers(value, text):
    assert number_text(value) == text


def test_unknown_keys_survive_with_all_their_digits():
    value = scene(ext={"b": {"z": 0.1234567891, "a": 1e-9}}, objects__0__mine=[1e21, "ü"])
    document, problems = read_document(value)
    assert [p.code for p in problems] == ["W190"]
    again = json.loads(document_to_text(document))
    assert again["ext"] == value["ext"] and again["objects"][0]["mine"] == [1e21, "ü"]
    assert '"a":1e-9,"z":0.1234567891' in document_to_text(document)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "E100"), ("[1]", "E100"), ("{", "E100"), ('{"format":"other"}', "E100"), ('{"a":NaN}', "E100"),
        ("[" * 100_000, "E100"), ('{"a":' * 40 + "1" + "}" * 40, "E100"), (b"\xff\xfe", "E100"),
        ('{"format":"sightline.scene","version":2}', "E101"), ("{" + " " * 300_000 + "}", "E102"),
        (scene(objects__0__position=[0, "x", 0]), "E110"), (scene(objects__0__position=[0, float("nan"), 0]), "E110"),
        (scene(objects__0__position=5), "E110"), (scene(objects__0__size=[1, 1]), "E115"),
        (scene(objects__0__size=[0, 1, 1]), "E111"), (scene(objects__0__size=[1, -1, 1]), "E111"),
        (scene(objects__0__position=[2000, 0, 0]), "E111"), (scene(objects__0__yaw_deg=181), "E111"),
        (scene(objects=[{"id": str(i)} for i in range(129)]), "E112"), (scene(cameras=[]), "E112"),
        (scene(objects__0__prompt=5), "E115"), (scene(objects__0__prompt="x" * 401), "E111"),
        (scene(objects__0__visible="yes"), "E115"), (scene(objects=["box"]), "E115"), (scene(objects={}), "E115"),
        (scene(output={"size": [100, 100]}), "E111"), (scene(output={"seed": 1.5}), "E111"),
        (scene(objects__0__image={"kind": "input", "name": "../../etc/passwd"}), "E130"),
        (scene(objects__0__image={"kind": "input", "name": "/etc/passwd"}), "E130"),
        (scene(objects__0__image={"kind": "input", "name": "a.png", "subfolder": "C:\\x"}), "E130"),
        (scene(objects__0__image={"kind": "https", "name": "a.png"}), "E115"),
        (scene(cameras__0__mode="fisheye"), "E115"), (scene(cameras__0__lens_mm=0), "E111"),
    ],
)  # fmt: skip
def test_errors(value, code):
    with pytest.raises(SceneError) as caught:
        parse_document(value)
    assert caught.value.code == code
    assert str(caught.value).count("\n") == 0 and len(str(caught.value)) < 200


def test_every_error_is_collected_and_names_the_object():
    with pytest.raises(SceneError) as caught:
        parse_document(scene(objects__0__size=[0, 1, 9999], objects__0__yaw_deg=300))
    problems = caught.value.problems
    assert [p.pointer for p in problems] == ["/objects/0/size/0", "/objects/0/size/2", "/objects/0/yaw_deg"]
    assert all("‘a chair’" in p.text for p in problems) and "width" in problems[0].text
    assert [p.fix.value for p in problems] == [0.001, 1000.0, -60.0]
    assert problems[0].to_json()["fix"] == {"label": "Clamp", "value": 0.001}


def test_what_is_mended_is_a_warning():
    value = scene(objects=[{"id": "a"}, {"id": "a"}, {"id": ""}, {"id": "b", "preset": "dragon"}], active_camera="x")
    document, problems = read_document(value)
    assert {p.code for p in problems} == {"W191", "W192", "W193"}
    assert len({one.id for one in document.objects}) == 4 and document.active_camera == "cam1"
    assert codes(scene(colour="red")) == ["W190"]


def test_running_needs_objects_words_and_a_size():
    assert [p.code for p in run_problems(new_document())] == ["E120"]
    value = scene(objects__0__prompt="", objects__0__preset="man", output={"size": [1000, 1024]})
    found = run_problems(parse_document(value))
    assert [p.code for p in found] == ["E121", "E122"]
    assert found[0].fix.value == "man" and found[1].fix.value == [992, 1024]
    hidden = parse_document(scene(objects__0__visible=False))
    assert [p.code for p in run_problems(hidden)] == ["E120"]


def test_prompt_and_where_its_subjects_stand():
    second = {"id": "o2", "prompt": "a man (left), 50% off"}
    third = {"id": "o3", "prompt": "silent", "use": {"prompt": False}}
    value = scene(prompt={"background": "at night", "suffix": "35 mm"})
    value["objects"] += [second, third]
    parts = prompt_parts(parse_document(value))
    assert parts.text == "a photo of a chair and a man (left), 50% off at night 35 mm"
    assert [parts.text[a:b] for a, b in parts.spans] == ["a chair", "a man (left), 50% off"]
    assert parts.object_ids == ("o1", "o2")
    assert prompt_parts(parse_document(scene())).text == "a photo of a chair "


def test_fingerprint_ignores_what_changes_no_result():
    base = scene()
    cosmetic = scene(title="x", rev=7, objects__0__color="#ff0000", objects__0__locked=True, objects__0__name="n")
    assert fingerprint(parse_document(base)) == fingerprint(parse_document(cosmetic | {"id": "other"}))
    assert fingerprint(parse_document(base)) != fingerprint(parse_document(scene(objects__0__position=[0, 0, 1])))


def test_harmonise_as_the_reference_and_by_default():
    value = scene(objects=[
        {"id": "a", "preset": "bus", "position": [0, 0, 1], "size": [0.97, 3.97, 0.98]},
        {"id": "b", "preset": "dog", "size": [1, 1, 1]},
        {"id": "c", "size": [3, 3, 3]},
    ])  # fmt: skip
    document = parse_document(value)
    bus, dog, custom = harmonise(document, as_reference=True).objects
    ratio = PRESETS["dog"].scale / PRESETS["bus"].scale
    assert bus.size == pytest.approx(PRESETS["bus"].size) and bus.position[2] == 0
    assert dog.size == pytest.approx([s * ratio for s in PRESETS["dog"].size])
    assert custom.size == (3, 3, 3)
    bus, dog, custom = harmonise(document, include_edited=True).objects
    assert max(bus.size) == pytest.approx(3.97) and bus.position[2] == 1
    assert dog.size == pytest.approx([s * ratio * 3.97 / PRESETS["bus"].size[1] for s in PRESETS["dog"].size])
    assert harmonise(document).objects[1].size == (1, 1, 1), "a size made by hand is left alone"


def test_the_schema_file_is_the_schema():
    assert FILE.read_text(encoding="utf-8") == schema_text()
    assert json_schema()["properties"]["objects"]["maxItems"] == 128


def mutations(seed: int, canary: str):
    """Broken JSON: cut, spliced and with values of other kinds put in; endless, from one seed.

    Some values would write the file `canary`, if anything in them were run.
    """
    draw = random.Random(seed)
    wrong = [None, True, -1, 1e308, "x", "x" * 5000, [], {}, [[]], float("inf"), {"a": {"b": []}}]
    wrong += [f"__import__('os').mkdir({canary!r})", {"__reduce__": ["os.mkdir", [canary]]}, f"$(touch {canary})"]
    sources = [document_to_text(load_example(name)) for name in EXAMPLES]
    while True:
        text = draw.choice(sources)
        kind = draw.randrange(3)
        if kind == 0:
            yield text[: draw.randrange(1, len(text))]
        elif kind == 1:
            at = draw.randrange(len(text))
            yield text[:at] + draw.choice('{}[]",:\\\0é9') + text[at + draw.randrange(1, 9) :]
        else:
            value = json.loads(text)
            at = value
            for _ in range(draw.randrange(1, 4)):
                keys = list(at) if isinstance(at, dict) else list(range(len(at)))
                key = draw.choice(keys)
                if not isinstance(at[key], (dict, list)) or not at[key] or draw.random() < 0.4:
                    break
                at = at[key]
                key = draw.choice(list(at) if isinstance(at, dict) else list(range(len(at))))
            at[key] = draw.choice(wrong)
            yield value


def test_hostile_json_is_read_or_refused_with_a_sentence(tmp_path):
    canary = tmp_path / "canary"
    refused, source = 0, mutations(3, str(canary))
    for _ in range(500):
        value = next(source)
        try:
            document_to_text(parse_document(value))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 300
    assert refused >= 200 and not list(tmp_path.iterdir())
