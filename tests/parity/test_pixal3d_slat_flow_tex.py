"""The sparse flow transformer of the texture stage: the shape latent is appended on channels."""

from pixal3d_parity import check_sparse_flow

SYSTEM, KIND = "pixal3d", "slat_flow_tex"


def test_velocity(fixture, ledger):
    check_sparse_flow(fixture, ledger, "slat_flow.texture")
