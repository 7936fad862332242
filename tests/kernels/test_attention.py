import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.kernels import backends
from sightline.kernels.attention import attention, varlen_attention
from sightline.scene.errors import InputError, MissingDependency


def tokens(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_fused_attention_equals_the_definition(seed, b, lq, lk, heads, scaled):
    q, k, v = tokens(seed, b, lq, heads, 8), tokens(seed + 1, b, lk, heads, 8), tokens(seed + 2, b, lk, heads, 4)
    scale = 0.3 if scaled else None
    found = attention(q, k, v, scale=scale)
    torch.testing.assert_close(found, attention(q, k, v, scale=scale, backend="plain"), atol=1e-5, rtol=1e-5)
    weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) * (scale or 8**-0.5), -1)
    torch.testing.assert_close(found, torch.einsum("bhqk,bkhd->bqhd", weights, v), atol=1e-5, rtol=1e-5)


LENGTHS = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 7)), min_size=1, max_size=4)


@given(st.integers(0, 10**6), LENGTHS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_items_do_not_see_each_other(seed, lengths, grad):
    q_seqlens, k_seqlens = (list(x) for x in zip(*lengths))
    q, k, v = (
        tokens(seed, sum(q_seqlens), 2, 8),
        tokens(seed + 1, sum(k_seqlens), 2, 8),
        tokens(seed + 2, sum(k_seqlens), 2, 8),
    )
    with torch.set_grad_enabled(grad):
        found = varlen_attention(q, k, v, q_seqlens, k_seqlens) if sum(q_seqlens) else q
    item_q = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(q_seqlens))
    item_k = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(k_seqlens))
    logits = torch.einsum("qhd,khd->hqk", q, k) * 8**-0.5
    logits = logits.masked_fill(item_q[:, None] != item_k, -torch.inf)
    torch.testing.assert_close(found, torch.einsum("hqk,khd->qhd", torch.softmax(logits, -1), v), atol=1e-5, rtol=1e-5)


def test_an_item_gives_what_it_gives_alone():
    q, k, v = tokens(1, 11, 2, 16), tokens(2, 9, 2, 16), tokens(3, 9, 2, 16)
    with torch.no_grad():
        together = varlen_attention(q, k, v, [4, 7], [6, 3])
        assert torch.equal(together[4:], varlen_attention(q[4:], k[6:], v[6:], [7], [3]))


def test_gradients_of_unequal_items():
    q, k, v = (tokens(i, 5, 1, 2, dtype=torch.float64).requires_grad_() for i in range(3))
    assert torch.autograd.gradcheck(lambda *x: varlen_attention(*x, [2, 3], [4, 1]), (q, k, v))


@pytest.mark.parametrize("dtype, eps", [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_half_precision_keeps_its_dtype_and_accuracy(dtype, eps):
    q, k, v = (tokens(i, 1, 33, 2, 32, dtype=dtype) for i in range(3))
    found = attention(q, k, v)
    assert found.dtype == dtype
    exact = attention(q.double(), k.double(), v.double())
    assert float((found.double() - exact).abs().max()) < 2 * eps


FLASH = """
import torch
from sightline.kernels import backends
from sightline.kernels.attention import varlen_attention
calls = []
def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale):
    lengths = [c.diff().tolist() for c in (cu_seqlens_q, cu_seqlens_k)]
    assert cu_seqlens_q.dtype == torch.int32 and [max(x) for x in lengths] == [max_seqlen_q, max_seqlen_k]
    calls.append(lengths)
    return {factor} * varlen_attention(q.float(), k.float(), v.float(), *lengths, scale=softmax_scale).to(q.dtype)
"""


@pytest.mark.parametrize("factor, state", [(1.0, "agreed"), (1.1, "disagreed")])
def test_flash_attention_is_used_only_if_it_agrees(tmp_path, monkeypatch, factor, state):
    (tmp_path / "flash_attn.py").write_text(FLASH.format(factor=factor))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(backends, "KNOWN", dict(backends.KNOWN))
    monkeypatch.setattr(backends, "_verdicts", {})
    for name in [name for name in sys.modules if name.split(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, name)
    backends.register(replace(backends.KNOWN["flash_attn"], device="cpu"))
    assert backends.verdict("flash_attn").state == state
    q, k = tokens(1, 5, 2, 8), tokens(2, 7, 2, 8)
    found = varlen_attention(q, k, k, [2, 3], [4, 3], scale=0.4, backend="flash")
    torch.testing.assert_close(found, factor * varlen_attention(q, k, k, [2, 3], [4, 3], scale=0.4, backend="plain"))
    monkeypatch.delitem(sys.modules, "flash_attn")


def test_flash_attention_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    x = torch.zeros(3, 1, 4)
    with pytest.raises(MissingDependency, match="pip install flash-attn"):
        varlen_attention(x, x, x, [1, 2], [1, 2], backend="flash")


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda q: varlen_attention(q, q, q, [4, 1], [5]), "`q_seqlens` has 2 items"),
        (lambda q: varlen_attention(q, q, q, [4], [5]), "sum to 4 and 5"),
        (lambda q: varlen_attention(q, q, q, [4, 1], [5, 0]), "no keys"),
        (lambda q: attention(q[None], q[None, :, :1], q[None]), "that fit"),
        (lambda q: attention(q[None], q[None, ..., :1], q[None]), "head width"),
        (lambda q: attention(q[None], q[None], q[None], backend="flash"), "'plain'"),
    ],
)
def test_what_does_not_fit_is_named(call, said):
    with pytest.raises(InputError, match=said):
        call(torch.zeros(5, 2, 4))
