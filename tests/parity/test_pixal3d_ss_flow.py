"""The dense flow transformer: rotary positions, shared modulation."""

import torch
from pixal3d_parity import FLOAT, FLOW_KINDS, check_dense_flow

SYSTEM, KIND, EXCLUDE = "pixal3d", "ss_flow", FLOW_KINDS


@torch.no_grad()
def test_velocity_and_intermediates(fixture, ledger):
    model, t = check_dense_flow(fixture, ledger, "ss_flow")
    embedding = model.t_embedder(t["in.t"])
    ledger.close("ss_flow.time_embedding", embedding, t["mid.t_emb"], **FLOAT)
    ledger.close("ss_flow.modulation", model.adaLN_modulation(embedding), t["mid.mod"], **FLOAT)
    seen = {}
    hooks = [
        model.input_layer.register_forward_hook(lambda m, i, o: seen.update(tokens=o)),
        model.blocks[0].register_forward_hook(lambda m, i, o: seen.update(block0=o)),
    ]
    model(t["in.x"], t["in.t"], t["in.cond"])
    for hook in hooks:
        hook.remove()
    ledger.close("ss_flow.tokens", seen["tokens"], t["mid.tokens"], **FLOAT)
    ledger.close("ss_flow.block", seen["block0"], t["mid.block0"], **FLOAT)
