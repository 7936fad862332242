"""Back-projection of a feature map to grid tokens against Pixal3D's ProjGrid."""

import torch

from sightline.kernels.projection import front_camera, front_uv, grid_points, in_view, posed_uv, sample_map

SYSTEM, KIND = "pixal3d", "proj_grid"


def test_projection(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    points, size = grid_points(meta["grid_resolution"]), meta["image_resolution"]
    x, y, z = points.unbind(-1)
    ledger.exact("proj_grid.points", torch.stack([x, -z, y], -1), t["mid.grid_points_rotated"])
    fov, distance, scale = (t[f"in.{name}"][:, None] for name in ("camera_angle_x", "distance", "mesh_scale"))
    uv, depth = front_uv(points, fov, distance, scale, size)
    ledger.close("proj_grid.uv", uv, t["mid.uv_pixels"], atol=1e-5 * size)
    ledger.close("proj_grid.depth", depth, t["mid.depth"], atol=1e-6)
    clear = (t["mid.uv_pixels"] - t["mid.uv_pixels"].round()).abs().amin(-1) > 1e-4  # not on the picture's very border
    ledger.exact("proj_grid.in_view", in_view(uv, depth, size, size)[clear], t["mid.valid"][clear])
    for i in range(len(fov)):
        camera = front_camera(float(fov[i]), float(distance[i]), size)
        posed, _ = posed_uv(points, camera, float(scale[i]))
        ledger.close("proj_grid.uv (posed)", posed[0], t["mid.uv_pixels"][i], atol=1e-5 * size)


def test_sampling(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    features, size = t["in.features_bhwc"].permute(0, 3, 1, 2), meta["image_resolution"]
    points = grid_points(meta["grid_resolution"])
    b, n = features.shape[0], points.shape[0]
    item = torch.arange(b).repeat_interleave(n)
    fov, distance, scale = (t[f"in.{name}"][item] for name in ("camera_angle_x", "distance", "mesh_scale"))
    uv, _ = front_uv(points.repeat(b, 1), fov, distance, scale, size)  # one camera per token, as sparse batches have
    for backend in ("gather", "grid_sample"):
        out = sample_map(features, uv, size, item, backend=backend).view(b, n, -1)
        ledger.close(f"proj_grid.features ({backend})", out, t["out.proj"], atol=2e-5, rtol=1e-4)
