"""The dense flow transformer with projected image features, mode `gated_proj`."""

from pixal3d_parity import check_dense_flow

SYSTEM, KIND = "pixal3d", "ss_flow_gated_proj"


def test_velocity(fixture, ledger):
    check_dense_flow(fixture, ledger, "ss_flow.gated_proj")
