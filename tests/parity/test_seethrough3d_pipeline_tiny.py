"""The whole sampling with diffusers' parts: control image, noise, condition latents, steps, picture."""

import pytest
import torch
from seethrough3d_flux import conditions, loras, option, part, segmasks, transformer

from sightline.models.seethrough3d.schedule import flux_sigmas, image_tokens
from sightline.models.seethrough3d.tokens import condition_ids, condition_pixels, image_ids
from sightline.pipelines.seethrough3d import FluxParts, decode_picture, draw_noise, encode_condition, sample_latents

SYSTEM, KIND = "seethrough3d", "pipeline_tiny"
LATENTS, IMAGE = dict(atol=2e-4), dict(atol=1e-3)


def parts(t, meta):
    diffusers = pytest.importorskip("diffusers", reason="the diffusers path needs diffusers (pip install diffusers)")
    vae = diffusers.AutoencoderKL(**option(meta, "vae_config"))
    vae.load_state_dict(part(t, "vae."), strict=True)
    return FluxParts(transformer(t, meta), vae.eval())


def size(meta):
    return int(option(meta, "width")), int(option(meta, "height"))


def test_pipeline(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    flux, (width, height), side = parts(t, meta), size(meta), int(option(meta, "cond_size"))
    pixels = condition_pixels(t["in.condition_rgb_u8"].permute(2, 0, 1)[None] / 255, side, resample="lanczos")
    ledger.close("pipeline.condition_image", pixels, t["cond.condition_image"], atol=1e-6)

    generator = torch.Generator().manual_seed(int(option(meta, "generator_seed")))
    noise = draw_noise(flux, width, height, generator)
    ledger.close("pipeline.noise", noise, t["cond.noise_latents_packed"], atol=1e-6)
    tokens = encode_condition(flux, pixels, generator)
    ledger.close("pipeline.condition_latents", tokens, t["cond.cond_latents_packed"], **LATENTS)
    grid, own = (height // 16, width // 16), (side // 16, side // 16)
    ledger.exact("pipeline.ids", torch.cat([image_ids(*grid), condition_ids(own, grid)]), t["cond.img_ids"])
    steps = int(option(meta, "steps"))
    sigmas = flux_sigmas(steps, image_tokens(width, height))
    ledger.close("pipeline.sigmas", sigmas, t["sched.sigmas"], atol=1e-6)

    states = []
    latents = sample_latents(
        flux, noise, t["in.prompt_embeds"], t["in.pooled_prompt_embeds"],
        conditions(tokens, segmasks(t), option(meta, "call_ids")), loras(t, meta), width, height,
        steps=steps, guidance=float(option(meta, "guidance")), callback=lambda done, steps, x: states.append(x),
    )  # fmt: skip
    ledger.close("pipeline.steps", torch.stack(states), t["out.latents_per_step"], **LATENTS)
    ledger.close("pipeline.latents", latents, t["out.latents_packed"], **LATENTS)
    ledger.close("pipeline.image", decode_picture(flux, latents, width, height), t["out.image"], **IMAGE)


def test_the_mean_is_used_unless_a_latent_is_drawn(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    flux = parts(t, meta)
    from sightline.models.seethrough3d.tokens import pack

    config = flux.vae.config
    expected = pack((t["cond.vae_mean"] - config.shift_factor) * config.scaling_factor)
    ledger.close("pipeline.condition_mean", encode_condition(flux, t["cond.condition_image"]), expected, **LATENTS)
