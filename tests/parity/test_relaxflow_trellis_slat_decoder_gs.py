"""The Gaussian decoder: the head, the raw and the activated Gaussians."""

import torch
from relaxflow_parity import MODULE, filled, sparse

from sightline.models.trellis1.config import LatentDecoderConfig
from sightline.models.trellis1.gaussians import GaussianDecoder

SYSTEM, KIND = "relaxflow", "trellis_slat_decoder_gs"


@torch.no_grad()
def test_head_and_gaussians(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    args = {**meta["args"], "representation_config": meta["representation_config"]}
    model = filled(lambda: GaussianDecoder(LatentDecoderConfig.from_args(args)), t)
    out = model(sparse(t["feats"], t["coords"]))
    ledger.close("trellis.gaussian_decoder", out.feats, t["out_feats"], **MODULE)
    table = model.computed_buffers()["offset_perturbation"]
    ledger.close("trellis.gaussian_decoder.start", table, t["sd.offset_perturbation"], **MODULE)
    (raw,) = model.gaussians(out)
    for name in ("xyz", "features_dc", "scaling", "rotation", "opacity"):
        ledger.close("trellis.gaussians.raw", getattr(raw, name), t["rep._" + name], **MODULE)
    activated = raw.activated(meta["representation_config"])
    for name, value in activated.items():
        ledger.close("trellis.gaussians." + name, value, t["rep.get_" + name], **MODULE)
