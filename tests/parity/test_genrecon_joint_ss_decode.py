"""The structure latents of all chunks decoded on one lattice: logits per chunk, occupied voxels; whole and in tiles."""

import re

import torch
from genrecon_parity import NETWORK, weights

from sightline.kernels.multi_diffusion import DenseOverlap, chunk_offsets
from sightline.models.genrecon.joint_decode import chunk_logits, decode_occupancy, occupied_voxels
from sightline.models.trellis2.checkpoint import assign_weights, build_model

SYSTEM, KIND = "genrecon", "joint_ss_decode"


@torch.no_grad()
def test_occupancy(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    decoder = assign_weights(build_model("SparseStructureDecoder", meta["decoder"]), weights(t))
    offsets = chunk_offsets(t["relative_translations"], meta["latent_res"])
    overlap = DenseOverlap(offsets, meta["latent_res"])
    latent = overlap.merge(range(len(offsets)), list(t["z"]))
    halves = tuple(-(-n // 2) if n == max(overlap.size) else n for n in overlap.size)
    for tile in (None, halves):
        found = chunk_logits(decode_occupancy(decoder, latent, tile), overlap, meta["ss_res"])
        ledger.close("joint_ss_decode", torch.stack(found), t["occ_logits"], **NETWORK)
    for name in t:
        if match := re.fullmatch(r"num_coords_thr(-?\d+)_(\d+)", name):
            expected = t["occ_logits"][int(match[2])]
            ours = occupied_voxels(expected, float(match[1]))
            ledger.exact("joint_ss_decode.coords", len(ours), int(t[name]))
