"""The conditioned structure flow, LoRA folded and unfolded: condition and both velocities."""

import torch
from genrecon_parity import FLOAT, NETWORK, weights

from sightline.kernels.view_projection import voxel_centers
from sightline.models.genrecon.checkpoint import LoraConfig, build_flow, from_state
from sightline.models.genrecon.flows import SceneCondition, ViewTokens
from sightline.models.trellis2.checkpoint import assign_weights

SYSTEM, KIND = "genrecon", "ss_flow"


@torch.no_grad()
def test_velocity(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    args, lora, state = {**meta["args"], "dense": True}, LoraConfig(**meta["lora"]), weights(fixture.tensors())
    unfolded = assign_weights(build_flow(args, lora), {k: v for k, v in state.items() if k != "rope_phases"})
    for name, model in (("ss_flow", from_state(state, args, lora=lora)), ("ss_flow.unfolded", unfolded)):
        points = voxel_centers(args["resolution"])
        found = [
            model.aggregator.from_tokens(tokens, points, e, k)
            for tokens, e, k in zip(t["img_feats"], t["extrinsics"], t["intrinsics"])
        ]
        ledger.close(f"{name}.condition", torch.stack(found), t["cond_3D"], **FLOAT)
        views = [ViewTokens(tokens) for tokens in t["cond_2D"]]
        v = model(t["x"], t["t"], SceneCondition(views, t["cond_3D"]))
        ledger.close(name, v, t["v"], **NETWORK)
        ledger.close(f"{name}.uncond", model(t["x"], t["t"], SceneCondition(None, None)), t["v_uncond"], **NETWORK)
        zeros = SceneCondition([ViewTokens(torch.zeros_like(v.tokens)) for v in views], torch.zeros_like(t["cond_3D"]))
        ledger.close(f"{name}.uncond_in_full", model(t["x"], t["t"], zeros), t["v_uncond"], **NETWORK)
    ledger.close("ss_flow.phases", torch.view_as_real(unfolded.rope_phases), t["sd.rope_phases__as_real"], atol=1e-6)
