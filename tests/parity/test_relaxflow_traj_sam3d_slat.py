"""SAM 3D's latent flow alone and in whole dual-branch trajectories with a mask."""

import torch
from relaxflow_parity import MODULE, TRAJECTORY, filled, numbered, sparse

from sightline.models.relaxflow.priors import pool_priors
from sightline.models.relaxflow.sampling import Guidance, Mix, attention_options, sample, sparse_evaluator
from sightline.models.relaxflow.schedules import alphas
from sightline.models.sam3d.times import flow_times
from sightline.models.trellis1.config import LatentFlowConfig
from sightline.models.trellis1.slat_flow import LatentFlow

SYSTEM, KIND = "relaxflow", "traj_sam3d_slat"


@torch.no_grad()
def test_flow_and_every_branch(fixture, ledger):
    t, m = fixture.tensors(), fixture.meta
    model = filled(lambda: LatentFlow(LatentFlowConfig.from_args(m["args"])), t)
    voxels = sparse(t["feats"][0], t["coords"])
    ledger.close("sam3d.latent_flow", model(voxels, t["t"], t["cond"]).feats, t["out"][0], **MODULE)
    zeros = torch.zeros_like(t["cond"])
    ledger.close("sam3d.latent_flow.uncond", model(voxels, t["t"], zeros).feats, t["out_cfgzero"][0], **MODULE)

    prior = pool_priors(numbered(t, "prior"), m.get("pooling", "concat"))
    guidance = Guidance(m["cfg_strength"], tuple(v / 1000 for v in m["interval"]))
    mask = t["geometry_mask"][0] if "geometry_mask" in t else None
    values = alphas(m.get("schedule", "linear_cutoff"), m["steps"], {"mid_ratio": m["mid_ratio"]})
    mix, times = Mix(values, m["prior_weight"], visible=mask), flow_times(m["steps"], m["rescale_t"])
    for branch, name in (("blend", "blend"), ("obs", "obs_only"), ("prior", "prior_only")):
        evaluate = sparse_evaluator(model, voxels, t["cond"], prior, attention_options(None, shared_uncond=True))
        out = sample(evaluate, t["noise"][0], times, guidance, mix, branch=branch, shared_uncond=True)
        out = out * t["slat_std"] + t["slat_mean"]
        ledger.close(f"relaxflow.sam3d.latent.{branch}", out, t[name + ".feats"], **TRAJECTORY)
