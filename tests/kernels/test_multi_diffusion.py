"""Overlapping chunks: means, noise and shares of several processes, dense and sparse, against a plain loop."""

import pytest
import torch

from sightline.kernels.multi_diffusion import DenseOverlap, SparseOverlap, chunk_offsets
from sightline.scene.errors import InputError

RELATIVE = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, -0.25, 0]])
R = 8


def coords(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.argwhere(torch.rand(R, R, R, generator=draw) < 0.2).int()


def test_offsets_start_at_zero_and_off_lattice_is_refused():
    assert chunk_offsets(RELATIVE, R).tolist() == [[0, 2, 0], [4, 2, 0], [4, 0, 0]]
    with pytest.raises(InputError, match="off the lattice"):
        chunk_offsets(torch.tensor([[0.0, 0, 0], [0.3, 0, 0]]), R)


def test_dense_mean_is_that_of_a_loop():
    overlap = DenseOverlap(chunk_offsets(RELATIVE, R), R)
    xs = list(torch.randn(3, 2, R, R, R))
    total, count = torch.zeros(2, *overlap.size), torch.zeros(overlap.size)
    for i, (x, y, z) in enumerate(overlap.offsets.tolist()):
        total[:, x : x + R, y : y + R, z : z + R] += xs[i]
        count[x : x + R, y : y + R, z : z + R] += 1
    torch.testing.assert_close(overlap.merge(range(3), xs), total / count.clamp(min=1))
    noise = overlap.cut(overlap.noise(2, torch.Generator().manual_seed(0)), range(3))
    again = overlap.average(range(3), noise)
    assert all(torch.equal(a, b) for a, b in zip(noise, again)), "chunks that agree must stay as they are"


@pytest.mark.parametrize("boundary", [0, 1, 2])
@pytest.mark.parametrize("axes", [(0, 1), (0, 1, 2)])
def test_sparse_votes_are_those_of_a_loop(boundary, axes):
    places = [coords(i) for i in range(3)]
    overlap = SparseOverlap(chunk_offsets(RELATIVE, R), R, places, boundary, axes)
    xs = [torch.randn(len(c), 2) for c in places]
    votes = {}
    for i, c in enumerate(places):
        for row, local in enumerate(c.tolist()):
            if all(boundary <= local[a] < R - boundary for a in axes) or boundary == 0:
                votes.setdefault(tuple((c[row] + overlap.offsets[i]).tolist()), []).append(xs[i][row])
    for i, found in enumerate(overlap.average(range(3), xs)):
        for row, value in enumerate(found):
            given = votes.get(tuple((places[i][row] + overlap.offsets[i]).tolist()))
            expected = torch.stack(given).mean(0) if given else xs[i][row]
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shares", [[[0, 2], [1]], [[2], [0], [1]]])
def test_shares_of_processes_add_up(shares):
    """`reduce` of one share is called with its own sum; here it adds the sums of all others."""
    places = [coords(i) for i in range(3)]
    overlap = SparseOverlap(chunk_offsets(RELATIVE, R), R, places, 1)
    xs = [torch.randn(len(c), 2) for c in places]
    sums = []
    for share in shares:
        overlap.average(share, [xs[i] for i in share], lambda x: sums.append(x.clone()) or x)
    whole = overlap.average(range(3), xs)
    for share in shares:
        found = overlap.average(share, [xs[i] for i in share], lambda x: sum(sums))
        assert all(torch.equal(found[n], whole[i]) for n, i in enumerate(share))


def test_what_cannot_be_joined():
    offsets = chunk_offsets(RELATIVE, R)
    with pytest.raises(InputError, match="No chunk has an occupied voxel"):
        SparseOverlap(offsets, R, [torch.zeros(0, 3, dtype=torch.int32)] * 3)
    with pytest.raises(InputError, match="4 voxels wide"):
        SparseOverlap(offsets, R, [coords(0)] * 3, 4)
    with pytest.raises(InputError, match="A process has no chunk"):
        DenseOverlap(offsets, R).merge([], [])
