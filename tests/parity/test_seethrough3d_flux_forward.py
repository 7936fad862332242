"""FLUX with condition tokens, masks and LoRA through diffusers' layers; the ComfyUI path is in tests/comfy."""

import pytest
import torch
from seethrough3d_flux import conditions, loras, option, segmasks, transformer

from sightline.kernels.split_attention import dense_mask
from sightline.models.seethrough3d.diffusers_flux import velocity
from sightline.models.seethrough3d.tokens import condition_ids, image_ids, text_links

SYSTEM, KIND = "seethrough3d", "flux_forward"
FORWARD = dict(atol=1e-4)


def run(fixture, call_ids, **options):
    t, meta = fixture.tensors(), fixture.meta
    rows = conditions(t["in.cond_hidden_states"], segmasks(t), call_ids, len(option(meta, "lora_weights")))
    arguments = (
        t["in.hidden_states"],
        t["in.encoder_hidden_states"],
        t["in.pooled_projections"],
        t["in.timestep"],
        t.get("in.guidance"),
        tuple(option(meta, "img_grid")),
        rows,
        loras(t, meta),
    )
    with torch.no_grad():
        return velocity(transformer(t, meta), *arguments, **options)


def test_velocity_and_every_block(fixture, ledger):
    t, call_ids, seen = fixture.tensors(), option(fixture.meta, "call_ids"), set()

    def observe(kind, index, outputs):
        for name, value in outputs.items():
            if value.shape[1]:  # the last block leaves the condition rows out, since nothing reads them
                ledger.close("flux.blocks", value, t[f"tap.{kind}.{index}.{name}"], **FORWARD)
                seen.add(f"tap.{kind}.{index}.{name}")

    ledger.close("flux.velocity", run(fixture, call_ids, observe=observe), t["out.sample"], **FORWARD)
    taps = {name for name in t if name.startswith("tap.")}
    last = option(fixture.meta, "config")["num_single_layers"] - 1
    assert seen == taps - {f"tap.single.{last}.cond"}


def test_without_call_ids(fixture, ledger):
    ledger.close("flux.velocity.no_text", run(fixture, None), fixture.tensors()["out.sample_no_call_ids"], **FORWARD)


def test_second_step_uses_what_the_first_kept(fixture, ledger):
    call_ids, cache = option(fixture.meta, "call_ids"), {}
    for _ in range(2):
        ledger.close(
            "flux.velocity.cached", run(fixture, call_ids, cache=cache), fixture.tensors()["out.sample"], **FORWARD
        )
    assert cache["qkv"][0].shape[2] == cache["links"].total


def test_mask(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    count = len(option(meta, "lora_weights"))
    rows = conditions(t["in.cond_hidden_states"], segmasks(t), option(meta, "call_ids"), count)
    base = t["in.encoder_hidden_states"].shape[1] + t["in.hidden_states"].shape[1]
    ledger.exact("flux.mask", dense_mask(text_links(rows), base), t["mask.allowed"])


def test_ids(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    grid, condition = tuple(option(meta, "img_grid")), tuple(t["in.segmasks"].shape[-2:])
    count = len(option(meta, "lora_weights"))
    ids = torch.cat([image_ids(*grid)] + [condition_ids(condition, grid)] * count)
    ledger.exact("flux.ids", ids, t["in.img_ids"])


def test_checkpointing_gives_the_same_gradients(fixture):
    t, meta = fixture.tensors(), fixture.meta
    rows = conditions(t["in.cond_hidden_states"], segmasks(t), option(meta, "call_ids"))
    if len(option(meta, "lora_weights")) > 1:
        pytest.skip("one adapter is enough for gradients")
    base, gradients = transformer(t, meta), []
    for checkpoint in (False, True):
        (adapter,) = loras(t, meta)
        adapter.lora.requires_grad_(True)
        out = velocity(
            base, t["in.hidden_states"], t["in.encoder_hidden_states"], t["in.pooled_projections"], t["in.timestep"],
            t["in.guidance"], tuple(option(meta, "img_grid")), rows, [adapter], checkpoint=checkpoint,
        )  # fmt: skip
        (out - t["out.sample"] - 1).square().mean().backward()
        gradients.append([p.grad for p in adapter.lora.parameters()])
    # Nothing reads the queries of the condition rows in the last block.
    reached = [g for g in gradients[0] if g is not None]
    assert len(reached) == len(gradients[0]) - 2 and all(bool(g.abs().max() > 0) for g in reached)
    for one, other in zip(*gradients):
        assert one is other is None or torch.allclose(one, other, rtol=1e-4, atol=1e-9)
