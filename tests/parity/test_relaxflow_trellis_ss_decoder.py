"""The structure decoder: logits and the voxels they occupy."""

import torch
from relaxflow_parity import MODULE, filled

from sightline.models.trellis2.config import StructureVaeConfig
from sightline.models.trellis2.sparse_structure_vae import SparseStructureDecoder, occupied_coords

SYSTEM, KIND = "relaxflow", "trellis_ss_decoder"


@torch.no_grad()
def test_logits_and_voxels(fixture, ledger):
    t = fixture.tensors()
    model = filled(lambda: SparseStructureDecoder(StructureVaeConfig.from_args(fixture.meta["args"])), t)
    logits = model(t["z"])
    ledger.close("trellis.ss_decoder", logits, t["out"], **MODULE)
    ledger.exact("trellis.ss_decoder.voxels", occupied_coords(logits), t["coords"])
