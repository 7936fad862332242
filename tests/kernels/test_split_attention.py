"""Split attention against its definition with the whole mask."""

import pytest
import torch

from sightline.kernels.split_attention import TextLinks, dense_attention, dense_mask, fused, split_attention
from sightline.scene.errors import InputError

WORDS, IMAGE = 12, 20


def case(sizes=(9,), batch=2, columns=(2, 3, 7), seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    allowed = tuple(torch.rand(batch, size, len(columns), generator=generator) > 0.5 for size in sizes)
    links = TextLinks(tuple(sizes), torch.tensor(columns, dtype=torch.int64), allowed)
    length = WORDS + IMAGE + links.total
    q, k, v = (torch.randn(batch, 2, length, 8, generator=generator).to(dtype) for _ in range(3))
    return q, k, v, links


@pytest.mark.parametrize("sizes", [(9,), (9, 4), (1,)])
@pytest.mark.parametrize("columns", [(2, 3, 7), (), tuple(range(WORDS))], ids=["some", "none", "all"])
def test_equals_the_definition(sizes, columns):
    q, k, v, links = case(sizes, columns=columns)
    torch.testing.assert_close(split_attention(q, k, v, links), dense_attention(q, k, v, links), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_and_near(dtype):
    q, k, v, links = case(dtype=dtype)
    links.allowed[0][0] = False  # cells that read no word at all
    found = split_attention(q, k, v, links)
    expected = dense_attention(q.float(), k.float(), v.float(), links)
    assert found.dtype == dtype and bool(found.isfinite().all())
    torch.testing.assert_close(found.float(), expected, atol=3e-2, rtol=3e-2)


def test_condition_rows_may_be_left_out():
    q, k, v, links = case()
    base = WORDS + IMAGE
    found = split_attention(q[:, :, :base], k, v, links)
    torch.testing.assert_close(found, dense_attention(q, k, v, links)[:, :base], atol=1e-5, rtol=1e-5)


def test_condition_rows_see_neither_image_nor_other_conditions_nor_unbound_words():
    q, k, v, links = case((9, 4))
    base = WORDS + IMAGE
    before = split_attention(q, k, v, links)[:, base : base + 9]
    moved = v.clone()
    unbound = [i for i in range(WORDS) if i not in links.columns.tolist()]
    moved[:, :, unbound] += 100
    moved[:, :, WORDS:base] += 100
    moved[:, :, base + 9 :] += 100
    assert torch.equal(split_attention(q, k, moved, links)[:, base : base + 9], before)


def test_no_call_has_a_full_mask():
    q, k, v, links = case((9, 4))
    seen = []

    def watch(q, k, v, mask):
        seen.append((q.shape[2], k.shape[2], None if mask is None else tuple(mask.shape)))
        return fused(q, k, v, mask)

    split_attention(q, k, v, links, watch)
    assert seen == [(32, 45, None), (9, 12, (2, 1, 9, 12)), (4, 7, (2, 1, 4, 7))]


def test_a_hosts_mask_is_for_the_base_rows():
    q, k, v, links = case()
    base = WORDS + IMAGE
    mask = torch.zeros(1, 1, base, k.shape[2])
    mask[..., WORDS:base] = -1e9
    found, free = split_attention(q, k, v, links, mask=mask), split_attention(q, k, v, links)
    assert torch.equal(found[:, base:], free[:, base:])
    assert float((found[:, :base] - free[:, :base]).abs().max()) > 1e-3


def test_gradients_equal_those_of_the_definition():
    q, k, v, links = case()
    grads = []
    for attention in (split_attention, dense_attention):
        inputs = [x.clone().requires_grad_(True) for x in (q, k, v)]
        attention(*inputs, links).square().sum().backward()
        grads.append([x.grad for x in inputs])
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_refused():
    q, k, v, links = case()
    with pytest.raises(InputError, match="must fit"):
        split_attention(q[:, :, :5], k, v, links)
    with pytest.raises(InputError, match="must fit"):
        split_attention(q[:, :, :5], k[:, :, :5], v[:, :, :5], links)
    with pytest.raises(InputError, match="read 2"):
        TextLinks((9,), torch.tensor([1, 2]), (torch.zeros(1, 9, 3, dtype=torch.bool),))


def test_the_mask_without_text():
    links = TextLinks.none((2, 3))
    mask = dense_mask(links, 4)[0, 0]
    assert bool(mask[:4].all()) and int(mask[4:].sum()) == 4 + 9
    assert links.bias(0, torch.float32) is None
