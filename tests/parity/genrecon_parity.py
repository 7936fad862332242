"""What the genrecon parity modules share: tolerances, state dicts, posed views of a fixture."""

import torch

FLOAT = dict(atol=1e-5, rtol=1e-4)
NETWORK = dict(atol=2e-4, rtol=2e-4)


def weights(tensors, prefix="sd."):
    """The state dict under its published names; complex buffers are stored as real pairs."""
    found = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            key = name.removeprefix(prefix)
            if key.endswith("__as_real"):
                key, value = key.removesuffix("__as_real"), torch.view_as_complex(value.contiguous())
            found[key] = value
    return found


def series(tensors, prefix):
    """The tensors prefix_0, prefix_1, ..."""
    found = []
    while f"{prefix}_{len(found)}" in tensors:
        found.append(tensors[f"{prefix}_{len(found)}"])
    return found
