"""The condition of a whole scene, dense and sparse, in memory and from a file."""

import torch
from genrecon_parity import FLOAT, series, weights

from sightline.kernels.multi_diffusion import DenseOverlap, SparseOverlap, chunk_offsets
from sightline.models.genrecon.aggregator import ViewAggregator
from sightline.models.genrecon.joint_condition import ConditionStore, DenseCondition, SceneViews, SparseCondition

SYSTEM, KIND = "genrecon", "global_cond"


@torch.no_grad()
def test_conditions(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    dense = "coords_0" not in t
    aggregator = ViewAggregator(meta["cond_channels"], two_pass=not dense)
    aggregator.load_state_dict({k.removeprefix("aggregator."): v for k, v in weights(t).items()})
    views = SceneViews(t["img_feats"][0], t["extrinsics_c0"][0], t["intrinsics"][0])
    relative, resolution = t["relative_translations"], meta["resolution"]
    offsets, chunks = chunk_offsets(relative, resolution), range(len(relative))
    for limit in (1 << 30, 0):
        if dense:
            overlap = DenseOverlap(offsets, resolution)
            cond = DenseCondition(aggregator, views, overlap, relative, batch=50)
            for i in chunks:
                ledger.close("global_cond.dense", cond.of([i])[0], t["cond_3D"][i], **FLOAT)
            continue
        overlap = SparseOverlap(offsets, resolution, [c[:, 1:] for c in series(t, "coords")])
        store = ConditionStore(len(overlap), meta["cond_channels"], limit=limit)
        cond = SparseCondition(aggregator, views, overlap, relative, batch=50, store=store)
        for i in chunks:
            ledger.close("global_cond.sparse", cond.of([i]), t[f"cond_3D_{i}"], **FLOAT)
        store.close()
