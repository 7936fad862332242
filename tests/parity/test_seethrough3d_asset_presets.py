"""The published sizes and scales of presets."""

from sightline.scene.document import PRESETS

SYSTEM, KIND, SUFFIX = "seethrough3d", "asset_presets", ".json"


def test_presets(fixture, ledger):
    theirs = {name: entry for name, entry in fixture.json().items() if not name.startswith("_")}
    ledger.exact("presets.names", sorted(PRESETS), sorted(theirs))
    for name, entry in theirs.items():
        ledger.exact("presets", [*PRESETS[name].size, PRESETS[name].scale], [*entry["dims"], entry["scale"]])
