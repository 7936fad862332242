"""Point filters, room box and chunks of a COLMAP point file, per set of arguments."""

import json

from sightline.scene.captures import PointFilter
from sightline.scene.chunk_layout import drop_empty, place_chunks, room_box
from sightline.scene.colmap import read_points

SYSTEM, KIND, SUFFIX = "genrecon", "chunk_layout", ".json"
EXCLUDE = ("chunk_layout_lshape",)


def test_layouts(fixture, ledger):
    points = read_points(fixture.root / "points3D.txt")
    for run in fixture.json().values():
        args = run["args"]
        chosen = PointFilter(
            args.get("max_reproj_error", float("inf")),
            args.get("min_track_len", 0),
            not args.get("skip_point_cleaning", False),
            args.get("stat_std_ratio", 2.0),
            args.get("radius_nb_points", 10),
            args.get("radius_m", 0.1),
        )
        clean = points.xyz[chosen.apply(points)]
        ledger.exact("chunk_layout.points", len(clean), run["num_clean"])
        box = room_box(clean)
        ledger.close("chunk_layout.box", [*box.x, *box.y, *box.z, box.height], run["box"], atol=1e-6)
        layout = place_chunks(box, args["chunk_size_factor"], args.get("min_overlap_factor", 4))
        layout = drop_empty(layout, clean, args["min_points_per_chunk"])
        chunks = json.loads(layout.to_json())["chunks"]
        ledger.exact("chunk_layout.count", len(chunks), len(run["chunks"]))
        for ours, theirs in zip(chunks, run["chunks"]):
            for key, value in theirs.items():
                ledger.close(f"chunk_layout.{key}", ours[key], value, atol=1e-6)
