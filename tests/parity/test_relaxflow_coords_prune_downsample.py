"""Inner voxels dropped, the grid halved: exactly."""

from sightline.models.sam3d.structure import prune_inner, shrink

SYSTEM, KIND = "relaxflow", "coords_prune_downsample"


def test_voxels(fixture, ledger):
    t, m = fixture.tensors(), fixture.meta
    ledger.exact("sam3d.prune", prune_inner(t["coords"], m["max_neighbor_axes_dist"]), t["pruned"])
    for source in ("coords", "pruned"):
        small, factor = shrink(t[source], m["max_coords"], m["factor"])
        if small.shape == t["downsampled"].shape:
            break
    ledger.exact("sam3d.shrink", small, t["downsampled"])
    assert factor == m["factor"]
