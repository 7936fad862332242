"""Which T5 tokens belong to which object; the tokenizer is the one ComfyUI brings, through transformers.

The same fixtures run through ComfyUI's own CLIP object in tests/comfy.
"""

import os

import pytest

from sightline.cli.headless import find_comfyui
from sightline.models.seethrough3d.prompt import plain_parts, released_spans, token_spans, transformers_encode

SYSTEM, KIND, SUFFIX = "seethrough3d", "token_spans", ".json"


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers", reason="T5's tokenizer needs transformers")
    tree = find_comfyui()
    folder = None if tree is None else os.path.join(tree.path, "comfy", "text_encoders", "t5_tokenizer")
    if folder is None or not os.path.isdir(folder):
        pytest.skip("T5's tokenizer comes with ComfyUI, and there is none here")
    return transformers.AutoTokenizer.from_pretrained(folder)


class Recorded:
    """Encodes by the fixture's own record: needs no tokenizer, but knows only the prompt and the subjects."""

    def __init__(self, case):
        known = [(case["prompt"], case["prompt_token_ids"])]
        known += zip(case["subjects"], (ids for ids in case["subject_token_ids"]))
        self.known = {text: ids[:-1] for text, ids in known}
        self.known |= {"a photo of": case["prompt_token_ids"][:4], "and": [11]}

    def __call__(self, text):
        return self.known[text]


def test_spans_of_the_recorded_tokens(fixture, ledger):
    for case in fixture.json():
        parts = plain_parts(case["subjects"], case["surrounding_prompt"])
        ledger.exact("spans.prompt", parts.text, case["prompt"])
        if case["agree"]:  # otherwise more than these tokens is needed to tell
            ledger.exact("spans", token_spans(Recorded(case), parts), case["reference_call_ids"])


def test_spans_through_transformers(fixture, ledger, tokenizer):
    encode = transformers_encode(tokenizer)
    for case in fixture.json():
        parts = plain_parts(case["subjects"], case["surrounding_prompt"])
        ledger.exact("spans.tokens", encode(parts.text), case["prompt_token_ids"][:-1])
        ledger.exact("spans.as_released", released_spans(encode, parts), case["reference_call_ids"])
        if case["agree"]:  # where the official code does not bleed into its neighbours
            ledger.exact("spans.transformers", token_spans(encode, parts), case["reference_call_ids"])
