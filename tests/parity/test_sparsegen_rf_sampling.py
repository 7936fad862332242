"""The whole sampler with the small model: every state entering every step, and the final pictures."""

import re
import sys
from pathlib import Path

import pytest
import torch

from sightline.models.sparsegen import render_views
from sightline.pipelines.sparsegen import sample_gaussians

sys.path.insert(0, str(Path(__file__).parent))
try:
    from sparsegen_parity import load_model, stub_renderer, world_to_camera
finally:
    sys.path.pop(0)

SYSTEM, KIND = "sparsegen", "rf_sampling"


@pytest.mark.parametrize("cached", [True, False])
def test_sampling(fixture, ledger, cached):
    t, model = fixture.tensors(), load_model(fixture)
    inputs = world_to_camera(t["cond.target_Rs"], t["cond.target_Ts"])
    targets = torch.cat([inputs, world_to_camera(t["cond.test_Rs"], t["cond.test_Ts"])], dim=1)
    for steps in sorted(int(m[1]) for name in t if (m := re.fullmatch(r"n(\d+)\.in\.noise", name))):
        noise, seen = t[f"n{steps}.in.noise"], []

        def record(module, args, kwargs):
            views, times = args[0][:, args[0].shape[1] - noise.shape[1] :], args[1]
            seen.append((views[:, :, :3], views[:, :, 9:], times[:, -1]))

        with model.register_forward_pre_hook(record, with_kwargs=True):
            gaussians = sample_gaussians(
                model, t["cond.x_cond"], inputs, noise, steps=steps, renderer=stub_renderer, cached=cached
            )
        x, self_condition, times = (torch.stack(part) for part in zip(*seen))
        ledger.exact("sampling.network time", times, t[f"n{steps}.time"])
        ledger.close("sampling.x_t", x, t[f"n{steps}.x_t"], atol=5e-4)
        ledger.close("sampling.self-conditioning", self_condition, t[f"n{steps}.x_self"], atol=5e-4)
        pictures = render_views(gaussians, targets, model.config, renderer=stub_renderer)[0]
        ledger.close("sampling.pictures", ((pictures.clamp(-1, 1) + 1) / 2).clamp(0, 1), t[f"n{steps}.out"], atol=5e-4)
