"""Sizes of grids that can be halved without a remainder."""

from sightline.models.genrecon.scene_frame import halving_friendly

SYSTEM, KIND, SUFFIX = "genrecon", "halving_friendly", ".json"


def test_sizes(fixture, ledger):
    for size, expected in fixture.json()["next_halving_friendly"].items():
        ledger.exact("halving_friendly", halving_friendly(int(size)), expected)
