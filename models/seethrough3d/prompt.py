"""The prompt of a layout, and which T5 tokens belong to which object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...scene.document.words import PromptParts
from ...scene.errors import InputError

PREFIX, JOINER = "a photo of ", " and "
TEXT_TOKENS = 512  # the length of FLUX's T5 sequence; its padding is attended, so it is part of the model
Encode = Callable[[str], list[int]]  # text -> token ids without any special token


def plain_parts(subjects: Sequence[str], background: str = "", prefix: str = PREFIX) -> PromptParts:
    """The prompt of objects without a scene document: "a photo of A and B background"."""
    text, spans = prefix, []
    for index, subject in enumerate(subjects):
        text += JOINER if index else ""
        spans.append((len(text), len(text) + len(subject)))
        text += subject
    ids = tuple(str(index + 1) for index in range(len(subjects)))
    return PromptParts(f"{text} {background}", tuple(subjects), ids, tuple(spans), prefix, JOINER, background, "")


def parts_from_lines(lines: str, background: str = "") -> PromptParts:
    """Descriptions from text, one a line; empty lines are left out."""
    return plain_parts([line.strip() for line in lines.splitlines() if line.strip()], " ".join(background.split()))


def check_parts(parts: PromptParts) -> None:
    """Raise InputError where there is no object, or one without a description."""
    if not parts.subjects:
        raise InputError("The layout has no objects; add one with a description.")
    empty = [str(index + 1) for index, subject in enumerate(parts.subjects) if not subject.strip()]
    if empty:
        raise InputError(f"Object {', '.join(empty)} has no description; say what it is in a few words.")


def token_spans(encode: Encode, parts: PromptParts, limit: int = TEXT_TOKENS) -> list[list[int]]:
    """Positions of each subject's tokens among those of the whole prompt: one list per subject.

    Walks over the tokens of the prefix, then of each subject and each joiner; where a subject is tokenized otherwise in
    its context than alone, the longest common beginning decides. limit: tokens that fit, end token included. Raises
    InputError for a prompt that is longer, and for objects without words.
    Source: `get_call_ids_from_placeholder_prompt_flux` of the official code (spec section 5), whose result this is
    wherever that one does not bleed into its neighbours.
    """
    check_parts(parts)
    tokens = list(encode(parts.text))
    if len(tokens) + 1 > limit:
        raise InputError(
            f"The prompt has {len(tokens) + 1} T5 tokens and FLUX reads {limit}; shorten the descriptions or the "
            "background."
        )
    spans, position = [], len(encode(parts.prefix.rstrip()))
    joiner = len(encode(parts.joiner.strip())) if len(parts.subjects) > 1 else 0
    for subject, (first, end) in zip(parts.subjects, parts.spans):
        own = list(encode(subject))
        if tokens[position : position + len(own)] != own:
            position = _common(tokens, encode(parts.text[:first].rstrip()))
            own = tokens[position : _common(tokens, encode(parts.text[:end]))]
        spans.append(list(range(position, position + len(own))))
        position += len(own) + joiner
    missing = [subject for subject, span in zip(parts.subjects, spans) if not span]
    if missing:
        raise InputError(f"T5 has no tokens for the description {missing[0]!r}; write it in Latin letters.")
    return spans


def released_spans(encode: Encode, parts: PromptParts) -> list[list[int]]:
    """Positions as the official code counts them: beginnings in context, lengths of the subject alone.

    A description with a space at its end, or one that is tokenized otherwise in its context, bleeds into its
    neighbours. Its placeholders cost two tokens each, which it takes off again; what is left is this sum.
    """
    spans, position = [], len(encode(parts.prefix.rstrip()))
    for subject in parts.subjects:
        spans.append(list(range(position, position + len(encode(subject)))))
        position += len(encode(f"{subject}{parts.joiner.rstrip()}"))
    return spans


def _common(tokens: Sequence[int], beginning: Sequence[int]) -> int:
    """How many tokens at the start agree."""
    for index, (one, other) in enumerate(zip(tokens, beginning)):
        if one != other:
            return index
    return min(len(tokens), len(beginning))


def transformers_encode(tokenizer) -> Encode:
    """`Encode` from a T5 tokenizer of transformers."""

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return encode
