"""Decimation to a tenth: time, the shape of the triangles, and how far the original lies from the result."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op

SAMPLES = 20000  # vertices of the original whose distance is measured


def bumpy_surface(cells: int):
    """A closed bumpy ball as marching cubes give it, by surface nets split in triangles: vertices [V, 3], faces [F, 3].

    About 6.3 cells^2 faces for `cells` along the side, inside [-0.5, 0.5]^3.
    """
    import numpy as np
    import torch

    from ...kernels.mesh.remesh import _contour, _split

    side = cells + 1
    line = np.linspace(-0.5, 0.5, side)
    corners, values = [], []
    for start in range(0, side, 16):  # in slabs, and only what is near the surface
        x, y, z = line[start : start + 16, None, None], line[:, None], line
        waves = 0.03 * np.sin(14 * x) * np.sin(14 * y) * np.sin(14 * z)
        value = np.sqrt(x * x + y * y + z * z) - (0.4 + waves)
        near = np.flatnonzero(np.abs(value) < 4 / cells)
        corners.append(near + start * side * side)
        values.append(value.reshape(-1)[near])
    points, quads = _contour(np.concatenate(corners), np.concatenate(values), side)
    vertices = points / cells - 0.5
    return torch.from_numpy(vertices).float(), torch.from_numpy(_split(vertices, quads))


def quality(case: dict, found: dict) -> dict[str, float]:
    """Faces, the 1st percentile and the median of the smallest angles in degrees, and the mean and worst distance of
    the original's vertices from the result, in edges of the original."""
    import torch

    from ...kernels.mesh.closest_point import ClosestPoint

    vertices, faces = found["vertices"], found["faces"].long()
    original, original_faces = bumpy_surface(case["cells"])
    corners = vertices[faces].double()
    edges = torch.nn.functional.normalize(corners.roll(-1, 1) - corners, dim=2)
    angle = torch.rad2deg(torch.acos((-edges * edges.roll(1, 1)).sum(2).clamp(-1, 1))).amin(1)
    ends = original[original_faces[:, :2]]
    edge = (ends[:, 0] - ends[:, 1]).norm(dim=1).mean()
    some = original[torch.randperm(len(original), generator=torch.Generator().manual_seed(0))[:SAMPLES]]
    away = ClosestPoint(vertices, faces)(some).squared.sqrt() / edge
    figures = {
        "faces": len(faces), "angle p1": angle.sort().values[len(angle) // 100], "angle median": angle.median(),
        "mean error": away.mean(), "worst error": away.max(),
    }  # fmt: skip
    return {name: float(value) for name, value in figures.items()}


def _ours(passes: int):
    def prepare(case):
        import torch

        from ...kernels.mesh.decimate import decimate

        vertices, faces = bumpy_surface(case["cells"])
        points, triangles = vertices.double().numpy(), faces.numpy()

        def run():
            done = decimate(points, triangles, len(triangles) // 10, passes=passes)
            return {"vertices": torch.from_numpy(done.vertices).float(), "faces": torch.from_numpy(done.faces)}

        return run

    return prepare


def _core(case):
    module = opponents.comfyui("comfy_extras.mesh3d.postprocess.qem_decimate", case["device"])
    vertices, faces = bumpy_surface(case["cells"])

    def run():
        found = module.qem_decimate_simplify(vertices, faces, len(faces) // 10, config=module.QEMConfig())
        return {"vertices": found[0], "faces": found[1]}

    return run


def _fast(case):
    library = opponents.library("fast_simplification", "fast-simplification")
    vertices, faces = bumpy_surface(case["cells"])

    def run():
        import torch

        points, triangles = library.simplify(vertices.numpy(), faces.int().numpy(), target_count=len(faces) // 10)
        return {"vertices": torch.from_numpy(points).float(), "faces": torch.from_numpy(triangles).long()}

    return run


OPS = [
    Op(
        "decimate",
        "a mesh to a tenth of its faces",
        {"S": dict(cells=56), "M": dict(cells=178), "L": dict(cells=398)},
        (
            Contender("ours", _ours(4), same=False, note="collapses, then flips and slides"),
            Contender("core DecimateMesh", _core, same=False, note="midpoint, its default"),
            Contender("fast-simplification", _fast, same=False, note="its defaults"),
        ),
        quality,
    )
]
