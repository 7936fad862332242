"""What the relaxflow parity modules share: tolerances, weights and sparse tensors of a fixture."""

import torch

from sightline.models.trellis2.checkpoint import assign_weights
from sightline.scene.sparse import SparseTensor

MODULE = dict(of_max=2e-5)
TRAJECTORY = dict(of_max=2e-4)
SCHEDULE = dict(atol=1e-12)
KERNEL = dict(atol=1e-7)


def weights(tensors, prefix="sd."):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def filled(make, tensors, prefix="sd."):
    """The network `make()` builds, with the fixture's weights; every key must be there and no other."""
    with torch.device("meta"):
        model = make()
    return assign_weights(model, weights(tensors, prefix), "the fixture")


def sparse(feats, coords):
    return SparseTensor(feats, coords, int(coords[:, 0].max()) + 1)


def numbered(tensors, name):
    """`name0`, `name1`, ... in order."""
    found = []
    while f"{name}{len(found)}" in tensors:
        found.append(tensors[f"{name}{len(found)}"])
    return found
