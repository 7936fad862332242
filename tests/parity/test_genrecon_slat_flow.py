"""The conditioned sparse flows of shape and texture: condition, both velocities, cached keys, one item alone."""

import torch
from genrecon_parity import FLOAT, NETWORK, weights

from sightline.models.genrecon.aggregator import sparse_condition
from sightline.models.genrecon.checkpoint import LoraConfig, from_state
from sightline.models.genrecon.flows import KeyValueCache, SceneCondition, ViewTokens
from sightline.scene.sparse import SparseTensor

SYSTEM, KIND = "genrecon", "slat_flow"


@torch.no_grad()
def test_velocity(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    model = from_state(weights(t), {**meta["args"], "dense": False}, lora=LoraConfig(**meta["lora"]))
    items = len(t["img_feats"])
    found = sparse_condition(
        model.aggregator, t["img_feats"], t["coords"], t["extrinsics"], t["intrinsics"], meta["args"]["resolution"]
    )
    name = "slat_flow.tex" if "concat_cond" in t else "slat_flow.shape"
    ledger.close(f"{name}.condition", found, t["cond_3D"], **FLOAT)
    views = [ViewTokens(tokens) for tokens in t["img_feats"][:, 0]]
    x, concat = SparseTensor(t["x"], t["coords"], items), t.get("concat_cond")
    cond = SceneCondition(views, t["cond_3D"])
    ledger.close(name, model(x, t["t"], cond, concat).feats, t["v"], **NETWORK)
    with KeyValueCache(model, views, 1 << 30) as cache:
        assert len(cache.views) == items
        ledger.close(f"{name}.cached", model(x, t["t"], cond, concat).feats, t["v"], **NETWORK)
    uncond = model(x, t["t"], SceneCondition(None, None), concat).feats
    ledger.close(f"{name}.uncond", uncond, t["v_uncond"], **NETWORK)
    for item, rows in enumerate(x.layout):
        alone = SceneCondition(views[item : item + 1], t["cond_3D"][rows])
        part = None if concat is None else concat[rows]
        v = model(x.item(item), t["t"][item : item + 1], alone, part).feats
        ledger.close(f"{name}.alone", v, t["v"][rows], **NETWORK)
