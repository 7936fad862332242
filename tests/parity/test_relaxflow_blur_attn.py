"""Blurred attention inside the official layers: the kernel, the logits, the layer plain and blurred."""

import torch
from relaxflow_parity import KERNEL, MODULE, filled, numbered

from sightline.kernels.logit_blur import LogitBlur, blur_matrix, gaussian_taps, materialised_attention
from sightline.models.trellis2.blocks import AttentionOptions, Context, CrossAttention, SelfAttention

SYSTEM, KIND = "relaxflow", "blur_attn"


def layer(meta, tensors):
    size = (meta["channels"], meta["heads"], meta["qk_rms_norm"])
    if meta["type"] == "self":
        return filled(lambda: SelfAttention(*size), tensors)
    return filled(lambda: CrossAttention(size[0], meta["ctx_channels"], *size[1:]), tensors)


def test_kernel_and_logits(fixture, ledger):
    t, sigma = fixture.tensors(), fixture.meta["sigma"]
    ledger.close("blur.kernel", gaussian_taps(sigma), t["kernel"], **KERNEL)
    logits = t["logits"].double()
    a_q, a_k = (blur_matrix(size, sigma) for size in logits.shape[-2:])
    ledger.close("blur.logits", a_q @ logits @ a_k.mT, t["logits_blur"], **MODULE)
    if "logits_blur_q" in t:
        ledger.close("blur.logits.queries", a_q @ logits, t["logits_blur_q"], **MODULE)
        ledger.close("blur.logits.keys", logits @ a_k.mT, t["logits_blur_k"], **MODULE)


@torch.no_grad()
def test_layer(fixture, ledger, monkeypatch):
    t, meta = fixture.tensors(), fixture.meta
    attend, priors = layer(meta, t), numbered(t, "prior")

    def run(options):
        if meta["type"] == "self":
            return attend(t["x"], None, None, options)
        return attend(t["x"], Context(torch.cat(priors, 1), options=options), None)

    blur = LogitBlur(meta["sigma"], meta["sigma"], where="both")
    ledger.close("blur.layer.plain", run(None), t["out_plain"], **MODULE)
    ledger.close("blur.layer.factorised", run(AttentionOptions(blur)), t["out_blur"], **MODULE)
    ledger.close("blur.layer.plain_again", run(AttentionOptions()), t["out_plain_after_exit"], **MODULE)

    def materialised(q, k, v):
        return materialised_attention(q, k, v, blur, meta["type"])

    monkeypatch.setattr("sightline.models.trellis2.blocks.attention", materialised)
    ledger.close("blur.layer.materialised", run(None), t["out_blur"], **MODULE)
