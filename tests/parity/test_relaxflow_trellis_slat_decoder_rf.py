"""The radiance field decoder: the head and the trivectors."""

import torch
from relaxflow_parity import MODULE, filled, sparse

from sightline.models.trellis1.config import LatentDecoderConfig
from sightline.models.trellis1.radiance import RadianceFieldDecoder

SYSTEM, KIND = "relaxflow", "trellis_slat_decoder_rf"


@torch.no_grad()
def test_head_and_field(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    args = {**meta["args"], "representation_config": meta["representation_config"]}
    model = filled(lambda: RadianceFieldDecoder(LatentDecoderConfig.from_args(args)), t)
    out = model(sparse(t["feats"], t["coords"]))
    ledger.close("trellis.radiance_decoder", out.feats, t["out_feats"], **MODULE)
    (field,) = model.fields(out)
    ledger.exact("trellis.radiance.depth", field.depth, t["rep.depth"])
    for name in ("position", "trivec", "density", "features_dc"):
        ledger.close("trellis.radiance." + name, getattr(field, name), t["rep." + name], **MODULE)
