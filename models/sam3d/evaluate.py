"""SAM 3D's structure flow as the dual-branch sampler evaluates it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..trellis2.blocks import AttentionOptions
from .mot_flow import Latents, MotFlow


def structure_evaluator(
    model: MotFlow, obs: Tensor, prior: Tensor, options: Mapping[str, AttentionOptions], d: float = 0.0
) -> Callable[[Latents, float, str], Latents]:
    """evaluate(latents, t, name) with t the flow time (data at 1).

    obs, prior: tokens [B, M, D]; the unconditional condition is zeros. options: by name, see
    `relaxflow.sampling.attention_options`. d: step size the network is told (0, or 1 / steps where it is distilled).
    """
    conditions = {"obs": obs, "prior": prior, "uncond": torch.zeros_like(obs), "prior_uncond": torch.zeros_like(prior)}

    def evaluate(x: Latents, t: float, name: str) -> Latents:
        time, step = (x["shape"].new_tensor([1000 * float(value)]) for value in (t, d))
        step = step if model.config.is_shortcut_model else None
        return model(x, time, conditions[name], options[name], step)

    return evaluate
