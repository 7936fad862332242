"""The expansion operator and the sine embeddings."""

import sys
from pathlib import Path

import torch

from sightline.models.sparsegen.embeddings import anchor_sinusoid, inverse_sigmoid, view_sinusoid
from sightline.models.sparsegen.gaussians import decode_gaussians

sys.path.insert(0, str(Path(__file__).parent))
try:
    from sparsegen_parity import check_gaussians, load_model
finally:
    sys.path.pop(0)

SYSTEM, KIND = "sparsegen", "expansion_embed"


@torch.no_grad()
def test_expansion(fixture, ledger):
    t, model = fixture.tensors(), load_model(fixture)
    for layer, outputs in enumerate(t["in.outs_dec"]):
        heads = model.gs_decoder[layer if len(model.gs_decoder) > 1 else 0]
        if f"out.layer{layer}.xyz" in t:
            gaussians = decode_gaussians(heads, outputs, t["in.reference_points"], model.config)
            check_gaussians(ledger, gaussians, t, layer, 1e-5, "expansion")
        if f"out.no_reference.layer{layer}.xyz" in t:
            free = decode_gaussians(heads, outputs, None, model.config)
            ledger.close("expansion.xyz without anchors", free.box, t[f"out.no_reference.layer{layer}.xyz"], atol=1e-5)


def test_sines(fixture, ledger):
    t = fixture.tensors()
    expected = t["out.pos2posemb3d"]
    ledger.close("anchor_sinusoid", anchor_sinusoid(t["in.pos2posemb3d"], expected.shape[-1] // 3), expected, atol=1e-5)
    ledger.close("inverse_sigmoid", inverse_sigmoid(t["in.inverse_sigmoid"]), t["out.inverse_sigmoid"], atol=1e-5)
    for name in (n for n in t if n.startswith("out.sine3d_ones")):
        batch, views, channels, rows, columns = t[name].shape
        ours = view_sinusoid(views, rows, columns, channels // 3).expand(batch, -1, -1, -1, -1)
        ledger.close("view_sinusoid", ours, t[name], atol=1e-5)
