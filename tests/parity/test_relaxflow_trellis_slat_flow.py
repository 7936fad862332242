"""The latent flow of TRELLIS (v1): residual blocks, pooling, transformer."""

import torch
from relaxflow_parity import MODULE, filled, sparse

from sightline.models.trellis1.config import LatentFlowConfig
from sightline.models.trellis1.slat_flow import LatentFlow

SYSTEM, KIND = "relaxflow", "trellis_slat_flow"


@torch.no_grad()
def test_velocity(fixture, ledger):
    t = fixture.tensors()
    model = filled(lambda: LatentFlow(LatentFlowConfig.from_args(fixture.meta["args"])), t)
    out = model(sparse(t["feats"], t["coords"]), t["t"], t["cond"])
    ledger.close("trellis.slat_flow", out.feats, t["out"], **MODULE)
