"""What the pixal3d parity modules share: building a network from a fixture, and the tolerances."""

import torch

from sightline.models.trellis2.checkpoint import assign_weights, build_model, infer_args
from sightline.models.trellis2.conditions import Condition
from sightline.scene.sparse import SparseTensor

FLOAT = dict(atol=2e-5, rtol=1e-4)
TRAJECTORY = dict(atol=5e-4, rtol=1e-4)
FLOW_KINDS = ("ss_flow_ape_unshared", "ss_flow_gated_proj", "ss_flow_proj")  # they begin like the kind `ss_flow`


def weights(tensors, prefix="state."):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def network(fixture, tensors):
    """The class and arguments of the JSON beside the fixture, with the fixture's weights."""
    meta = fixture.meta
    return make(meta["class"], meta["args"], weights(tensors))


def make(name, args, state):
    return assign_weights(build_model(name, infer_args(args, state)), state, name)


def condition(tensors):
    if "in.cond" in tensors:
        return tensors["in.cond"]
    return Condition(tensors["in.global"], tensors["in.proj"], tensors.get("in.proj_color"))


def sparse(feats, coords):
    return SparseTensor(feats, coords, int(coords[:, 0].max()) + 1)


def check_dense_flow(fixture, ledger, component):
    tensors = fixture.tensors()
    model = network(fixture, tensors)
    with torch.no_grad():
        ledger.close(component, model(tensors["in.x"], tensors["in.t"], condition(tensors)), tensors["out.v"], **FLOAT)
    if "aux.rope_phases.real_imag" in tensors:
        phases = torch.view_as_real(model.rope_phases)
        ledger.close(f"{component}.phases", phases, tensors["aux.rope_phases.real_imag"], atol=1e-6)
    return model, tensors


def check_sparse_flow(fixture, ledger, component):
    tensors = fixture.tensors()
    model = network(fixture, tensors)
    x = sparse(tensors["in.feats"], tensors["in.coords"])
    with torch.no_grad():
        out = model(x, tensors["in.t"], condition(tensors), tensors.get("in.concat_feats"))
    ledger.close(component, out.feats, tensors["out.v"], **FLOAT)
    return model, tensors, x
