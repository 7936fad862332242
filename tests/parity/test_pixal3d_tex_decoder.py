"""Texture decoder, guided by the shape decoder's subdivisions."""

import torch
from pixal3d_parity import FLOAT, network, sparse

from sightline.models.trellis2.sc_vae import texture_head

SYSTEM, KIND = "pixal3d", "tex_decoder"


@torch.no_grad()
def test_attributes(fixture, ledger):
    t = fixture.tensors()
    model = network(fixture, t)
    z = sparse(t["in.feats"], t["in.coords"])
    guide, voxels = [], z
    for level in range(len(model.blocks) - 1):
        guide.append(voxels.replace(t[f"in.subs{level}_logits"]))
        voxels = _children(model, z, guide)
    out = model(z, guide)
    ledger.exact("tex_decoder.coords", out.voxels.coords, t["out.coords"])
    ledger.close("tex_decoder.attributes", texture_head(out.voxels.feats), t["out.attrs"], **FLOAT)


def _children(model, z, guide):
    coords = model.upsample(z, len(guide), guide)
    return sparse(torch.zeros(len(coords), 0), coords)
