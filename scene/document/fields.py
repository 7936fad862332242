"""The kinds of values a scene document holds: how each is read, written and described in the JSON Schema.

A document class is a frozen dataclass whose fields are made with `entry(kind, default)`. One description thus serves
the reader (which collects every problem instead of stopping at the first), the writer (which leaves out what is at its
default) and the schema file.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from .problems import Fix, Problem

MISSING = object()
AXES = {"position": ("x", "y", "z"), "size": ("width", "depth", "height")}


@dataclass
class Reader:
    """Collects the problems of one reading; `subject` is whom the current sentence is about."""

    problems: list[Problem]
    subject: str = "The scene"

    def add(self, code: str, pointer: str, text: str, fix: Fix | None = None) -> None:
        self.problems.append(Problem(code, pointer, text, fix))


def entry(kind: Kind, default: Any = None, required: bool = False, label: str | None = None):
    """A dataclass field of a document: its kind, default, whether it is always written, and its name in sentences."""
    metadata = {"kind": kind, "required": required, "label": label}
    if isinstance(default, type) or callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def extra():
    """The dataclass field that keeps unknown keys."""
    return field(default_factory=dict, metadata={"extra": True})


class Kind(ABC):
    """How one value is read from JSON, written to JSON, and described."""

    @abstractmethod
    def read(self, value: Any, reader: Reader, pointer: str, label: str, default: Any) -> Any:
        """The value for a field from its JSON; tells the reader what is wrong with it."""

    def write(self, value: Any) -> Any:
        return value

    @abstractmethod
    def schema(self) -> dict:
        """JSON schema of the value."""


@dataclass(frozen=True)
class Number(Kind):
    """A number within hard limits; `whole` admits integers alone, `above` excludes the lower limit."""

    low: float
    high: float
    whole: bool = False
    above: bool = False
    wrap: bool = False  # an angle: the lower limit means the upper one

    def read(self, value, reader, pointer, label, default):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            reader.add("E110", pointer, f"{reader.subject}: {label} is not a number.", _reset(label, default))
            return default
        if self.wrap and value == self.low:
            return self.high
        outside = not self.low <= value <= self.high or (self.above and value == self.low)
        if outside:
            low = f"above {self.low:g} and at most" if self.above else f"between {self.low:g} and"
            clamped = min(max(value, self.low), self.high)
            if self.above and clamped == self.low:
                clamped = default if isinstance(default, (int, float)) else self.high
            elif self.wrap:
                clamped = wrap_degrees(value)
            text = f"{reader.subject}: {label} must be {low} {self.high:.16g}."
            reader.add("E111", pointer, text, Fix("Wrap" if self.wrap else "Clamp", clamped))
            return default
        if self.whole and value != int(value):
            fix = Fix(f"Round to {round(value)}", round(value))
            reader.add("E111", pointer, f"{reader.subject}: {label} must be a whole number.", fix)
            return default
        return int(value) if self.whole else float(value)

    def schema(self):
        low = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "integer" if self.whole else "number", low: self.low, "maximum": self.high}


@dataclass(frozen=True)
class Text(Kind):
    """Text of at most `limit` characters, trimmed where asked; `least` forbids the empty one."""

    limit: int
    trim: bool = False
    least: int = 0
    pattern: str | None = None  # for the schema alone

    def read(self, value, reader, pointer, label, default):
        if not isinstance(value, str):
            reader.add("E115", pointer, f"{reader.subject}: {label} must be text.", Fix("Reset", default))
            return default
        value = value.encode("utf-8", "replace").decode("utf-8") if not value.isascii() else value
        value = value.strip() if self.trim else value
        if len(value) > self.limit:
            text = f"{reader.subject}: {label} has {len(value)} characters; at most {self.limit} fit."
            reader.add("E111", pointer, text, Fix("Shorten", value[: self.limit]))
            return default
        if len(value) < self.least:
            reader.add("E111", pointer, f"{reader.subject}: {label} is empty.", None)
            return default
        return value

    def schema(self):
        found = {"type": "string", "maxLength": self.limit}
        return found | ({"minLength": self.least} if self.least else {}) | (
            {"pattern": self.pattern} if self.pattern else {}
        )  # fmt: skip


@dataclass(frozen=True)
class Ident(Kind):
    """An id of 1 to `limit` characters; what is none is mended, not refused."""

    limit: int = 64

    def read(self, value, reader, pointer, label, default):
        if isinstance(value, str) and 0 < len(value) <= self.limit:
            return value.encode("utf-8", "replace").decode("utf-8")
        reader.add("W191", pointer, f"{reader.subject}: the id was missing or unusable; it was given one.")
        return default

    def schema(self):
        return {"type": "string", "minLength": 1, "maxLength": self.limit}


@dataclass(frozen=True)
class Flag(Kind):
    """true or false."""

    def read(self, value, reader, pointer, label, default):
        if not isinstance(value, bool):
            reader.add("E115", pointer, f"{reader.subject}: {label} must be true or false.", Fix("Reset", default))
            return default
        return value

    def schema(self):
        return {"type": "boolean"}


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, value, reader, pointer, label, default):
        if value not in self.options:
            words = ", ".join(self.options)
            reader.add("E115", pointer, f"{reader.subject}: {label} must be one of {words}.", Fix("Reset", default))
            return default
        return value

    def schema(self):
        return {"enum": list(self.options)}


@dataclass(frozen=True)
class Many(Kind):
    """A list of `least` to `most` values of one kind; as a tuple in Python."""

    item: Kind
    least: int
    most: int
    code: str = "E115"  # of a wrong number of items
    names: tuple[str, ...] = ()  # what the items are called; else the label
    distinct: bool = False

    def read(self, value, reader, pointer, label, default):
        if not isinstance(value, (list, tuple)):
            what = f"a list of {self.least} numbers" if self.least == self.most else "a list"
            code = "E110" if self.least == self.most else "E115"
            reader.add(code, pointer, f"{reader.subject}: {label} must be {what}.", _reset(label, default))
            return default
        if not self.least <= len(value) <= self.most:
            many = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            text = f"{reader.subject}: {label} has {len(value)} entries; there must be {many}."
            if len(value) > self.most and self.code == "E112":
                text = f"At most {self.most} {label}."
            reader.add(self.code, pointer, text, None)
            return default
        found = []
        for i, one in enumerate(value):
            name = self.names[i] if i < len(self.names) else label
            old = default[i] if isinstance(default, tuple) and len(default) == len(value) else None
            found.append(self.item.read(one, reader, f"{pointer}/{i}", name, old))
        return tuple(dict.fromkeys(found)) if self.distinct else tuple(found)

    def write(self, value):
        return [self.item.write(one) for one in value]

    def schema(self):
        found = {"type": "array", "items": self.item.schema(), "minItems": self.least, "maxItems": self.most}
        return found | ({"uniqueItems": True} if self.distinct else {})


def vector(count: int, low: float, high: float, names: tuple[str, ...] = ()) -> Many:
    """`count` numbers within the same limits."""
    return Many(Number(low, high), count, count, names=names)


@dataclass(frozen=True)
class Maybe(Kind):
    """A value or null."""

    inner: Kind

    def read(self, value, reader, pointer, label, default):
        return None if value is None else self.inner.read(value, reader, pointer, label, default)

    def write(self, value):
        return None if value is None else self.inner.write(value)

    def schema(self):
        inner = self.inner.schema()
        return {"anyOf": [inner, {"type": "null"}]}


@dataclass(frozen=True)
class Anything(Kind):
    """A JSON object that is kept as it is."""

    def read(self, value, reader, pointer, label, default):
        if not isinstance(value, dict):
            reader.add("E115", pointer, f"{reader.subject}: {label} must be an object.", Fix("Reset", {}))
            return {}
        return value

    def write(self, value):
        return value

    def schema(self):
        return {"type": "object"}


@dataclass(frozen=True)
class Part(Kind):
    """A document class of its own."""

    cls: type

    def read(self, value, reader, pointer, label, default):
        return read_part(self.cls, value, reader, pointer, label)

    def write(self, value):
        return write_part(value)

    def schema(self):
        return part_schema(self.cls)


def read_part(cls: type, value: Any, reader: Reader, pointer: str, label: str) -> Any:
    """One document class from a JSON object; what is missing takes its default, unknown keys are kept."""
    if not isinstance(value, dict):
        reader.add("E115", pointer, f"{reader.subject}: {label} must be an object.", None)
        return cls()
    outer = reader.subject
    namer = getattr(cls, "subject", None)
    if namer is not None:
        reader.subject = namer(value, pointer)
    known, found = set(), {}
    for spec in dataclasses.fields(cls):
        if spec.metadata.get("extra"):
            continue
        known.add(spec.name)
        if spec.name in value:
            default = _default(spec)
            words = spec.metadata["label"] or spec.name.replace("_", " ")
            found[spec.name] = spec.metadata["kind"].read(
                value[spec.name], reader, f"{pointer}/{spec.name}", words, default
            )
    unknown = {key: value[key] for key in value if key not in known}
    for key in unknown:
        reader.add("W190", f"{pointer}/{_escape(key)}", f"{reader.subject}: ‘{key[:40]}’ is unknown here and was kept.")
    reader.subject = outer
    if any(spec.metadata.get("extra") for spec in dataclasses.fields(cls)):
        found["extra"] = unknown
    return cls(**found)


def write_part(part: Any) -> dict:
    """The JSON object of a document class: required keys always, others where they differ from their default."""
    found = {}
    for spec in dataclasses.fields(part):
        if spec.metadata.get("extra"):
            continue
        value = getattr(part, spec.name)
        if spec.metadata["required"] or value != _default(spec):
            written = spec.metadata["kind"].write(value)
            found[spec.name] = Exact(written) if isinstance(spec.metadata["kind"], Anything) else written
    unknown = getattr(part, "extra", None) or {}
    return found | {key: Exact(unknown[key]) for key in sorted(unknown)}


@dataclass(frozen=True)
class Exact:
    """Marks foreign data, whose numbers are not rounded."""

    value: Any


def part_schema(cls: type) -> dict:
    """The JSON Schema (draft 2020-12) of a document class."""
    properties, required = {}, []
    for spec in dataclasses.fields(cls):
        if spec.metadata.get("extra"):
            continue
        found = spec.metadata["kind"].schema()
        default = _default(spec)
        if not dataclasses.is_dataclass(default) and default is not None and not isinstance(default, dict):
            written = spec.metadata["kind"].write(default)
            if not (isinstance(written, list) and any(isinstance(x, dict) for x in written)):
                found = {**found, "default": written}
        properties[spec.name] = found
        if spec.metadata["required"] == "always":
            required.append(spec.name)
    description = (cls.__doc__ or "").strip().split("\n")[0]
    return {"type": "object", "description": description, "properties": properties} | (
        {"required": required} if required else {}
    )


def wrap_degrees(angle: float) -> float:
    """The same direction in (-180, 180]."""
    turned = angle % 360.0
    return turned - 360.0 if turned > 180.0 else turned


def _default(spec: dataclasses.Field) -> Any:
    return spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()


def _reset(label: str, default: Any) -> Fix | None:
    return None if default is None else Fix(f"Reset {label}", list(default) if isinstance(default, tuple) else default)


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
