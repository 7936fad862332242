"""Reading a scene document from JSON and writing it: the same scene always gives the same bytes.

Canonical text: UTF-8, no whitespace, keys in the order of the tables, unknown keys after them by code point, what is
at its default left out (required keys stay), numbers rounded to 1e-6 (halves away from zero) without trailing zeros or
exponent. Foreign data (`ext`, `gen.options`, unknown keys) keeps its numbers in JavaScript's shortest form.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from .fields import Exact, Reader, read_part, write_part
from .migrate import migrate
from .model import FORMAT, MAX_TEXT, VERSION, Document, Free, Orbit, SceneCamera
from .presets import PRESETS
from .problems import Problem, SceneError, refuse

MAX_DEPTH = 32
_STEP = Decimal("0.000001")


def parse_document(source: str | bytes | dict) -> Document:
    """A document from JSON text or from what JSON text was read into.

    Older versions and the two legacy forms are migrated. Raises SceneError (an InputError) with all errors found.
    """
    return read_document(source)[0]


def read_document(source: str | bytes | dict) -> tuple[Document, list[Problem]]:
    """The same, with the warnings of reading (W190 to W195): repaired ids, unknown keys, unknown presets."""
    value = load_json(source)
    if "format" in value and value["format"] != FORMAT:
        raise refuse("E100", "/format", "This is not a Sightline scene.")
    version = value.get("version", VERSION)
    if FORMAT == value.get("format") and _is_number(version) and version > VERSION:
        text = f"This scene was made with a newer Sightline (version {version:g}). Update the pack to edit it."
        raise refuse("E101", "/version", text)
    value, notes = migrate(value)
    reader = Reader([])
    document = read_part(Document, value, reader, "", "it")
    document = _repair(document, reader)
    _check_files(document, reader)
    errors = [problem for problem in reader.problems if problem.is_error]
    if errors:
        raise SceneError(errors)
    for note in notes:
        document = document.with_note(note)
    return document, reader.problems


def document_to_json(document: Document) -> dict:
    """The document as plain JSON values, defaults left out, numbers rounded to 1e-6."""
    return json.loads(document_to_text(document))


def document_to_text(document: Document) -> str:
    """The canonical text; raises SceneError where it would be larger than 256 kB."""
    text = _encode(write_part(document), exact=False)
    size = len(text.encode("utf-8"))
    if size > MAX_TEXT:
        raise _too_large(size)
    return text


def new_document(**changes: Any) -> Document:
    """An empty scene with the default camera and a new id."""
    return Document(**{"id": str(uuid.uuid4()), **changes})


def fingerprint(document: Document) -> str:
    """A hash of what matters for results: without id, title, revision, origin, colors, locks, names and groups."""
    objects = tuple(dataclasses.replace(o, color=None, locked=False, group=None, name="") for o in document.objects)
    cameras = tuple(dataclasses.replace(c, locked=False, name="Camera") for c in document.cameras)
    blank = Document()
    plain = document.replace(
        id="", rev=0, title="", generator="", groups=(), objects=objects, cameras=cameras, provenance=blank.provenance
    )
    return hashlib.sha256(_encode(write_part(plain), exact=False).encode("utf-8")).hexdigest()


def load_json(source: str | bytes | dict) -> dict:
    """The JSON object in a text, with limits on size and depth; raises SceneError E100 or E102."""
    if isinstance(source, (str, bytes, bytearray)):
        size = len(source.encode("utf-8", "replace") if isinstance(source, str) else source)
        if size > MAX_TEXT:
            raise _too_large(size)
        try:
            text = source if isinstance(source, str) else bytes(source).decode("utf-8")
            value = json.loads(text.removeprefix("\ufeff"), parse_constant=_no_constant, parse_int=_integer)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise refuse("E100", "", f"This is not a Sightline scene: {where} is not JSON.") from None
        except (ValueError, RecursionError):
            raise refuse("E100", "", "This is not a Sightline scene: it is not JSON text.") from None
    else:
        value = source
    if not isinstance(value, dict):
        raise refuse("E100", "", "This is not a Sightline scene: a scene is an object in braces.")
    if _depth(value) > MAX_DEPTH:
        raise refuse("E100", "", f"This is not a Sightline scene: it is nested deeper than {MAX_DEPTH} levels.")
    return value


def number_text(value: float) -> str:
    """A number rounded to 1e-6, halves away from zero, without trailing zeros or exponent."""
    if isinstance(value, int) or value == int(value):
        return str(int(value))
    text = format(Decimal(value).quantize(_STEP, ROUND_HALF_UP), "f").rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _encode(value: Any, exact: bool) -> str:
    if isinstance(value, Exact):
        return _encode(value.value, exact=True)
    if isinstance(value, dict):
        keys = sorted(value) if exact else value
        return "{" + ",".join(f"{_quote(k)}:{_encode(value[k], exact)}" for k in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_encode(one, exact) for one in value) + "]"
    if isinstance(value, str):
        return _quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _shortest(value) if exact else number_text(value)


def _quote(text: str) -> str:
    return json.dumps(text.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False)


def _shortest(value: float) -> str:
    """The shortest text that reads back as the same double, in JavaScript's notation."""
    if not math.isfinite(value):
        return "null"
    value = float(value)
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    point = len(digits) + exponent  # where the decimal point stands in the digits
    if -7 < point <= 21:
        return format(Decimal(repr(value)), "f")
    mantissa = "".join(map(str, digits))
    mantissa = mantissa[0] + ("." + mantissa[1:] if len(mantissa) > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{point - 1:+d}"


def _repair(document: Document, reader: Reader) -> Document:
    """Mend ids, the active camera, the quaternion's length and unknown presets; each is a warning."""
    changes: dict[str, Any] = {}
    if not document.id:
        changes["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, _encode(write_part(document), exact=False)))
    for name in ("cameras", "objects", "groups"):
        changes[name] = _distinct_ids(getattr(document, name), name, reader)
    objects = list(changes["objects"])
    for i, one in enumerate(objects):
        if one.preset is not None and one.preset not in PRESETS:
            text = f"‘{one.label}’: the preset ‘{one.preset}’ is unknown; its size was kept."
            reader.add("W193", f"/objects/{i}/preset", text)
    changes["cameras"] = tuple(_complete(camera) for camera in changes["cameras"])
    known = [camera.id for camera in changes["cameras"]]
    if document.active_camera not in known:
        reader.add("W192", "/active_camera", "The active camera is missing; the first one is used.")
        changes["active_camera"] = known[0]
    return document.replace(**changes)


def _complete(camera: SceneCamera) -> SceneCamera:
    """The camera with the block of its mode, and a quaternion of length one."""
    if camera.mode == "orbit" and camera.orbit is None:
        camera = dataclasses.replace(camera, orbit=Orbit())
    if camera.mode == "free" and camera.free is None:
        camera = dataclasses.replace(camera, free=Free())
    if camera.free is not None:
        length = math.sqrt(sum(x * x for x in camera.free.rotation))
        if length < 1e-6:
            rotation = Free().rotation
        elif abs(length - 1) > 2e-6:  # rounding to 1e-6 must not make it drift at every save
            rotation = tuple(x / length for x in camera.free.rotation)
        else:
            rotation = camera.free.rotation
        camera = dataclasses.replace(camera, free=dataclasses.replace(camera.free, rotation=rotation))
    return camera


def _distinct_ids(parts: tuple, name: str, reader: Reader) -> tuple:
    seen: set[str] = set()
    found = []
    for i, part in enumerate(parts):
        new = part.id
        for n in range(2, 10_000):
            if new not in seen:
                break
            new = f"{part.id[:58]}-{n}"
        if new != part.id:
            reader.add("W191", f"/{name}/{i}/id", f"Two {name} had the id ‘{part.id}’; one is now ‘{new}’.")
        seen.add(new)
        found.append(part if new == part.id else dataclasses.replace(part, id=new))
    return tuple(found)


def _check_files(document: Document, reader: Reader) -> None:
    """Linked files stay in the host's folders: no absolute path, no drive, no address, no way up."""
    for i, camera in enumerate(document.cameras):
        for key in ("image", "mask", "depth"):
            _check_file(getattr(camera, key), f"/cameras/{i}/{key}", reader)
    for i, one in enumerate(document.objects):
        for key in ("image", "mask", "amodal_mask"):
            _check_file(getattr(one, key), f"/objects/{i}/{key}", reader)
        if one.asset is not None:
            _check_file(one.asset.file, f"/objects/{i}/asset/file", reader)


def _check_file(ref, pointer: str, reader: Reader) -> None:
    if ref is None:
        return
    parts = [*ref.subfolder.replace("\\", "/").split("/"), *ref.name.replace("\\", "/").split("/")]
    rooted = ref.name[:1] in "/\\" or ref.subfolder[:1] in ("/", "\\")
    if rooted or ".." in parts or ":" in ref.name + ref.subfolder or "\0" in ref.name + ref.subfolder:
        reader.add("E130", pointer, "The linked file is outside ComfyUI's folders.", None)


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        one, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            break
        if isinstance(one, dict):
            stack += [(x, depth + 1) for x in one.values() if isinstance(x, (dict, list))]
        elif isinstance(one, list):
            stack += [(x, depth + 1) for x in one if isinstance(x, (dict, list))]
    return deepest


def _too_large(size: int) -> SceneError:
    text = f"The scene text is too large ({size // 1024} kB). Pictures must be linked, not pasted."
    return refuse("E102", "", text)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= 17 else float(text)  # as a browser reads it; no endless integers


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")
