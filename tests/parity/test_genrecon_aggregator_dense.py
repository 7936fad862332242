"""Aggregation over views of dense grids; the views' order does not matter; the streamed form equals the definition."""

import torch
from genrecon_parity import FLOAT, weights

from sightline.kernels.view_aggregation import aggregate_tokens
from sightline.models.genrecon.aggregator import ViewAggregator

SYSTEM, KIND = "genrecon", "aggregator_dense"
# The convolutions of the optional branch add hundreds to features of size one, and leave that much rounding behind.
BRANCHES = dict(atol=1e-5, rtol=1e-4, of_max=5e-6)


@torch.no_grad()
def test_aggregation(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    camera = meta.get("use_camera", False)
    conv, attention = meta.get("use_conv_net", False), meta.get("use_self_attention", False)
    model = ViewAggregator(
        meta["channels"],
        two_pass=False,
        use_camera=camera,
        resolution=meta["resolution"],
        refinement=meta.get("refinement_factor", 1),
        conv_net=conv,
        self_attention=attention,
    )
    model.load_state_dict(weights(t))
    tolerance, name = (BRANCHES, "aggregator_dense.branches") if conv or attention else (FLOAT, "aggregator_dense")
    for item in range(len(t["feats"])):
        feats, mask = t["feats"][item], t["mask"][item]
        extra = t["camera_emb"][item] if camera else None
        ledger.close(name, model(feats, mask, extra), t["out"][item], **tolerance)
        order = t["perm"]
        found = model(feats[order], mask[order], None if extra is None else extra[order])
        ledger.close(f"{name}.permuted", found, t["out_permuted_views"][item], **tolerance)
        every = torch.arange(feats.shape[1]).expand(len(feats), -1)
        streamed = aggregate_tokens(
            feats,
            every,
            mask,
            model.weights,
            prefix=0,
            two_pass=False,
            pair_bytes=4096,
            extra=None if extra is None else lambda view, voxel, extra=extra: extra[view, voxel],
        )
        ledger.close(f"{name}.streamed", model.collapse(streamed), t["out"][item], **tolerance)
