"""Chunk centers along one axis."""

from sightline.scene.chunk_layout import LATTICE, axis_centers

SYSTEM, KIND, SUFFIX = "genrecon", "axis_centers", ".json"


def test_centers(fixture, ledger):
    for row in fixture.json():
        found = axis_centers(row["dim"], row["chunk_size"], row["min_overlap_factor"] / LATTICE)
        ledger.close("axis_centers", found, row["centers"], atol=1e-9)
