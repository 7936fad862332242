"""Points and voxels of a chunk's frame in the world."""

from genrecon_parity import FLOAT

from sightline.models.genrecon.scene_frame import to_world, voxels_to_world

SYSTEM, KIND = "genrecon", "transform_to_original"


def test_transforms(fixture, ledger):
    t = fixture.tensors()
    ledger.close("to_world", to_world(t["points"], t["M_chunk"]), t["out_chunk"], **FLOAT)
    ledger.close("to_world.general", to_world(t["points"], t["M_general"]), t["out_general"], **FLOAT)
    found = voxels_to_world(t["coords"][:, 1:], fixture.meta["resolution"], t["M_chunk"])
    ledger.close("to_world.voxels", found, t["coords_world"], **FLOAT)
