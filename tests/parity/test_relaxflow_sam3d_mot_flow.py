"""The mixture-of-transformers flow, with and without a step size, and unconditional."""

import torch
from relaxflow_parity import MODULE
from sam3d_parity import close, latents, mot_flow

from sightline.models.trellis2.blocks import AttentionOptions

SYSTEM, KIND = "relaxflow", "sam3d_mot_flow"


@torch.no_grad()
def test_velocities(fixture, ledger):
    t = fixture.tensors()
    model, x = mot_flow(fixture.meta, t), latents(t, "x")
    runs = {
        "out_no_d": (t["cond"], None, None),
        "out_d0": (t["cond"], torch.zeros_like(t["d"]), None),
        "out_d40": (t["cond"], t["d"], None),
        "out_d0_cfgzero": (torch.zeros_like(t["cond"]), torch.zeros_like(t["d"]), None),
    }
    for name, (cond, d, options) in runs.items():
        close(ledger, "sam3d.mot_flow", model(x, t["t"], cond, options, d), latents(t, name), **MODULE)
    constant = model(x, t["t"], t["cond"], AttentionOptions(zero_context=True), torch.zeros_like(t["d"]))
    close(ledger, "sam3d.mot_flow.constant", constant, latents(t, "out_d0_cfgzero"), **MODULE)
