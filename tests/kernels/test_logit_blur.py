"""Blurred attention: the factorised form against matrices, for every way of blurring."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels.attention import attention, varlen_attention
from sightline.kernels.logit_blur import (
    PADDINGS,
    LogitBlur,
    blur_matrix,
    blur_qk,
    blur_tokens,
    gaussian_taps,
    materialised_attention,
)
from sightline.scene.errors import InputError


def tokens(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("sigma", "size"), [(0.5, 5), (1.0, 7), (1.5, 9), (2.0, 13), (2.5, 17)])
def test_the_kernel_rounds_halves_to_even(sigma, size):
    taps = gaussian_taps(sigma)
    assert taps.shape == (size,) and taps.sum() == pytest.approx(1)
    torch.testing.assert_close(taps, taps.flip(0))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("sigma", "length"), [(1.0, 1), (2.5, 4), (1.0, 63), (1.5, 64), (20, 65), (50, 3), (2, 200)])
def test_blur_of_one_axis_is_its_matrix(padding, sigma, length):
    x = tokens(2, length, 3)
    torch.testing.assert_close(blur_tokens(x, sigma, padding), blur_matrix(length, sigma, padding) @ x)


@settings(max_examples=25, deadline=None)
@given(
    sigma_q=st.floats(0, 6),
    sigma_k=st.floats(0, 6),
    padding=st.sampled_from(PADDINGS),
    kind=st.sampled_from(["self", "cross"]),
    slots=st.sampled_from([None, (True, False), (False, False), (False, True)]),
    grids=st.booleans(),
    special=st.integers(0, 2),
    parts=st.integers(1, 3),
)
def test_factorised_equals_materialised(sigma_q, sigma_k, padding, kind, slots, grids, special, parts):
    q = tokens(2, 24, 2, 8)
    keys = 24 if kind == "self" else parts * (special + 12)
    k, v = tokens(2, keys, 2, 8, seed=1), tokens(2, keys, 2, 5, seed=2)
    segments = (special + 12,) * parts
    blur = LogitBlur(sigma_q, sigma_k, padding, "both", slots, segments, special)
    if grids:
        blur = LogitBlur(sigma_q, sigma_k, padding, "both", slots, segments, special, (2, 3, 4), (3, 4))
    out = attention(*blur_qk(q, k, blur, kind), v)
    torch.testing.assert_close(out, materialised_attention(q, k, v, blur, kind))


def test_an_item_of_a_ragged_batch_as_if_alone():
    q, k, v = tokens(30, 2, 8), tokens(21, 2, 8, seed=1), tokens(21, 2, 8, seed=2)
    q_seqlens, k_seqlens = [11, 0, 19], [7, 4, 10]
    blur = LogitBlur(1.0, 2.0, "replicate", slots=(True, True, False))
    out = varlen_attention(*blur_qk(q, k, blur, "cross", q_seqlens, k_seqlens), v, q_seqlens, k_seqlens)
    first = materialised_attention(q[None, :11], k[None, :7], v[None, :7], LogitBlur(1.0, 2.0, "replicate"))
    torch.testing.assert_close(out[:11], first[0])
    torch.testing.assert_close(out[11:], attention(q[None, 11:], k[None, 11:], v[None, 11:])[0])


@pytest.mark.parametrize("padding", ["zero", "renormalised"])
def test_voxels_of_a_full_grid_blur_as_the_grid(padding):
    axes = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(4), indexing="ij")
    coords = torch.stack(axes, -1).reshape(-1, 3)
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    q, k = tokens(24, 2, 8), tokens(24, 2, 8, seed=1)
    blur = LogitBlur(1.0, 0.7, padding, "self", grid_q=(2, 3, 4))
    dense = blur_qk(q[None], k[None], blur, "self")
    sparse = blur_qk(q[shuffled], k[shuffled], blur, "self", [24], [24], coords[shuffled] + 5)
    for one, other in zip(dense, sparse):
        torch.testing.assert_close(one[0][shuffled], other)


def test_voxels_far_apart_do_not_blur():
    q = tokens(3, 1, 4)
    coords = torch.tensor([[0, 0, 0], [40, 0, 0], [0, 40, 5]])
    blur = LogitBlur(1.0, 0, "renormalised", "self", grid_q=(1,))
    torch.testing.assert_close(blur_qk(q, q, blur, "self", [3], [3], coords)[0], q)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_stays(dtype):
    x = tokens(1, 20, 4).to(dtype)
    blurred = blur_tokens(x, 1.5)
    assert blurred.dtype == dtype
    torch.testing.assert_close(blurred.double(), blur_tokens(x.double(), 1.5), atol=1e-2, rtol=1e-2)


def test_gradients_flow():
    q, k = tokens(1, 5, 1, 2).requires_grad_(), tokens(1, 6, 1, 2, seed=1)
    assert torch.autograd.gradcheck(lambda q: blur_qk(q, k, LogitBlur(1.0, 1.0), "cross")[0], q)


@pytest.mark.parametrize("sigma", [0, 0.0])
def test_sigma_zero_is_no_blur(sigma):
    q, k = tokens(1, 5, 1, 2), tokens(1, 6, 1, 2)
    same = blur_qk(q, k, LogitBlur(sigma, sigma), "cross")
    assert same[0] is q and same[1] is k


def test_other_kinds_stay_as_they_are():
    q, k = tokens(1, 5, 1, 2), tokens(1, 6, 1, 2)
    same = blur_qk(q, k, LogitBlur(where="self"), "cross")
    assert same[0] is q and same[1] is k


@pytest.mark.parametrize("sigma", [-1, 51, float("nan"), float("inf"), "1"])
def test_a_wrong_sigma_is_refused(sigma):
    with pytest.raises(InputError, match="0 .no blur. to 50"):
        LogitBlur(sigma_q=sigma)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"padding": "circular"}, "padding"),
        ({"where": "all"}, "cross, self, both"),
        ({"special": -1}, "special"),
        ({"slots": (True,)}, "slots"),
        ({"segments": (3, 4)}, "segments"),
        ({"grid_q": (2, 2)}, "grid of 2x2"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        blur_qk(tokens(2, 5, 1, 2), tokens(2, 6, 1, 2), LogitBlur(**options), "cross")
