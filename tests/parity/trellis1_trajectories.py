"""The three branches of a TRELLIS (v1) trajectory fixture, sampled with our dual-branch sampler."""

import torch
from relaxflow_parity import numbered

from sightline.kernels.logit_blur import LogitBlur
from sightline.models.relaxflow.priors import pool_priors
from sightline.models.relaxflow.sampling import (
    BRANCHES,
    Guidance,
    Mix,
    attention_options,
    can_share_uncond,
    sample,
)
from sightline.models.relaxflow.schedules import alphas
from sightline.models.trellis2.samplers import flow_times


def reference_network(fixture):
    """File name of the fixture that holds the network."""
    return fixture.meta["model"].split()[0]


def run(fixture, noise, make_evaluator, blurred):
    """{branch: final state}, the alphas, and whether the unconditional pass was shared."""
    t, meta = fixture.tensors(), fixture.meta
    blur = LogitBlur(meta["sigma"], meta["sigma"], where=meta["attn_type"]) if blurred else None
    shared = can_share_uncond(blur)
    prior = pool_priors(numbered(t, "prior"), meta.get("pooling", "concat"), aligned=False)
    values = alphas(meta.get("schedule", "linear_cutoff"), meta["steps"], {"mid_ratio": meta["mid_ratio"]})
    guidance = Guidance(meta["cfg_strength"], tuple(meta["cfg_interval"]))
    mix = Mix(values, meta["prior_weight"], meta.get("flow_blend", "linear"), visible=t.get("geometry_mask"))
    times = flow_times(meta["steps"], meta["rescale_t"])
    found = {}
    for branch in BRANCHES:
        evaluate = make_evaluator(t["cond_obs"], prior, attention_options(blur, shared_uncond=shared))
        with torch.no_grad():
            found[branch] = sample(evaluate, noise, times, guidance, mix, branch=branch, shared_uncond=shared)
    return found, values
