"""Texture coordinates for a bumpy body: time, and how good they are (stretch, evenness, fill)."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op


def bumpy_body(side: int):
    """A bumpy ball of 12 side^2 faces inside the cube [-0.5, 0.5]^3: vertices [V, 3], faces [F, 3]."""
    import torch

    line = torch.linspace(-1, 1, side + 1, dtype=torch.float64) * (torch.pi / 4)
    u, v = torch.meshgrid(line.tan(), line.tan(), indexing="ij")
    one = torch.ones_like(u)
    sheets = [torch.stack(axes, -1) for axes in (
        (one, u, v), (-one, v, u), (v, one, u), (u, -one, v), (u, v, one), (v, u, -one),
    )]  # fmt: skip
    index = torch.arange((side + 1) ** 2).view(side + 1, side + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    quads = torch.cat([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3)
    faces = torch.cat([quads + i * len(index) ** 2 for i in range(6)])
    place = torch.nn.functional.normalize(torch.stack(sheets).reshape(-1, 3), dim=1)
    place, number = torch.unique((place * 1e9).round() / 1e9, dim=0, return_inverse=True)
    bumps = 1 + 0.15 * torch.sin(6 * place).prod(1, keepdim=True) + 0.04 * torch.sin(15 * place).prod(1, keepdim=True)
    return (0.4 * place * bumps).float(), number[faces]


def _measured(vertices, faces, uv) -> dict:
    import torch

    from ...kernels.uv.measure import uv_quality

    found = uv_quality(vertices, faces, uv)
    return {name: torch.tensor([value]) for name, value in found._asdict().items()}


def _ours(case):
    import torch

    from ...kernels.uv.unwrap import unwrap

    vertices, faces = bumpy_body(case["side"])

    def run():
        done = unwrap(vertices, faces, case["texture"], case["padding"], workers=torch.get_num_threads())
        return {"source": done.source, "faces": done.faces, "uv": done.uv}

    return run


def _core(case):
    module = opponents.comfyui("comfy_extras.nodes_mesh_postprocess", case["device"])
    vertices, faces = bumpy_body(case["side"])

    def run():
        import torch

        found = module._uv_unwrap(vertices, faces, "pec", case["texture"], case["padding"], 0.0)
        return dict(zip(("source", "faces", "uv"), (torch.as_tensor(array) for array in found)))

    return run


def _xatlas(case):
    xatlas = opponents.library("xatlas")
    vertices, faces = bumpy_body(case["side"])

    def run():
        import numpy as np
        import torch

        found = xatlas.parametrize(vertices.numpy(), faces.numpy().astype(np.uint32))
        return dict(zip(("source", "faces", "uv"), (torch.as_tensor(a.astype(np.float64)) for a in found)))

    return run


OPS = [
    Op(
        "unwrap",
        "texture coordinates for a mesh",
        {
            "S": dict(side=20, texture=1024, padding=4),
            "M": dict(side=41, texture=1024, padding=4),
            "L": dict(side=91, texture=2048, padding=4),
        },
        (
            Contender("ours", _ours, note="CPU time is that of the main process; the workers' is not in it"),
            Contender("core UnwrapMesh", _core, same=False, note="other charts"),
            Contender("xatlas, whole mesh", _xatlas, same=False, sizes=("S", "M"), note="other charts; minutes at L"),
        ),
    )
]
