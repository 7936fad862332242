"""Occupancy encoder."""

import torch
from pixal3d_parity import FLOAT, network

SYSTEM, KIND = "pixal3d", "ss_vae_encoder"


@torch.no_grad()
def test_posterior(fixture, ledger):
    t = fixture.tensors()
    mean, logvar = network(fixture, t)(t["in.occ"])
    ledger.close("ss_vae.encoder", mean, t["out.mean"], **FLOAT)
    ledger.close("ss_vae.encoder", logvar, t["out.logvar"], **FLOAT)
