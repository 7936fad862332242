"""The dense flow transformer with projected image features, mode `proj`."""

from pixal3d_parity import check_dense_flow

SYSTEM, KIND = "pixal3d", "ss_flow_proj"


def test_velocity(fixture, ledger):
    check_dense_flow(fixture, ledger, "ss_flow.proj")
