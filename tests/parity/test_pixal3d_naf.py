"""NAF's neighborhood attention, as a whole map and at points, against the released upsampler."""

import torch

from sightline.kernels.naf import gather_queries, pixels_read, upsample_map, upsample_points
from sightline.kernels.projection import sample_map

SYSTEM, KIND = "pixal3d", "naf"
TOLERANCE = dict(atol=2e-5, rtol=1e-4)


def test_whole_map(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    out = upsample_map(t["mid.queries"], t["in.features"], meta["heads_attn"], meta["kernel_size"])
    ledger.close("naf.map", out, t["out.up"], **TOLERANCE)


def test_every_pixel_as_a_point(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    queries, features = t["mid.queries"], t["in.features"]
    height, width = queries.shape[-2:]
    every = torch.arange(height * width)
    for i in range(queries.shape[0]):
        points = gather_queries(queries[i], every, features.shape[-2:])
        corner, weight = every[:, None], torch.ones(len(every), 1)
        out = upsample_points(points, features[i], corner, weight, meta["heads_attn"], meta["kernel_size"])
        ledger.close("naf.points", out.T.view(-1, height, width), t["out.up"][i], **TOLERANCE)


def test_reads_between_pixels(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    queries, features, size = t["mid.queries"], t["in.features"], t["in.image"].shape[-1]
    uv = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * (size + 8) - 4
    for i in range(queries.shape[0]):
        pixels, corner, weight = pixels_read(uv, size, queries.shape[-2:])
        points = gather_queries(queries[i], pixels, features.shape[-2:])
        out = upsample_points(points, features[i], corner, weight, meta["heads_attn"], meta["kernel_size"])
        ledger.close("naf.reads", out, sample_map(t["out.up"][i : i + 1], uv, size), **TOLERANCE)
