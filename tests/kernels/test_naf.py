import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels import naf
from sightline.kernels.naf import gather_queries, pixels_read, upsample_map, upsample_points, window_start
from sightline.kernels.projection import sample_map
from sightline.scene.errors import InputError


def maps(seed, cells, factor, d=8, c=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(1, d, *[n * factor for n in cells], generator=generator, dtype=dtype) * 2
    return queries, torch.randn(1, c, *cells, generator=generator, dtype=dtype)


def read_at_points(queries, features, uv, size, heads, kernel):
    pixels, corner, weight = pixels_read(uv, size, queries.shape[-2:])
    points = gather_queries(queries[0], pixels, features.shape[-2:])
    return upsample_points(points, features[0], corner, weight, heads, kernel)


def dilated_attention(queries, features, heads, kernel):
    """NATTEN's definition, keys and values repeated to the target, windows shifted per dilation class."""
    _, d, height, width = queries.shape
    _, c, h, w = features.shape
    keys = torch.nn.functional.adaptive_avg_pool2d(queries, (h, w))
    dilation = (height // h, width // w)
    keys, values = (x.repeat_interleave(dilation[0], 2).repeat_interleave(dilation[1], 3)[0] for x in (keys, features))
    out = torch.empty(c, height, width)
    for y in range(height):
        for x in range(width):
            axes = []
            for position, step, length in ((y, dilation[0], height), (x, dilation[1], width)):
                group = [p for p in range(length) if p % step == position % step]
                start = min(max(group.index(position) - kernel // 2, 0), len(group) - kernel)
                axes.append(group[start : start + kernel])
            places = [(i, j) for i in axes[0] for j in axes[1]]
            for head in range(heads):
                a, b = (slice(head * n // heads, (head + 1) * n // heads) for n in (d, c))
                k = torch.stack([keys[a, i, j] for i, j in places])
                v = torch.stack([values[b, i, j] for i, j in places])
                weight = torch.softmax(k @ queries[0, a, y, x] * (d // heads) ** -0.5, 0)
                out[b, y, x] = weight @ v
    return out


@pytest.mark.parametrize("cells, factor, heads, kernel", [((3, 3), 2, 2, 3), ((5, 4), 2, 1, 3), ((6, 6), 1, 2, 5)])
def test_clamped_cells_are_the_shifted_dilated_windows(cells, factor, heads, kernel):
    queries, features = maps(1, cells, factor)
    found = upsample_map(queries, features, heads, kernel)[0]
    torch.testing.assert_close(found, dilated_attention(queries, features, heads, kernel), atol=1e-5, rtol=1e-5)


@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
    st.integers(1, 4),
    st.sampled_from([1, 2]),
    st.integers(1, 60),
)
@settings(max_examples=40, deadline=None)
def test_points_equal_reading_the_whole_map(seed, cells, factor, heads, n):
    queries, features = maps(seed, cells, factor)
    uv = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * 80 - 8  # some outside of 64 x 64
    whole = sample_map(upsample_map(queries, features, heads, 3), uv, 64)
    found = read_at_points(queries, features, uv, 64, heads, 3)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_small_groups_give_the_same(monkeypatch):
    queries, features = maps(2, (9, 9), 3)
    uv = torch.rand(200, 2) ** 3 * 32  # crowded in one corner: windows with very different numbers of reads
    whole = read_at_points(queries, features, uv, 32, 2, 3)
    monkeypatch.setattr(naf, "CHUNK_BYTES", 4096)
    torch.testing.assert_close(read_at_points(queries, features, uv, 32, 2, 3), whole, atol=1e-5, rtol=1e-5)


def test_a_constant_map_stays_constant_also_at_the_borders():
    queries, features = maps(3, (4, 4), 4)
    out = upsample_map(queries, torch.ones_like(features), 2, 3)
    torch.testing.assert_close(out, torch.ones_like(out))


def test_windows_stay_inside():
    assert window_start(torch.arange(12), 12, 9).tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3]


def test_gradients_reach_queries_and_features():
    queries, features = maps(4, (3, 3), 2, 4, 2, torch.float64)
    uv = torch.rand(5, 2, dtype=torch.float64) * 16

    def run(q, f):
        return read_at_points(q, f, uv, 16, 2, 3)

    assert torch.autograd.gradcheck(run, (queries.requires_grad_(), features.requires_grad_()))


@pytest.mark.parametrize(
    "cells, target, heads, said",
    [((2, 4), (4, 8), 2, "needs 3"), ((3, 3), (7, 6), 2, "multiple"), ((3, 3), (6, 6), 4, "4 heads")],
)
def test_maps_that_cannot_be_raised_are_named(cells, target, heads, said):
    with pytest.raises(InputError, match=said):
        upsample_map(torch.zeros(1, 8, *target), torch.zeros(1, 6, *cells), heads, 3)
