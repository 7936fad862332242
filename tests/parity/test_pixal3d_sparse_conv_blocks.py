"""Sparse convolution, channel to space and space to channel against TRELLIS.2's blocks."""

import torch

from sightline.kernels.sparse_conv import submanifold_conv3d
from sightline.kernels.sparse_resample import channel_to_space, space_to_channel
from sightline.scene.sparse import SparseTensor

SYSTEM, KIND = "pixal3d", "sparse_conv_blocks"
TOLERANCE = dict(atol=2e-5, rtol=1e-4)


def voxels(t):
    return SparseTensor(t["in.feats"], t["in.coords"], int(t["in.coords"][:, 0].max()) + 1)


def test_convolution(fixture, ledger):
    t = fixture.tensors()
    for backend in ("pairs", "table"):
        out = submanifold_conv3d(voxels(t), t["state.conv.weight"], t["state.conv.bias"], backend=backend)
        ledger.close(f"sparse_conv ({backend})", out.feats, t["out.conv"], **TOLERANCE)


def test_resampling_order(fixture, ledger):
    t = fixture.tensors()
    x = voxels(t)
    fine = channel_to_space(x, t["out.up_subdiv_logits"] > 0)
    ledger.exact("channel_to_space.coords", fine.coords, t["out.up_coords"])
    coarse = space_to_channel(x)
    ledger.exact("space_to_channel.coords", coarse.coords, t["out.down_coords"])
    back = channel_to_space(coarse, torch.ones(len(coarse), 8, dtype=torch.bool))
    assert len(back) == 8 * len(coarse)
