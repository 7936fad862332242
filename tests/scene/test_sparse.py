import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.scene.errors import InputError
from sightline.scene.sparse import AXIS_STEPS, MAX_COORDINATE, SparseTensor, check_coords, pack_coords, unpack_coords

ROWS = st.lists(
    st.tuples(st.integers(0, 3), *[st.integers(0, MAX_COORDINATE)] * 3), min_size=1, max_size=40, unique=True
)


@given(ROWS)
@settings(max_examples=50, deadline=None)
def test_packed_keys_are_lexicographic_and_invertible(rows):
    coords = torch.tensor(sorted(rows), dtype=torch.int32)
    keys = pack_coords(coords)
    assert bool((keys[1:] > keys[:-1]).all())
    assert torch.equal(unpack_coords(keys), coords)


def test_a_step_over_the_border_meets_no_other_voxel():
    corners = [0, 1, MAX_COORDINATE - 1, MAX_COORDINATE]
    grid = torch.cartesian_prod(torch.arange(2), *[torch.tensor(corners)] * 3).to(torch.int32)
    keys = set(pack_coords(grid).tolist())
    for axis, step in enumerate(AXIS_STEPS):
        for sign, border in ((-1, 0), (1, MAX_COORDINATE)):
            outside = pack_coords(grid[grid[:, axis + 1] == border]) + sign * step
            assert not keys & set(outside.tolist())


def test_layout_counts_empty_items_and_the_cache_is_shared():
    coords = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0], [2, 5, 5, 5]], dtype=torch.int32)
    x = SparseTensor(torch.randn(3, 4), coords, 4)
    assert x.seqlens == [2, 0, 1, 0]
    assert x.layout == [slice(0, 2), slice(2, 2), slice(2, 3), slice(3, 3)]
    y = x.replace(torch.zeros(3, 7))
    assert y.cache is x.cache and y.once("seqlens", lambda: pytest.fail("computed twice")) == [2, 0, 1, 0]
    keys, order = x.sorted_keys
    assert torch.equal(x.keys[order], keys) and order.tolist() == [1, 0, 2]


def test_items_split_and_join():
    coords = torch.tensor([[0, 1, 2, 3], [1, 4, 4, 4], [1, 5, 5, 5]], dtype=torch.int32)
    x = SparseTensor(torch.randn(3, 2), coords, 2)
    joined = SparseTensor.cat([x.item(0), x.item(1)])
    assert torch.equal(joined.coords, coords) and torch.equal(joined.feats, x.feats) and joined.batch_size == 2


@pytest.mark.parametrize(
    "rows, resolution, said",
    [
        ([], 8, "no voxel"),
        ([[0, 0, 0, 8]], 8, "0..8"),
        ([[0, -1, 0, 0]], 8, "-1..0"),
        ([[1, 0, 0, 0], [0, 0, 0, 0]], 8, "ascend"),
        ([[2, 0, 0, 0]], 8, "ascend within 0..1"),
        ([[0, 1, 1, 1], [0, 1, 1, 1]], 8, "twice"),
        ([[0, 0, 0, MAX_COORDINATE + 1]], None, str(MAX_COORDINATE)),
    ],
)
def test_unusable_coordinates_are_named(rows, resolution, said):
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    with pytest.raises(InputError, match=said):
        check_coords(coords, 2, resolution)


def test_shapes_are_checked():
    with pytest.raises(InputError, match="int32"):
        SparseTensor(torch.zeros(1, 2), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(InputError, match="rows must agree"):
        SparseTensor(torch.zeros(2, 2), torch.zeros(1, 4, dtype=torch.int32))
    with pytest.raises(InputError, match="batch_size"):
        SparseTensor(torch.zeros(1, 2), torch.zeros(1, 4, dtype=torch.int32), 0)
