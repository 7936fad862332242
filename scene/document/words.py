"""The prompt of a scene: its text, and where each object's description stands in it.

Source: SeeThrough3D's prompt, spec section 5: "a photo of " + " and ".join(descriptions) + " " + background.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import Document
from .problems import Fix, Problem, SceneError


@dataclass(frozen=True)
class PromptParts:
    """The whole prompt and its parts; `spans` are (first, past the last) characters of each subject in `text`."""

    text: str
    subjects: tuple[str, ...]
    object_ids: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    prefix: str
    joiner: str
    background: str
    suffix: str


def prompt_parts(document: Document) -> PromptParts:
    """The prompt of a document: one subject for each of `document.prompt_objects`, in order.

    As in the reference a trailing space remains where the background is empty; a suffix follows after one space.
    """
    words = document.prompt
    subjects = tuple(one.prompt for one in document.prompt_objects)
    text, spans = words.prefix, []
    for i, subject in enumerate(subjects):
        text += words.joiner if i else ""
        spans.append((len(text), len(text) + len(subject)))
        text += subject
    text += (" " if subjects else "") + words.background + (f" {words.suffix}" if words.suffix else "")
    ids = tuple(one.id for one in document.prompt_objects)
    return PromptParts(text, subjects, ids, tuple(spans), words.prefix, words.joiner, words.background, words.suffix)


def run_problems(document: Document) -> list[Problem]:
    """What keeps a scene from being run: E120 nothing visible, E121 an object without words, E122 an odd size."""
    found = []
    if not document.picture_objects:
        found.append(Problem("E120", "/objects", "The scene has no visible object. Add one with ＋."))
    for i, one in enumerate(document.objects):
        if one.in_picture and one.use.prompt and not one.prompt:
            fix = Fix(f"Use ‘{one.preset}’", one.preset) if one.preset else None
            name = one.name or one.preset or f"Object {i + 1}"
            found.append(Problem("E121", f"/objects/{i}/prompt", f"‘{name}’ has no description.", fix))
    found += size_problems(document)
    return found


def size_problems(document: Document) -> list[Problem]:
    """E122 where the picture's sides are not multiples of 16."""
    width, height = document.output.size
    if width % 16 == 0 and height % 16 == 0:
        return []
    fixed = [max(256, round(v / 16) * 16) for v in (width, height)]
    fix = Fix(f"Round to {fixed[0]}×{fixed[1]}", fixed)
    return [Problem("E122", "/output/size", "Picture size must be a multiple of 16.", fix)]


def check_runnable(document: Document) -> None:
    """Raise SceneError with all of `run_problems`, if there are any."""
    found = run_problems(document)
    if found:
        raise SceneError(found)
