"""The operations of the TRELLIS.2 layer at toy size: our contenders run, and those that claim to agree do."""

import pytest
import torch

from sightline.cli import bench

TOY = {
    "sparse_conv": dict(resolution=14, channels=8),
    "sparse_conv_warm": dict(resolution=14, channels=8),
    "projection": dict(tokens=60, resolution=8, channels=16, cells=4),
    "naf": dict(side=32, cells=16, points=80),
    "dual_grid": dict(resolution=20),
    "dit_block": dict(width=128, side=3),
    "logit_blur_1": dict(queries=20, keys=33),
    "logit_blur_3": dict(queries=20, keys=99),
}
FOREIGN = ("core", "spconv", "whole grid")


@pytest.mark.parametrize("name", TOY)
def test_our_contenders_agree(name):
    op = bench.operations()[name]
    own = [contender for contender in op.contenders if not contender.name.startswith(FOREIGN)]
    assert own and own[0] is op.contenders[0]
    results = [contender.prepare({**TOY[name], "device": "cpu"})() for contender in own]
    assert all(tensor.numel() and tensor.isfinite().all() for tensor in results[0].values())
    for contender, result in zip(own[1:], results[1:]):
        if contender.same:
            for key, tensor in result.items():
                torch.testing.assert_close(tensor, results[0][key], atol=1e-4, rtol=1e-4)


def test_the_slabs_of_the_dual_grid_meet():
    from sightline.cli.bench.dual_grid import _grid, _slab

    line = torch.linspace(-1, 1, 21)
    crossed, active = _slab(line, line)
    coords, _, flags, _ = _grid(dict(resolution=20, device="cpu"))
    assert torch.equal(torch.nonzero(active).to(torch.int32), coords) and torch.equal(crossed[active], flags)


def test_the_cascade_reports_every_stage_and_needs_a_gpu_at_full_size():
    from sightline.cli.bench import cascade

    case = {**cascade.OPS[0].sizes["S"], "resolution": 256, "steps": 1, "width": 128, "blocks": 1, "device": "cpu"}
    found = cascade._ours(case)()
    assert list(found["stages"]) == [
        "structure", "coarse shape", "shape", "texture", "decode shape", "decode texture"
    ]  # fmt: skip
    assert found["structure"].shape == (1, 8, 16, 16, 16) and found["shape"].shape[1] == 32
    with pytest.raises(bench.Missing, match="--device cuda"):
        cascade._ours({**cascade.OPS[0].sizes["M"], "device": "cpu"})
