"""Shape decoder: raw rows, subdivisions, cascade upsampling and the meshes of its dual grid."""

import re

import torch
from pixal3d_parity import FLOAT, network, sparse

SYSTEM, KIND = "pixal3d", "shape_decoder"


@torch.no_grad()
def test_voxels_and_subdivisions(fixture, ledger):
    t = fixture.tensors()
    model = network(fixture, t)
    z = sparse(t["in.feats"], t["in.coords"])
    out = model(z)
    ledger.exact("shape_decoder.coords", out.voxels.coords, t["mid.coords"])
    ledger.close("shape_decoder.rows", out.voxels.feats, t["mid.raw7"], **FLOAT)
    for level, logits in enumerate(out.logits):
        ledger.exact("shape_decoder.subdivision_coords", logits.coords, t[f"out.subs{level}_coords"])
        ledger.close("shape_decoder.subdivision", logits.feats, t[f"out.subs{level}_logits"], **FLOAT)
    for name in t:
        if match := re.fullmatch(r"out\.upsample(\d+)_coords", name):
            ledger.exact("shape_decoder.upsample", model.upsample(z, int(match[1])), t[name])
