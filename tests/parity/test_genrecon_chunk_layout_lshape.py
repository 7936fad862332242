"""An L-shaped room: its box, all places, those that hold points, and their frames."""

from sightline.scene.chunk_layout import drop_empty, place_chunks, room_box

SYSTEM, KIND = "genrecon", "chunk_layout_lshape"


def test_layout(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    points = t["points"].numpy()
    box = room_box(points)
    ledger.close("chunk_layout.box", [*box.x, *box.y, *box.z, box.height], meta["box"], atol=1e-6)
    layout = place_chunks(box, meta["chunk_size_factor"], meta["min_overlap_factor"])
    ledger.close("chunk_layout.size", layout.size, meta["chunk_size"], atol=1e-6)
    ledger.close("chunk_layout.all_centers", layout.centers, t["all_centers"], atol=1e-6)
    kept = drop_empty(layout, points, meta["min_points_per_chunk"])
    ledger.close("chunk_layout.kept_centers", kept.centers, t["kept_centers"], atol=1e-6)
    ledger.close("chunk_layout.m_o2c", kept.world_to_chunk, t["m_o2c"], atol=1e-6, rtol=1e-6)
    ledger.close("chunk_layout.m_c2o", kept.chunk_to_world, t["m_c2o"], atol=1e-6, rtol=1e-6)
    ledger.close("chunk_layout.relative", kept.relative, t["relative_translations"], atol=1e-6)
