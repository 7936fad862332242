"""Attention within windows against attention over everything with the rest masked."""

import pytest
import torch

from sightline.kernels.window_attention import window_attention, windows
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


@pytest.mark.parametrize(("size", "shift"), [(4, 0), (4, 2), (8, 4), (1, 0), (50, 25)])
def test_windows_are_a_mask(size, shift):
    generator = torch.Generator().manual_seed(0)
    flat = torch.randperm(2 * 9**3, generator=generator)[:160].sort().values
    coords = torch.stack([flat // 729, flat // 81 % 9, flat // 9 % 9, flat % 9], 1).int()
    x = SparseTensor(torch.zeros(160, 1), coords, 2)
    q, k, v = torch.randn(3, 160, 2, 8, dtype=torch.float64, generator=generator)
    place = coords.clone()
    place[:, 1:] = (place[:, 1:] + shift) // size
    same = (place[:, None] == place[None]).all(-1)
    logits = torch.einsum("qhd,khd->hqk", q, k) * 8**-0.5
    weights = torch.softmax(logits.masked_fill(~same, float("-inf")), -1)
    out = window_attention(q, k, v, windows(x, size, shift))
    torch.testing.assert_close(out, torch.einsum("hqk,khd->qhd", weights, v))
    assert windows(x, size, shift) is windows(x, size, shift)


def test_a_window_has_a_size():
    with pytest.raises(InputError, match="size"):
        windows(SparseTensor(torch.zeros(1, 1), torch.zeros(1, 4).int(), 1), 0)
