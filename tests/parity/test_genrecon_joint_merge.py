"""Merged latents, and the groups that are decoded together."""

import torch
from genrecon_parity import FLOAT, series

from sightline.kernels.multi_diffusion import chunk_offsets
from sightline.models.genrecon.joint_decode import inflated_count, make_groups, merge_latents

SYSTEM, KIND = "genrecon", "joint_merge"


def test_merge(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    coords = [c[:, 1:] for c in series(t, "coords")]
    joint = merge_latents(t["relative_translations"], meta["R_in"], coords, series(t, "feats"))
    ledger.exact("joint_merge.coords", joint.voxels.coords, t["joint_coords"])
    ledger.close("joint_merge.feats", joint.voxels.feats, t["joint_feats"], **FLOAT)
    ledger.exact("joint_merge.mins", torch.tensor(joint.low), t["mins"])
    ledger.exact("joint_merge.maxs", torch.tensor(joint.low) + torch.tensor(joint.size), t["maxs"])


def test_groups(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    relative, coords, halo = t["group_relative_translations"], t["group_joint_coords"][:, 1:], meta["overlap_r_in"]
    offsets = chunk_offsets(relative, meta["R_in"])
    for run in meta["groups"]:
        limits = run["max_chunks_per_group"], run["max_inflated_voxels"]
        groups = make_groups(relative, meta["R_in"], coords, *limits, halo)
        ledger.exact("joint_merge.groups", [list(group.chunks) for group in groups], run["groups"])
        if limits[1] is not None:
            counts = [inflated_count(coords.long(), offsets, g.chunks, meta["R_in"], halo) for g in groups]
            ledger.exact("joint_merge.group_voxels", counts, run["counts"])
        owners = torch.stack([group.rows(coords) for group in groups]).sum(0)
        ledger.exact("joint_merge.every_voxel_has_one_owner", owners, torch.ones_like(owners))
