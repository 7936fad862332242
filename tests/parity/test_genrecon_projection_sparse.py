"""Projection and aggregation on sparse voxels, refined ones included."""

import torch
from genrecon_parity import FLOAT, weights

from sightline.kernels.view_projection import lift, project_to_patches, refine_coords, voxel_centers
from sightline.models.genrecon.aggregator import ViewAggregator, sparse_condition

SYSTEM, KIND = "genrecon", "projection_sparse"


@torch.no_grad()
def test_projection_and_aggregation(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    factor = meta.get("refinement_factor", 1)
    fine, parent = refine_coords(t["coords"], factor)
    ledger.exact("projection_sparse.coords", fine, t["proj_coords"])
    ledger.exact("projection_sparse.parents", parent, t["parent_idx"])
    for item in range(len(t["cond"])):
        rows = fine[:, 0] == item
        points = voxel_centers(meta["grid_res"], fine[rows, 1:], factor)
        patch, valid = project_to_patches(points, t["extrinsics"][item], t["intrinsics"][item], meta["img_patch_res"])
        ledger.exact("projection_sparse.valid", valid.T, t["valid"][rows])
        lifted = lift(t["cond"][item], patch, valid).transpose(0, 1)
        ledger.close("projection_sparse.features", lifted, t["proj_feats"][rows], **FLOAT)
    aggregator = ViewAggregator(meta["channels"])
    aggregator.load_state_dict(weights(t))
    found = sparse_condition(
        aggregator, t["cond"], t["coords"], t["extrinsics"], t["intrinsics"], meta["grid_res"], factor
    )
    ledger.exact("aggregator_sparse.coords", t["coords"], t["agg_coords"])
    ledger.close("aggregator_sparse", found, t["agg_feats"], **FLOAT)
