"""Remeshing in a narrow band: time, and how even the result is."""

from __future__ import annotations

from . import opponents
from .decimate import bumpy_surface
from .op import Contender, Op


def _ours(case):
    from ...kernels.mesh.remesh import remesh

    vertices, faces = bumpy_surface(case["cells"])
    points, triangles = vertices.double().numpy(), faces.numpy()
    cells = round(case["resolution"] * float((points.max(0) - points.min(0)).max()))  # as large as core's

    def run():
        import torch

        found = remesh(points, triangles, cells)
        return {"vertices": torch.from_numpy(found[0]).float(), "faces": torch.from_numpy(found[1])}

    return run


def _core(case):
    module = opponents.comfyui("comfy_extras.mesh3d.postprocess.remesh", case["device"])
    vertices, faces = bumpy_surface(case["cells"])

    def run():
        import torch

        resolution = case["resolution"]
        found = module.remesh_narrow_band_dc(
            vertices, faces.long(), resolution=resolution, band=1.0, project_back=0.0, qef=False, sign_mode="udf",
            center=torch.zeros(3), scale=(resolution + 3) / resolution,
            drop_inverted_components=False, drop_enclosed_components=False,
        )  # fmt: skip
        return {"vertices": found[0], "faces": found[1]}

    return run


def quality(case: dict, found: dict) -> dict[str, float]:
    """Faces, the 1st percentile of the smallest angles in degrees, and edges that are not shared by two faces."""
    import torch

    from ...kernels.mesh.topology import Counts

    faces = found["faces"].long()
    corners = found["vertices"][faces].double()
    edges = torch.nn.functional.normalize(corners.roll(-1, 1) - corners, dim=2)
    angle = torch.rad2deg(torch.acos((-edges * edges.roll(1, 1)).sum(2).clamp(-1, 1))).amin(1)
    counts = Counts.of(faces.numpy())
    return {
        "faces": float(len(faces)), "angle p1": float(angle.sort().values[len(angle) // 100]),
        "bad edges": float(counts.border_edges + counts.crowded_edges + counts.conflicting_edges),
    }  # fmt: skip


OPS = [
    Op(
        "remesh",
        "a new surface around a mesh",
        {
            "S": dict(cells=48, resolution=48),
            "M": dict(cells=128, resolution=128),
            "L": dict(cells=256, resolution=256),
        },
        (
            Contender("ours", _ours, same=False, note="cells as large as core's; both with the inner shell"),
            Contender("core RemeshMesh", _core, same=False, note="udf, as its node calls it"),
        ),
        quality,
    )
]
