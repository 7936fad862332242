"""Noise levels with FLUX's dynamic shift, and the positions of image and condition tokens."""

import torch

from sightline.models.seethrough3d.schedule import dynamic_shift, flux_sigmas, image_tokens, released_rounding
from sightline.models.seethrough3d.tokens import condition_ids, image_ids

SYSTEM, KIND = "seethrough3d", "schedule_and_ids"


def cases(t):
    for name in sorted({key.split(".")[0] for key in t}):
        size, steps = name.split("_")
        width, height = (int(side) for side in size.split("x"))
        yield name, width, height, int(steps)


def test_schedule(fixture, ledger):
    t = fixture.tensors()
    scheduler = fixture.meta["scheduler"]
    shifts = scheduler["base_shift"], scheduler["max_shift"]
    for name, width, height, steps in cases(t):
        tokens = image_tokens(width, height)
        ledger.close("schedule.mu", torch.tensor([dynamic_shift(tokens, *shifts)]), t[f"{name}.mu"], atol=1e-6)
        sigmas = flux_sigmas(steps, tokens, *shifts)
        ledger.close("schedule.sigmas", sigmas, t[f"{name}.sigmas"], atol=1e-6)
        ledger.close("schedule.timesteps", sigmas[:-1] * 1000, t[f"{name}.timesteps"], atol=1e-3)
        recorded = t[f"{name}.timesteps"]
        seen = released_rounding(recorded, torch.bfloat16)
        ledger.exact("schedule.bf16_rounding", seen, t[f"{name}.timestep_seen_by_embedder_bf16"])


def test_ids(fixture, ledger):
    t = fixture.tensors()
    for name, width, height, _ in cases(t):
        grid = height // 16, width // 16
        side = round(len(t[f"{name}.cond_ids_f32"]) ** 0.5)
        found = {"img": image_ids(*grid), "cond": condition_ids((side, side), grid)}
        for kind, ids in found.items():
            ledger.exact(f"ids.{kind}", ids, t[f"{name}.{kind}_ids_f32"])
            ledger.exact(f"ids.{kind}.bf16", ids.to(torch.bfloat16), t[f"{name}.{kind}_ids_bf16"])
