"""The flexible dual grid: voxels to a mesh."""

from __future__ import annotations

from . import opponents
from .op import Contender, Op


def _grid(case: dict):
    """The dual grid of a bumpy ball, with random vertices and split weights: coords, dual, flags, weights."""
    import torch

    r = case["resolution"]
    line = torch.linspace(-1, 1, r + 1)
    coords, flags = [], []
    for start in range(0, r, 8):  # in slabs, so that the whole grid is never held
        first, end = max(start - 1, 0), min(start + 8, r)
        crossed, active = _slab(line[first : end + 1], line)
        crossed, active = crossed[start - first :], active[start - first :]
        found = torch.nonzero(active).to(torch.int32)
        found[:, 0] += start
        coords.append(found)
        flags.append(crossed[active])
    coords, flags = torch.cat(coords), torch.cat(flags)
    generator = torch.Generator().manual_seed(0)
    dual = torch.rand(len(coords), 3, generator=generator)
    weight = torch.rand(len(coords), 1, generator=generator)
    return [tensor.to(case["device"]) for tensor in (coords, dual, flags, weight)]


def _slab(xs, line):
    """Crossed edges [X, R, R, 3] and voxels around them [X, R, R] for the grid corners at xs, line, line."""
    import torch

    x, y, z = xs[:, None, None], line[:, None], line
    radius = 0.8 + 0.06 * torch.sin(7 * x) * torch.sin(7 * y) * torch.sin(7 * z)
    inside = x * x + y * y + z * z < radius * radius
    shape = [side - 1 for side in inside.shape]
    crossed = torch.zeros(*shape, 3, dtype=torch.bool)
    active = torch.zeros(shape, dtype=torch.bool)
    for axis in range(3):
        lower = inside[tuple(slice(0, -1) if a == axis else slice(1, None) for a in range(3))]
        crossed[..., axis] = inside[1:, 1:, 1:] != lower
        u, v = (a for a in range(3) if a != axis)
        for du in range(2):
            for dv in range(2):
                step = [0, 0, 0]
                step[u], step[v] = du, dv
                to = tuple(slice(s, None) for s in step)
                source = tuple(slice(0, side - s) for s, side in zip(step, shape))
                active[to] |= crossed[..., axis][source]
    return crossed, active


def _ours(as_released: bool):
    def prepare(case):
        from ...kernels.dual_grid import grid_to_mesh

        grid = _grid(case)

        def extract():
            mesh = grid_to_mesh(*grid, case["resolution"], as_released=as_released)
            return {"vertices": mesh.vertices, "faces": mesh.faces}

        return extract

    return prepare


def _core(case):
    extract = opponents.comfyui("comfy.ldm.trellis2.vae", case["device"]).flexible_dual_grid_to_mesh
    grid = _grid(case)

    def run():
        vertices, faces = extract(*grid, aabb=[[-0.5] * 3, [0.5] * 3], grid_size=case["resolution"])
        return {"vertices": vertices, "faces": faces}

    return run


OPS = [
    Op(
        "dual_grid",
        "a dual grid to a mesh",
        {"S": dict(resolution=120), "M": dict(resolution=360), "L": dict(resolution=718)},
        (
            Contender("ours, windings as released", _ours(True)),
            Contender("ours, oriented", _ours(False), same=False, note="windings consistent and outwards: our default"),
            Contender("core", _core, note="windings as released"),
        ),
    )
]
