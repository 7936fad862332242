"""Statistical and radius outlier removal: the same points are kept."""

from sightline.scene.point_filters import radius_inliers, statistical_inliers

SYSTEM, KIND = "genrecon", "point_filters"


def test_kept(fixture, ledger):
    t = fixture.tensors()
    points, seen = t["points"].numpy(), {"statistical": 0, "radius": 0}
    for entry in fixture.meta["filters"]:
        kind, number = entry["kind"], seen[entry["kind"]]
        seen[kind] += 1
        if kind == "statistical":
            kept = statistical_inliers(points, entry["nb_neighbors"], entry["std_ratio"])
            expected = t[f"stat_keep_{number}"]
        else:
            kept = radius_inliers(points, entry["nb_points"], entry["radius"])
            expected = t[f"radius_keep_{number}"]
        ledger.exact(f"point_filters.{kind}", kept, expected)
