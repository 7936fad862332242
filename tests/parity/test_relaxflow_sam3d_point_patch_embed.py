"""Tokens of a point map with unknown points."""

import torch
from relaxflow_parity import MODULE, filled

from sightline.models.sam3d.point_patch import PointPatchEmbed

SYSTEM, KIND = "relaxflow", "sam3d_point_patch_embed"


@torch.no_grad()
def test_tokens(fixture, ledger):
    t, m = fixture.tensors(), fixture.meta
    size = (m["input_size"], m["patch_size"], m["embed_dim"], m["remap"], m["num_heads"])
    model = filled(lambda: PointPatchEmbed(*size), t)
    ledger.close("sam3d.point_patch", model(t["xyz"]), t["out"], **MODULE)
