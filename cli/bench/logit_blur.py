"""Attention with blurred logits: through queries and keys, against the matrix of logits."""

from __future__ import annotations

from .op import Contender, Op

HEADS, WIDTH, SIGMA = 16, 64, 2.5


def _case(case: dict):
    import torch

    generator = torch.Generator().manual_seed(0)
    sizes = (case["queries"], case["keys"], case["keys"])
    return [torch.randn(1, n, HEADS, WIDTH, generator=generator).to(case["device"]) for n in sizes]


def _factorised(case):
    import torch

    from ...kernels.attention import attention
    from ...kernels.logit_blur import LogitBlur, blur_qk

    q, k, v = _case(case)
    blur = LogitBlur(SIGMA, SIGMA)

    def attend():
        with torch.no_grad():
            return {"out": attention(*blur_qk(q, k, blur, "cross"), v)}

    return attend


def _materialised(case):
    import torch
    import torch.nn.functional as F

    from ...kernels.logit_blur import gaussian_taps

    q, k, v = (x.transpose(1, 2) for x in _case(case))
    taps = gaussian_taps(SIGMA, q.device)
    half = len(taps) // 2

    def attend():
        with torch.no_grad():
            logits = q @ k.mT * WIDTH**-0.5
            flat = logits.view(-1, 1, *logits.shape[2:])
            flat = F.conv2d(flat, taps[None, None, :, None], padding=(half, 0))
            flat = F.conv2d(flat, taps[None, None, None, :], padding=(0, half))
            logits = flat.view_as(logits)
            logits = logits - logits.amax(-1, keepdim=True)
            return {"out": (torch.softmax(logits, -1) @ v).transpose(1, 2)}

    return attend


def _plain(case):
    import torch

    from ...kernels.attention import attention

    q, k, v = _case(case)

    def attend():
        with torch.no_grad():
            return {"out": attention(q, k, v)}

    return attend


def _op(priors: int) -> Op:
    keys = 1374 * priors
    return Op(
        f"logit_blur_{priors}",
        f"blurred attention over {keys} keys ({priors} prior{'s' if priors > 1 else ''}), 16 heads, sigma {SIGMA}",
        {size: dict(queries=n, keys=keys) for size, n in (("S", 1024), ("M", 2048), ("L", 4096))},
        (
            Contender("ours, factorised", _factorised),
            Contender(
                "matrix of logits",
                _materialised,
                sizes=("S", "M") if priors == 1 else ("S",),
                note="the steps of the released code; it needs 18 times its logits, "
                + ("7 GB at L: left out" if priors == 1 else "10 GB at M and 20 GB at L: left out"),
            ),
            Contender("not blurred", _plain, same=False, note="what attention costs without a blur"),
        ),
    )


OPS = [_op(1), _op(3)]
