"""The same fixtures as `token_spans`, through the tokenizer of core's CLIP object."""

SYSTEM, KIND, SUFFIX = "seethrough3d", "token_spans", ".json"


def test_core(fixture, ledger, core_flux):
    cases = fixture.json()
    for case, found in zip(cases, core_flux.ask("spans", path=str(fixture.path))["cases"], strict=True):
        ledger.exact("spans.core.tokens", found["ids"], case["prompt_token_ids"][:-1])
        ledger.exact("spans.core.as_released", found["released"], case["reference_call_ids"])
        if case["agree"]:
            ledger.exact("spans.core", found["spans"], case["reference_call_ids"])
