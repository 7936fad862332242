"""Trilinear voxel attributes against the transcribed sampling kernel."""

import torch

from sightline.kernels.grid_sample import sample_voxels
from sightline.scene.sparse import SparseTensor

SYSTEM, KIND = "pixal3d", "grid_sample_transcribed"


def test_sampling(fixture, ledger):
    t = fixture.tensors()
    coords = torch.nn.functional.pad(t["in.coords"], (1, 0))
    x = SparseTensor(t["in.attrs"], coords, 1)
    for backend in ("search", "table"):
        for points, expected in zip(t["in.points"], t["out.sampled"]):
            out = sample_voxels(x, points, backend=backend)
            ledger.close(f"grid_sample ({backend})", out, expected, atol=2e-5, rtol=1e-4)
