"""Every key of the published checkpoint, with its shape."""

import torch

from sightline.models.sparsegen import SparseGen, SparseGenConfig
from sightline.models.sparsegen.checkpoint import BUFFERS, PREFIX

SYSTEM, KIND, SUFFIX = "sparsegen", "keys_model", ".json"


def test_keys_and_shapes(fixture, ledger):
    table = {key.removeprefix(PREFIX): list(shape) for key, shape in fixture.json().items()}
    for name in BUFFERS:
        table.pop(name, None)
    with torch.device("meta"):
        model = SparseGen(SparseGenConfig.from_state_dict(table))
    ledger.exact(
        "checkpoint.keys and shapes", {key: list(value.shape) for key, value in model.state_dict().items()}, table
    )
