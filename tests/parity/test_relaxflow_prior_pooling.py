"""Pooling of the tokens of several priors, as both released pipelines do it."""

from relaxflow_parity import MODULE, numbered

from sightline.models.relaxflow.priors import pool_priors

SYSTEM, KIND = "relaxflow", "prior_pooling"


def test_every_mode(fixture, ledger):
    t, temperature = fixture.tensors(), fixture.meta["temperature"]
    tokens = numbered(t, "tokens")
    for key, expected in t.items():
        if key.startswith("tokens"):
            continue
        backbone, mode, boost = key.split(".", 2)
        options = dict(temperature=temperature, agreement_boost=float(boost.removeprefix("boost")))
        out = pool_priors(tokens, mode, aligned=backbone == "sam3d", **options)
        ledger.close(f"pooling.{backbone}.{mode}", out, expected, **MODULE)
