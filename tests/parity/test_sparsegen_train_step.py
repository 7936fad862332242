"""One training step: noise, view dropout, self-conditioning, four losses and gradients."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
try:
    from sparsegen_parity import load_model, stub_renderer, world_to_camera
    from test_sparsegen_losses import loss_options, vgg_of
finally:
    sys.path.pop(0)

from sightline.training.sparsegen.losses import total_loss
from sightline.training.sparsegen.step import StepDraws, StepOptions, TrainingViews, training_step

SYSTEM, KIND = "sparsegen", "train_step"


def step_inputs(t: dict) -> TrainingViews:
    clean, noisy = t["batch.x_cond"].shape[1], t["batch.x_in"].shape[1]
    return TrainingViews(
        images=torch.cat([t["batch.x_cond"], t["batch.x_in"] * 2 - 1], 1),
        occupancy=t["batch.training_occs"],
        world_to_camera=world_to_camera(t["batch.target_Rs"], t["batch.target_Ts"]),
        clean=clean,
        noisy=noisy,
        pose=t["batch.pose_embed"],
    )


def test_draws_follow_the_published_order(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    for name in sorted(k for k in meta if k.startswith("c") and k[1:].isdigit()):
        torch.manual_seed(meta[name]["seed"])
        draws = StepDraws.draw(step_inputs(t))
        ledger.exact("train_step.noise", draws.noise, t[f"{name}.noise"])
        assert draws.clean_uniform == pytest.approx(meta[name]["u_clean_dropout"], abs=0)
        assert draws.noisy_start == meta[name]["rand_start"]
        assert draws.self_uniform == pytest.approx(meta[name]["u_selfcond"], abs=0)


def test_losses_and_gradients(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    cfg = fixture.json("config.json")["cfg"]
    perceptual = vgg_of(fixture.tensors("losses.safetensors"))
    options = StepOptions(
        drop_all_clean=cfg["optimization"]["hard_mining_proportion"],
        noisy_dropout=cfg["optimization"]["noisy_dropout_proportion"],
        penalize=cfg["optimization"]["penalize"],
    )
    model = load_model(fixture)
    for name in sorted(k for k in meta if k.startswith("c") and k[1:].isdigit()):
        case = meta[name]
        draws = StepDraws(t[f"{name}.noise"], case["u_clean_dropout"], case["rand_start"], case["u_selfcond"])
        model.zero_grad()
        result = training_step(
            model,
            step_inputs(t),
            t[f"{name}.t"],
            draws,
            options,
            loss_options(cfg),
            perceptual=perceptual,
            renderer=stub_renderer,
        )
        ledger.close("train_step.self_conditioning", result.x_self, t[f"{name}.x_self_condition"], atol=5e-4)
        losses = torch.stack([result.terms[k] for k in ("color", "perceptual", "occupancy", "offset")])
        ledger.close("train_step.losses", losses, t[f"{name}.losses"], rtol=2e-4, atol=1e-6)
        total_loss(result.terms).backward()
        parameters = dict(model.named_parameters())
        for key in (k for k in t if k.startswith(f"{name}.grad.")):
            ours = parameters[
                {"reference_points": "reference_points.weight"}.get(key.split(".grad.")[1], key.split(".grad.")[1])
            ].grad
            scale = float(t[key].abs().max())
            ledger.close("train_step.gradients", ours / scale, t[key] / scale, atol=1e-3)
