"""Shape encoder, and the way back along its subdivisions."""

import torch
from pixal3d_parity import FLOAT, network

from sightline.kernels.sparse_resample import channel_to_space

SYSTEM, KIND = "pixal3d", "shape_encoder"


@torch.no_grad()
def test_posterior(fixture, ledger):
    t = fixture.tensors()
    coords = t["in.coords"]
    out = network(fixture, t).encode(coords, t["in.vertices"], t["in.intersected"], int(coords[:, 0].max()) + 1)
    ledger.exact("shape_encoder.coords", out.mean.coords, t["out.coords"])
    ledger.close("shape_encoder.mean", out.mean.feats, t["out.mean"], **FLOAT)
    ledger.close("shape_encoder.logvar", out.logvar, t["out.logvar"], **FLOAT)
    x = out.mean
    for plan in out.subdivisions:
        x = channel_to_space(x.replace(torch.zeros(len(x), 8)), plan)
    ledger.exact("shape_encoder.subdivisions", x.coords, coords)
