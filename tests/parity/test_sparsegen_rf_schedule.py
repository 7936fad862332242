"""Noise levels and the rectified-flow sampler with a denoiser in closed form."""

import re

import torch

from sightline.models.sparsegen import sampling_schedule, training_schedule
from sightline.pipelines.sparsegen import rectified_flow

SYSTEM, KIND = "sparsegen", "rf_schedule"


def test_schedules(fixture, ledger):
    t = fixture.tensors()
    for name in t:
        if match := re.fullmatch(r"sched(\d+)\.sigmas", name):
            sigmas, times = sampling_schedule(int(match[1]))
            ledger.close("schedule.sampling", sigmas, t[name], atol=1e-5)
            ledger.close("schedule.times / 1000", times / 1000, t[f"sched{match[1]}.timesteps"] / 1000, atol=1e-5)
            ledger.exact("schedule.integer times", times.long(), t[f"sched{match[1]}.timesteps"].long())
    if "train.sigmas" in t:
        sigmas, times = training_schedule(len(t["train.sigmas"]))
        ledger.close("schedule.training", sigmas, t["train.sigmas"], atol=1e-5)
        ledger.close("schedule.training times / 1000", times / 1000, t["train.timesteps"] / 1000, atol=1e-5)


def test_sampler(fixture, ledger):
    t = fixture.tensors()
    for name in t:
        if not (match := re.fullmatch(r"ana(\d+)\.x_t", name)):
            continue
        states = []

        def predict(x, time, self_condition):
            states.append(x)
            return 1.5 * torch.tanh(0.8 * x + 0.1 * self_condition + time / 1000 - 0.4)

        last = rectified_flow(predict, lambda x0: x0, t[name][0], int(match[1]))
        ledger.close("sampler.x_t", torch.stack(states), t[name], atol=1e-5)
        tests = t[f"ana{match[1]}.out"].shape[1] - 1 - last.shape[1]
        clean = torch.full_like(last[:, :1], 0.3)
        pictures = torch.cat([clean, last, last.mean(1, keepdim=True).expand(-1, tests, -1, -1, -1)], dim=1)
        ledger.close("sampler.out", (pictures.clamp(-1, 1) + 1) / 2, t[f"ana{match[1]}.out"], atol=1e-5)
