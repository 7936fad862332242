"""What the encoders see of a picture, with and without a point map."""

import torch
from relaxflow_parity import MODULE

from sightline.models.sam3d.preprocess import prepare

SYSTEM, KIND = "relaxflow", "sam3d_preprocess"


def same(ledger, component, found, expected):
    """Unknown points in the same places, equal elsewhere."""
    ledger.exact(component + ".unknown", torch.isnan(found), torch.isnan(expected))
    ledger.close(component, torch.nan_to_num(found), torch.nan_to_num(expected), **MODULE)


def test_inputs(fixture, ledger):
    t = fixture.tensors()
    size = t["out.image"].shape[-1]
    runs = {
        "out": prepare(t["image"], t["mask"], t["pointmap"], size=size),
        "slat_out": prepare(t["image"], t["mask"], size=size),
        "prior_in_ss_out": prepare(t["image"], t["mask"], size=size, crop=False),
    }
    for name, prepared in runs.items():
        expected = {k.removeprefix(name + "."): v for k, v in t.items() if k.startswith(name + ".")}
        for key, value in expected.items():
            if key.endswith(("_scale", "_shift")):
                ledger.close("sam3d.moments", getattr(prepared, key[-5:]), value, **MODULE)
            else:
                same(ledger, "sam3d.prepare", prepared.inputs[key], value)
        assert set(prepared.inputs) == {key for key in expected if not key.endswith(("_scale", "_shift"))}
