"""The gutter against the nearest of all written texels."""

import pytest
import torch

from sightline.kernels.uv.dilate import nearest_written
from sightline.scene.errors import InputError


@pytest.mark.parametrize("backend", ["exact", "flood"])
@pytest.mark.parametrize("share", [0.3, 0.01])
def test_every_texel_gets_the_nearest(backend, share):
    g = torch.Generator().manual_seed(1)
    mask = torch.rand(37, 52, generator=g) < share
    found = nearest_written(mask, backend)
    row, column = torch.meshgrid(torch.arange(37), torch.arange(52), indexing="ij")
    seeds = torch.nonzero(mask)
    gaps = (row[..., None] - seeds[:, 0]).square() + (column[..., None] - seeds[:, 1]).square()
    gap = (found // 52 - row).square() + (found % 52 - column).square()
    wrong = gap != gaps.amin(-1)
    assert wrong.float().mean() <= (0 if backend == "exact" else 0.005)
    assert (gap.double().sqrt() - gaps.amin(-1).double().sqrt()).max() < 1.0
    assert mask.flatten()[found.flatten()].all()
    assert torch.equal(found[mask], torch.nonzero(mask.flatten()).squeeze(1))


def test_nothing_written():
    with pytest.raises(InputError, match="cover nothing"):
        nearest_written(torch.zeros(4, 4, dtype=torch.bool))
