"""The dense flow transformer with sine-cosine positions and a modulation of its own in every block."""

from pixal3d_parity import check_dense_flow, weights

SYSTEM, KIND = "pixal3d", "ss_flow_ape_unshared"


def test_velocity(fixture, ledger):
    model, t = check_dense_flow(fixture, ledger, "ss_flow.ape_unshared")
    ledger.close("ss_flow.positions", model.computed_buffers()["pos_emb"], weights(t)["pos_emb"], atol=1e-6)
