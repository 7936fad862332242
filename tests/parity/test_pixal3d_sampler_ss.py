"""Whole trajectories of the dense sampler: guidance interval, guidance rescale with the unbiased deviation."""

import pytest
import torch
from pixal3d_parity import TRAJECTORY, make, weights

from sightline.models.trellis2.conditions import negative
from sightline.models.trellis2.samplers import SamplerSettings, dense_velocity, sample_flow

SYSTEM, KIND = "pixal3d", "sampler_ss"


@pytest.mark.parametrize("batched", [False, True], ids=["sequential", "batched"])
def test_trajectory(fixture, ledger, batched):
    t, meta = fixture.tensors(), fixture.meta
    model = make("SparseStructureFlowModel", meta["model"], weights(t))
    settings = SamplerSettings.from_dict(meta["params"], sigma_min=meta["sigma_min"])
    velocity, pair = dense_velocity(model)
    states, estimates = [], []

    def record(done, steps, x_t, x_0):
        assert (done, steps) == (len(states) + 1, settings.steps)
        states.append(x_t)
        estimates.append(x_0)

    cond = t["in.cond"]
    out = sample_flow(
        velocity, t["in.noise"], cond, negative(cond), settings, pair=pair if batched else None, callback=record
    )
    name = "sampler.dense" + (".batched" if batched else "")
    ledger.close(name, out, t["out.samples"], **TRAJECTORY)
    ledger.close(name + ".states", torch.stack(states), t["out.pred_x_t"], **TRAJECTORY)
    ledger.close(name + ".estimates", torch.stack(estimates), t["out.pred_x_0"], **TRAJECTORY)
