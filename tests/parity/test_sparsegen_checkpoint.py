"""A checkpoint folder as the official trainer writes it (model.pth with optimizer state, .hydra/config.yaml)."""

import torch

from sightline.models.sparsegen import load_sparsegen
from sightline.models.sparsegen.checkpoint import BUFFERS

SYSTEM, KIND, SUFFIX = "sparsegen", "ckpt", "/"


def test_published_layout(fixture, ledger):
    expected = fixture.tensors(f"{fixture.path.name}/expected.safetensors")
    model, info = load_sparsegen(fixture.path / "model.pth")
    state = model.state_dict()
    for name, value in expected.items():
        if name not in BUFFERS:
            ledger.exact("checkpoint.tensors", state[name], value)
    ledger.exact("checkpoint.box", torch.tensor(info.config.position_range), expected["position_range"])
    assert info.format == "model.pth" and info.iteration is not None and info.parameters > 0
