"""Whole dual-branch trajectories of TRELLIS (v1), latent stage, masked and not."""

from relaxflow_parity import TRAJECTORY, filled, sparse
from trellis1_trajectories import reference_network, run

from sightline.models.relaxflow.sampling import sparse_evaluator
from sightline.models.trellis1.config import LatentFlowConfig
from sightline.models.trellis1.slat_flow import LatentFlow

SYSTEM, KIND = "relaxflow", "traj_trellis_slat"


def test_every_branch(fixture, ledger):
    t, network = fixture.tensors(), reference_network(fixture)
    args = fixture.json(network.replace(".safetensors", ".json"))["args"]
    model = filled(lambda: LatentFlow(LatentFlowConfig.from_args(args)), fixture.tensors(network))
    voxels = sparse(t["noise"], t["coords"])
    found, _ = run(
        fixture,
        t["noise"],
        lambda obs, prior, options: sparse_evaluator(model, voxels, obs, prior, options),
        blurred=False,  # the released blur does not reach sparse attention
    )
    for branch, name in (("blend", "blend"), ("obs", "obs_only"), ("prior", "prior_only")):
        ledger.close(f"relaxflow.trellis.latent.{branch}", found[branch], t[name], **TRAJECTORY)
