"""The key contract of the full-size networks, built on the meta device: names, shapes and dtypes."""

from sightline.models.trellis2.checkpoint import build_model

SYSTEM, KIND, SUFFIX = "pixal3d", "keys", ".json"


def test_names_shapes_dtypes(fixture, ledger):
    contract = fixture.json()
    model = build_model(contract["class"], contract["args"])
    found = {
        name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in model.state_dict().items()
    }
    ledger.exact("keys", found, contract["keys"])
    ledger.exact("keys.parameters", sum(p.numel() for p in model.parameters()), contract["n_params"])
