"""The multi-view encoder and the anchor decoder on recorded tokens."""

import sys
from pathlib import Path

import torch

from sightline.models.sparsegen.embeddings import timestep_sinusoid

sys.path.insert(0, str(Path(__file__).parent))
try:
    from sparsegen_parity import load_model
finally:
    sys.path.pop(0)

SYSTEM, KIND = "sparsegen", "transformer"


@torch.no_grad()
def test_transformer(fixture, ledger):
    t, transformer = fixture.tensors(), load_model(fixture).transformer
    features, position, times = t["in.multi_view_feats"], t["in.pos_embed"], t["in.timesteps"]
    ledger.close(
        "transformer.encoder", transformer.encode(features, position, times), t["out.encoder_memory"], atol=2e-5
    )
    outputs = torch.stack(transformer(features, t["in.query_embed"], position, times))
    ledger.close("transformer.decoder", outputs[-len(t["out.output"]) :], t["out.output"], atol=2e-5)


@torch.no_grad()
def test_times(fixture, ledger):
    t = fixture.tensors()
    times = t["in.timesteps"].flatten()
    ledger.close("time.sinusoid", timestep_sinusoid(times), t["out.sinusoid256"], atol=2e-5)
    ledger.close("time.embedder", load_model(fixture).transformer.t_embedder(times), t["out.t_embedder"], atol=2e-5)
