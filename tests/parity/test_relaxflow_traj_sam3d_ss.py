"""Whole dual-branch trajectories of SAM 3D's structure stage: shape and pose."""

from relaxflow_parity import TRAJECTORY, numbered
from sam3d_parity import close, latents, mot_flow

from sightline.kernels.logit_blur import LogitBlur
from sightline.models.relaxflow.priors import pool_priors
from sightline.models.relaxflow.sampling import Guidance, Mix, attention_options, can_share_uncond, sample
from sightline.models.relaxflow.schedules import alphas
from sightline.models.sam3d.evaluate import structure_evaluator
from sightline.models.sam3d.times import shortcut_times

SYSTEM, KIND = "relaxflow", "traj_sam3d_ss"


def test_every_branch(fixture, ledger):
    t, m = fixture.tensors(), fixture.meta
    network = m["model"]
    model = mot_flow(fixture.json(network.replace(".safetensors", ".json")), fixture.tensors(network))
    # The released blur knows the two cross-attentions of a block and not its self-attention: "self" blurs nothing.
    blur = None if m["attn_type"] == "self" else LogitBlur(m["sigma"], m["sigma"], where="cross")
    prior = pool_priors(numbered(t, "prior"), m.get("pooling", "concat"))
    guidance = Guidance(m["cfg_strength"], tuple(v / 1000 for v in m["interval"]))
    values = alphas(m.get("schedule", "linear_cutoff"), m["steps"], {k: m[k] for k in ("alpha0", "mid_ratio")})
    times, d = shortcut_times(m["steps"], m["rescale_t"])
    starts = {"obs": "obs_noise", "blend": "blend_noise", "prior": "blend_noise"}
    for branch, name in (("blend", "blend"), ("obs", "obs_only"), ("prior", "prior_only")):
        options = attention_options(blur, shared_uncond=can_share_uncond(blur))
        evaluate = structure_evaluator(model, t["cond_obs"], prior, options, d)
        out = sample(
            evaluate,
            latents(t, starts[branch]),
            times,
            guidance,
            Mix(values, m["prior_weight"]),
            branch=branch,
            shared_uncond=True,
        )
        close(ledger, f"relaxflow.sam3d.structure.{branch}", out, latents(t, name), **TRAJECTORY)
