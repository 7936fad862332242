"""Shape decoder: raw rows, subdivisions, cascade upsampling and the meshes of its dual grid."""

import re

import torch
from pixal3d_parity import FLOAT, network, sparse

from sightline.kernels.dual_grid import grid_to_mesh
from sightline.models.trellis2.sc_vae import shape_head

SYSTEM, KIND = "pixal3d", "shape_decoder"


@torch.no_grad()
def test_meshes(fixture, ledger):
    t = fixture.tensors()
    model = network(fixture, t)
    voxels = model(sparse(t["in.feats"], t["in.coords"])).voxels
    dual, crossed, split = shape_head(voxels.feats, model.config.voxel_margin)
    for item, rows in enumerate(voxels.layout):
        coords = voxels.coords[rows, 1:]
        mesh = grid_to_mesh(coords, dual[rows], crossed[rows], split[rows], model.config.resolution, as_released=True)
        ledger.close("shape_decoder.vertices", mesh.vertices, t[f"out.mesh{item}_vertices"], **FLOAT)
        ledger.exact("shape_decoder.faces", mesh.faces, t[f"out.mesh{item}_faces"])


@torch.no_grad()
def test_voxels_and_subdivisions(fixture, ledger):
    t = fixture.tensors()
    model = network(fixture, t)
    z = sparse(t["in.feats"], t["in.coords"])
    out = model(z)
    ledger.exact("shape_decoder.coords", out.voxels.coords, t["mid.coords"])
    ledger.close("shape_decoder.rows", out.voxels.feats, t["mid.raw7"], **FLOAT)
    for level, logits in enumerate(out.logits):
        ledger.exact("shape_decoder.subdivision_coords", logits.coords, t[f"out.subs{level}_coords"])
        ledger.close("shape_decoder.subdivision", logits.feats, t[f"out.subs{level}_logits"], **FLOAT)
    for name in t:
        if match := re.fullmatch(r"out\.upsample(\d+)_coords", name):
            ledger.exact("shape_decoder.upsample", model.upsample(z, int(match[1])), t[name])
