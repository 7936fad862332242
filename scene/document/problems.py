"""What can be wrong with a scene document, each with a code, a place, a sentence, and where possible a fix.

Codes beginning with E are errors: the document cannot be used (or not be run) as it is. W are warnings: it can. The
table is in docs/layout-scene.md; the editor in the browser produces the same codes for the same documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class Fix:
    """One click that mends a problem: a label, and the value to put at the problem's pointer."""

    label: str
    value: Any


@dataclass(frozen=True)
class Problem:
    """One finding: code ("E111"), JSON pointer ("/objects/2/size/0"), a sentence for artists, and perhaps a fix."""

    code: str
    pointer: str
    text: str
    fix: Fix | None = None

    @property
    def is_error(self) -> bool:
        return self.code.startswith("E")

    def to_json(self) -> dict:
        """The same as the editor receives it: {code, pointer, text, fix: {label, value} or null}."""
        fix = None if self.fix is None else {"label": self.fix.label, "value": self.fix.value}
        return {"code": self.code, "pointer": self.pointer, "text": self.text, "fix": fix}


class SceneError(InputError):
    """A scene document that cannot be used; the message is the first error's sentence, `problems` holds all."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        more = len(self.problems) - 1
        others = "" if not more else f" (and {more} more problem{'s' if more > 1 else ''})"
        text = first.text.rstrip(".") if others else first.text
        super().__init__(f"{text}{others}{'.' if others else ''}")
        self.code = first.code


def refuse(code: str, pointer: str, text: str, fix: Fix | None = None) -> SceneError:
    """The error with one problem, to be raised."""
    return SceneError([Problem(code, pointer, text, fix)])
