"""One subdivision of the mesh decoder, over a batch of two."""

import torch
from relaxflow_parity import MODULE, filled, sparse

from sightline.models.trellis1.mesh import SubdivideBlock

SYSTEM, KIND = "relaxflow", "trellis_mesh_subdivide_block"


@torch.no_grad()
def test_block(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    block = filled(lambda: SubdivideBlock(meta["channels"], meta["out_channels"]), t)
    out = block(sparse(t["feats"], t["coords"]))
    ledger.exact("trellis.subdivide.voxels", out.coords, t["out_coords"])
    ledger.close("trellis.subdivide", out.feats, t["out_feats"], **MODULE)
