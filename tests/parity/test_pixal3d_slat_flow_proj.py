"""The sparse flow transformer with projected image features."""

from pixal3d_parity import check_sparse_flow

SYSTEM, KIND = "pixal3d", "slat_flow_proj"


def test_velocity(fixture, ledger):
    check_sparse_flow(fixture, ledger, "slat_flow.proj")
