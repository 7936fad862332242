"""Whole trajectories of the sparse sampler: guidance rescale with the reference's biased deviation per item."""

import pytest
import torch
from pixal3d_parity import TRAJECTORY, make, sparse, weights

from sightline.models.trellis2.conditions import negative
from sightline.models.trellis2.samplers import SamplerSettings, sample_flow, sparse_std, sparse_velocity

SYSTEM, KIND = "pixal3d", "sampler_slat"


@pytest.mark.parametrize("batched", [False, True], ids=["sequential", "batched"])
def test_trajectory(fixture, ledger, batched):
    t, meta = fixture.tensors(), fixture.meta
    model = make("SLatFlowModel", meta["model"], weights(t))
    settings = SamplerSettings.from_dict(meta["params"], sigma_min=meta["sigma_min"])
    voxels = sparse(t["in.noise"], t["in.coords"])
    velocity, pair = sparse_velocity(model, voxels)
    states, cond = [], t["in.cond"]
    out = sample_flow(
        velocity,
        voxels.feats,
        cond,
        negative(cond),
        settings,
        std=sparse_std(voxels.layout),
        pair=pair if batched else None,
        callback=lambda done, steps, x_t, x_0: states.append(x_t),
    )
    name = "sampler.sparse" + (".batched" if batched else "")
    ledger.close(name, out, t["out.samples"], **TRAJECTORY)
    ledger.close(name + ".states", torch.stack(states), t["out.pred_x_t"], **TRAJECTORY)
