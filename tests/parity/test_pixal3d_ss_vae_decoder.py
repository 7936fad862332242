"""Occupancy decoder."""

import torch
from pixal3d_parity import FLOAT, network

from sightline.models.trellis2.sparse_structure_vae import occupied_coords

SYSTEM, KIND = "pixal3d", "ss_vae_decoder"


@torch.no_grad()
def test_logits(fixture, ledger):
    t = fixture.tensors()
    logits = network(fixture, t)(t["in.z"])
    ledger.close("ss_vae.decoder", logits, t["out.logits"], **FLOAT)
    expected = torch.argwhere(t["out.logits"][:, 0] > 0)
    ledger.exact("ss_vae.coords", occupied_coords(logits), expected)
