"""GenRecon's operations at toy size: the contenders agree."""

import pytest
import torch

from sightline.cli import bench

TOY = {
    "genrecon_projection": dict(views=3, voxels=60, width=16),
    "genrecon_chunks": dict(chunks=2, steps=1, width=16, batch=2),
    "genrecon_scene": dict(chunks=2, steps=1, width=16),
}


@pytest.mark.parametrize("name", TOY)
def test_contenders_agree(name):
    op = bench.operations()[name]
    results = [contender.prepare({**TOY[name], "device": "cpu"})() for contender in op.contenders]
    assert len(results) == 2
    for key, tensor in results[0].items():
        assert tensor.numel() and tensor.isfinite().all()
        torch.testing.assert_close(results[1][key], tensor, atol=1e-4, rtol=1e-4)
