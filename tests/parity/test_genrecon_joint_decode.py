"""Shape and texture of a scene decoded at once, in groups, and streamed: one and the same mesh.

The released grouped decoding repeats faces and voxels where its groups overlap; as sets they are compared with ours.
"""

import torch
from genrecon_parity import NETWORK, series, weights

from sightline.models.genrecon.joint_decode import decode_scene, make_groups, merge_latents
from sightline.models.trellis2.checkpoint import assign_weights, build_model

SYSTEM, KIND = "genrecon", "joint_decode"


def scene_parts(fixture, t):
    meta = fixture.meta
    levels = len(meta["model_channels"])
    args = {name: meta[name] for name in ("model_channels", "latent_channels", "num_blocks", "resolution")}
    args.update(block_type=[meta["block"]] * levels, up_block_type=[meta["up_block"]] * (levels - 1))
    shape = assign_weights(build_model("FlexiDualGridVaeDecoder", args), weights(t, "shape_dec."))
    args.update(out_channels=6, pred_subdiv=False)
    texture = assign_weights(build_model("SparseUnetVaeDecoder", args), weights(t, "tex_dec."))
    coords, relative = [c[:, 1:] for c in series(t, "coords")], t["relative_translations"]
    latents = [merge_latents(relative, meta["R_in"], coords, series(t, f"{k}_feats")) for k in ("shape", "tex")]
    return shape, texture, *latents


@torch.no_grad()
def test_single_pass(fixture, ledger):
    t = fixture.tensors()
    mesh = decode_scene(*scene_parts(fixture, t), as_released=True)
    ledger.close("joint_decode.vertices", mesh.vertices, t["vertices"], **NETWORK)
    ledger.exact("joint_decode.faces", mesh.faces, t["faces"])
    ledger.close("joint_decode.aabb", mesh.aabb, t["aabb"], atol=1e-6)
    ledger.exact("joint_decode.grid_size", torch.tensor(mesh.grid), t["grid_size"])
    ledger.exact("joint_decode.coords", mesh.coords, t["tex_coords"][:, 1:])
    ledger.close("joint_decode.attributes", mesh.attributes, t["tex_feats"], **NETWORK)


def triangles(vertices, faces):
    """Every face as the sorted places of its corners, on a fine grid; each one once."""
    corners = (vertices[faces.long()] * 1e4).round().long()
    return {tuple(sorted(map(tuple, face))) for face in corners.tolist()}


@torch.no_grad()
def test_groups(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    parts = scene_parts(fixture, t)
    limit = meta["max_chunks_per_group"]
    groups = make_groups(t["relative_translations"], meta["R_in"], parts[2].voxels.coords[:, 1:], limit)
    assert len(groups) > 1
    for options in ({}, {"workspace": 1 << 20}):
        mesh = decode_scene(*parts, groups, as_released=True, **options)
        ledger.exact("joint_decode.grouped.faces", mesh.faces, t["faces"])
        ledger.exact("joint_decode.grouped.coords", mesh.coords, t["tex_coords"][:, 1:])
        ledger.close("joint_decode.grouped.vertices", mesh.vertices, t["vertices"], **NETWORK)
        ledger.close("joint_decode.grouped.attributes", mesh.attributes, t["tex_feats"], **NETWORK)
    theirs = triangles(t["grouped_vertices"], t["grouped_faces"])
    ours = triangles(t["vertices"], t["faces"])
    ledger.exact("joint_decode.grouped.unique_faces", len(theirs), meta["grouped_faces_unique"])
    ledger.exact("joint_decode.grouped.faces_of_theirs_missing", len(theirs - ours), 0)
    keys = {tuple(c) for c in mesh.coords.tolist()}
    found = {tuple(c[1:]): i for i, c in enumerate(t["grouped_tex_coords"].tolist())}
    ledger.exact("joint_decode.grouped.voxels_as_sets", set(found) ^ keys, set())
    place = torch.tensor([found[tuple(c)] for c in mesh.coords.tolist()])
    ledger.close("joint_decode.grouped.their_attributes", mesh.attributes, t["grouped_tex_feats"][place], **NETWORK)
