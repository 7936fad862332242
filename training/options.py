"""Recipes as YAML: named options in sections, each checked against the dataclass that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from ..scene.errors import InputError


def read_options(path: str | Path, configs: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The options of a file, or of the recipe of that name in `configs`; overrides are `section.option=value` in YAML.

    Raises InputError where there is no such file or recipe, and for what is no table of options.
    """
    path = Path(path)
    named = configs / f"{path.name.removesuffix('.yaml')}.yaml"
    if not path.is_file() and named.is_file():
        path = named
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in configs.glob("*.yaml")))
        raise InputError(f"`config` {path} is not a file; give a recipe file or one of {known}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"`config` {path} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise InputError(f"`config` {path} holds no options; see {configs.name}/{known_example(configs)}.")
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign:
            raise InputError(f"`set` is {override!r}; write section.option=value.")
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise InputError(f"`set` names {key!r}, but {parent!r} is no section.")
        place[last] = yaml.safe_load(text)
    return values


def known_example(configs: Path) -> str:
    """The name of a recipe that can be looked at."""
    return min(path.name for path in configs.glob("*.yaml"))


def check_names(where: str, kind: type, values: dict) -> None:
    """Raise InputError for an option that `kind` does not have."""
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise InputError(f"`{where}` has an option {key!r}; it knows {', '.join(known)}.")


def section(name: str, kind: type, values: Any):
    """A section's dataclass from plain values; raises InputError for what it does not know."""
    if not isinstance(values, dict):
        raise InputError(f"`{name}` is {values!r}; it must hold named options.")
    check_names(name, kind, values)
    defaults = {f.name: f.default for f in fields(kind)}
    missing = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING and f.name not in values]
    if missing:
        raise InputError(f"`{name}` lacks {', '.join(missing)}.")
    return kind(**{key: plain(name, key, value, defaults[key]) for key, value in values.items()})


def plain(where: str, key: str, value: Any, default: Any) -> Any:
    """Lists become tuples, and `1e-4`, which YAML reads as text, a number."""
    if isinstance(default, float) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise InputError(f"`{where}.{key}` is {value!r}; it must be a number.") from None
    return tuple(value) if isinstance(value, list) else value
