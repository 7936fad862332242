"""The closed form of AgX against the nodes of a table resampled from Blender's output."""

import torch

from sightline.kernels.box_render.agx import agx

SYSTEM, KIND = "seethrough3d", "agx_lut_33"


def test_nodes(fixture, ledger):
    lut = fixture.tensors()["lut"].float()
    side = lut.shape[0]
    grid = 4.0 * (2.0 ** (12.0 * torch.arange(side) / (side - 1)) - 1.0) / (2.0**12 - 1.0)
    nodes = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij"), dim=-1)
    chosen = nodes.amax(-1) < 0.12
    error = 255 * (agx(nodes[chosen]) - lut[chosen]).abs()
    ledger.close("agx.table_mean", float(error.mean()), 0.0, atol=0.6)
    gray = nodes[chosen].amax(-1) == nodes[chosen].amin(-1)
    ledger.close("agx.table_neutral", 255 * agx(nodes[chosen][gray]), 255 * lut[chosen][gray], atol=0.75)
