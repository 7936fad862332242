"""Smoothing that locks borders and edges, and the division of faces among chunks."""

from genrecon_parity import FLOAT

from sightline.kernels.taubin import locked_vertices, nearest_chunk, taubin_smooth

SYSTEM, KIND = "genrecon", "taubin_partition"


def test_smoothing(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    angle = meta["feature_angle_deg"]
    ledger.exact("taubin.locked", locked_vertices(t["vertices"], t["faces"], angle), t["locked"])
    smooth = taubin_smooth(t["vertices"], t["faces"], meta["iterations"], meta["lam"], meta["mu"], angle)
    ledger.close("taubin.vertices", smooth, t["smoothed"], **FLOAT)


def test_partition(fixture, ledger):
    t = fixture.tensors()
    found = nearest_chunk(t["vertices"], t["faces"], t["chunk_centers"])
    ledger.exact("taubin.partition", found, t["assignment"])
