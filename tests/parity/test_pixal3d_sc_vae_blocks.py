"""The blocks of the sparse autoencoders."""

import torch
from pixal3d_parity import FLOAT, sparse, weights

from sightline.kernels.sparse_resample import subdivide
from sightline.models.trellis2.sc_vae import DownBlock, SparseConv3d, SparseConvNeXtBlock, UpBlock

SYSTEM, KIND = "pixal3d", "sparse_conv_blocks"


@torch.no_grad()
def test_blocks(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    x = sparse(t["in.feats"], t["in.coords"])

    def load(name, block):
        block.load_state_dict(weights(t, f"state.{name}."))
        return block

    ledger.close("sc_vae.conv", load("conv", SparseConv3d(*meta["conv"][:2]))(x).feats, t["out.conv"], **FLOAT)
    convnext = load("convnext", SparseConvNeXtBlock(meta["convnext"]))
    ledger.close("sc_vae.convnext", convnext(x).feats, t["out.convnext"], **FLOAT)
    up = load("up", UpBlock(*meta["up"], pred_subdiv=True))
    logits = up.subdivision(x).feats
    ledger.close("sc_vae.subdivision", logits, t["out.up_subdiv_logits"], **FLOAT)
    fine = up(x, subdivide(x, logits > 0))
    ledger.exact("sc_vae.up_coords", fine.coords, t["out.up_coords"])
    ledger.close("sc_vae.up", fine.feats, t["out.up_feats"], **FLOAT)
    coarse = load("down", DownBlock(*meta["down"]))(x)
    ledger.exact("sc_vae.down_coords", coarse.coords, t["out.down_coords"])
    ledger.close("sc_vae.down", coarse.feats, t["out.down_feats"], **FLOAT)
