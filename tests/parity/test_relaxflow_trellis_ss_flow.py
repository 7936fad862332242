"""The structure flow of TRELLIS (v1)."""

import torch
from relaxflow_parity import MODULE, filled

from sightline.models.trellis1.structure_flow import PatchedStructureFlow

SYSTEM, KIND = "relaxflow", "trellis_ss_flow"


@torch.no_grad()
def test_velocity(fixture, ledger):
    t = fixture.tensors()
    model = filled(lambda: PatchedStructureFlow.from_args(fixture.meta["args"]), t)
    ledger.close("trellis.ss_flow", model(t["x"], t["t"], t["cond"]), t["out"], **MODULE)
