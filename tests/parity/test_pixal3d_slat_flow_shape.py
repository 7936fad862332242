"""The sparse flow transformer of the shape stage, with tensor and list conditions."""

import torch
from pixal3d_parity import FLOAT, check_sparse_flow

SYSTEM, KIND = "pixal3d", "slat_flow_shape"


@torch.no_grad()
def test_velocity(fixture, ledger):
    model, t, x = check_sparse_flow(fixture, ledger, "slat_flow.shape")
    first, *others = t["in.cond"]
    # README of the fixtures: item 0 keeps its first 4 tokens, the others all of them
    out = model(x, t["in.t"], [first[:4], *others])
    ledger.close("slat_flow.list_condition", out.feats, t["out.v_list_cond"], **FLOAT)


@torch.no_grad()
def test_every_item_equals_its_solo_run(fixture, ledger):
    model, t, x = check_sparse_flow(fixture, ledger, "slat_flow.shape")
    for item, rows in enumerate(x.layout):
        alone = model(x.item(item), t["in.t"][item : item + 1], t["in.cond"][item : item + 1])
        ledger.close("slat_flow.solo_item", alone.feats, t["out.v"][rows], **FLOAT)
