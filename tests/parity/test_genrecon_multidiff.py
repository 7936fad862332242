"""Joint sampling over overlapping chunks: common noise, one mean, whole trajectories; dense and sparse."""

import torch
from genrecon_parity import FLOAT, series

from sightline.kernels.multi_diffusion import DenseOverlap, SparseOverlap, chunk_offsets
from sightline.models.genrecon.joint_sampling import sample_chunks
from sightline.models.trellis2.samplers import SamplerSettings

SYSTEM, KIND = "genrecon", "multidiff"


def test_trajectory(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    dense, resolution = "noise" in t, meta["resolution"]
    offsets = chunk_offsets(t["relative_translations"], resolution)
    generator = torch.Generator().manual_seed(meta["noise_seed"])
    concat = series(t, "concat")
    if dense:
        overlap, cond = DenseOverlap(offsets, resolution), list(t["cond_a"])
        expected = {
            name: list(t[key]) for name, key in (("noise", "noise"), ("mean", "aggregated_cond_a"), ("out", "out"))
        }
        channels = cond[0].shape[0]
    else:
        coords, cond = [c[:, 1:] for c in series(t, "coords")], series(t, "cond_a")
        width = meta["boundary_width"] if meta["boundary_sensitive"] else 0
        overlap = SparseOverlap(offsets, resolution, coords, width)
        expected = {"noise": series(t, "noise"), "mean": series(t, "agg"), "out": series(t, "out")}
        channels = expected["noise"][0].shape[1]
    chunks = range(len(cond))
    noise = overlap.cut(overlap.noise(channels, generator), chunks)
    join = torch.stack if dense else torch.cat

    def velocity(names, x, time, conditional):
        a = join([cond[i] if conditional else torch.zeros_like(cond[i]) for i in names])
        v = x * (0.3 + 0.2 * time) + a * (1 - 0.5 * time)
        return v + 0.1 * join([concat[i] for i in names]) if concat else v

    settings = SamplerSettings.from_dict(meta["sampler"], sigma_min=meta.get("sigma_min", 1e-5))
    found = {"noise": noise, "mean": overlap.average(chunks, cond)}
    name = "multidiff.dense" if dense else "multidiff.sparse"
    for batch in (1, len(cond)):
        found["out"] = sample_chunks(velocity, noise, overlap, settings, batch=batch)
        for part, tensors in found.items():
            for ours, theirs in zip(tensors, expected[part], strict=True):
                ledger.close(f"{name}.{part}", ours, theirs, **FLOAT)
