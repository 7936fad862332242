"""Whole dual-branch trajectories of TRELLIS (v1), structure stage."""

from relaxflow_parity import SCHEDULE, TRAJECTORY, filled
from trellis1_trajectories import reference_network, run

from sightline.models.relaxflow.sampling import dense_evaluator
from sightline.models.trellis1.structure_flow import PatchedStructureFlow

SYSTEM, KIND = "relaxflow", "traj_trellis_ss"


def test_every_branch(fixture, ledger):
    t, network = fixture.tensors(), reference_network(fixture)
    args = fixture.json(network.replace(".safetensors", ".json"))["args"]
    model = filled(lambda: PatchedStructureFlow.from_args(args), fixture.tensors(network))
    found, values = run(
        fixture, t["noise"], lambda obs, prior, options: dense_evaluator(model, obs, prior, options), blurred=True
    )
    ledger.close("relaxflow.alphas", values, t["alpha"], **SCHEDULE)
    for branch, name in (("blend", "blend"), ("obs", "obs_only"), ("prior", "prior_only")):
        ledger.close(f"relaxflow.trellis.structure.{branch}", found[branch], t[name], **TRAJECTORY)
