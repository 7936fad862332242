"""The moving average of the weights, over its whole warm-up."""

import math

import torch

from sightline.training.sparsegen.ema import Ema

SYSTEM, KIND = "sparsegen", "ema"


def test_schedule(fixture, ledger):
    expected = fixture.tensors()["out.ema_value_after_step"]
    meta = fixture.meta
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema = Ema(model, decay=meta["beta"], update_every=meta["update_every"])
    values = []
    for i in range(len(expected)):
        with torch.no_grad():
            model.weight.fill_(math.sin(i / 20))
        ema.update(model)
        values.append(float(ema.model.weight))
    ledger.close("ema", torch.tensor(values), expected, atol=1e-6)
