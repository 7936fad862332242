"""Decoding in octree blocks gives what decoding at once gives, whatever the decoder, the voxels and the blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis2_tiny import sparse_vae

from sightline.models.trellis2 import streaming
from sightline.models.trellis2.sc_vae import shape_head
from sightline.models.trellis2.streaming import octree_cells, receptive_field, stream_decode, stream_upsample
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor

WIDTHS = {2: [16, 8], 3: [16, 16, 8], 4: [32, 16, 16, 8]}


def latent(side, count, seed, batch=1, channels=3):
    """Random voxels of a side^3 grid, `count` of each item, in no order within an item."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for item in range(batch):
        place = torch.randperm(side**3, generator=generator)[:count]
        axes = [place // side**2, place // side % side, place % side]
        rows.append(torch.stack([torch.full_like(place, item), *axes], 1))
    coords = torch.cat(rows).to(torch.int32)
    return SparseTensor(torch.randn(len(coords), channels, generator=generator) * 2, coords, batch)


def fewer(decoder):
    """As trained decoders: about half of the children are kept, so that the voxels stay sparse."""
    for level in decoder.blocks[:-1]:
        level[-1].to_subdiv.bias.sub_(0.5)
    return decoder


def assert_same(found, expected):
    assert torch.equal(found.voxels.coords, expected.voxels.coords)
    assert torch.allclose(found.voxels.feats, expected.voxels.feats, rtol=1e-5, atol=1e-5)
    assert len(found.subdivisions) == len(expected.subdivisions)
    for a, b in zip(found.subdivisions, expected.subdivisions):
        assert torch.equal(a.mask, b.mask) and torch.equal(a.coords, b.coords)
        assert torch.equal(a.parent, b.parent) and torch.equal(a.slot, b.slot)
    for a, b in zip(found.logits, expected.logits):
        assert torch.allclose(a.feats, b.feats, rtol=1e-5, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    blocks=st.lists(st.integers(0, 5), min_size=2, max_size=4),
    side=st.integers(1, 6),
    share=st.floats(0.02, 0.5),
    batch=st.integers(1, 2),
    workspace=st.sampled_from([1, 40_000, 200_000, 10**6]),
)
def test_streamed_is_single_pass(seed, blocks, side, share, batch, workspace):
    widths = WIDTHS[len(blocks)]
    decoder = fewer(sparse_vae("FlexiDualGridVaeDecoder", seed, model_channels=widths, num_blocks=blocks))
    texture = sparse_vae(
        "SparseUnetVaeDecoder", seed + 1, model_channels=widths, num_blocks=blocks, out_channels=6, pred_subdiv=False
    )
    z = latent(side, max(1, round(share * side**3)), seed, batch)
    try:
        expected = decoder(z)
    except InputError as error:  # nothing kept
        with pytest.raises(InputError, match=str(error)[:40]):
            stream_decode(decoder, z, workspace=workspace)
        return
    found = stream_decode(decoder, z, workspace=workspace)
    assert_same(found, expected)
    for a, b in zip(shape_head(found.voxels.feats), shape_head(expected.voxels.feats)):
        assert torch.allclose(a.float(), b.float(), atol=1e-5)
    assert torch.equal(shape_head(found.voxels.feats)[1], shape_head(expected.voxels.feats)[1])
    painted, painted_at_once = (
        stream_decode(texture, z, found.subdivisions, workspace=workspace),
        texture(z, expected.subdivisions),
    )
    assert_same(painted, painted_at_once)
    for levels in range(len(blocks)):
        assert torch.equal(stream_upsample(decoder, z, levels, workspace=workspace), decoder.upsample(z, levels))


def test_small_cells_are_really_used(monkeypatch):
    decoder = fewer(sparse_vae("FlexiDualGridVaeDecoder", 5))
    z, sizes = latent(8, 200, 5), []
    cells = streaming.octree_cells

    def counting(*args):
        found = list(cells(*args))
        sizes.append(len(found))
        return iter(found)

    monkeypatch.setattr(streaming, "octree_cells", counting)
    assert_same(stream_decode(decoder, z, workspace=60_000), decoder(z))
    assert max(sizes) > 20


def test_a_halo_one_voxel_too_small_is_seen(monkeypatch):
    """The halos are needed in full: with less the result differs, so the tests above can tell."""
    decoder, z = fewer(sparse_vae("FlexiDualGridVaeDecoder", 5)), latent(6, 150, 5)
    expected = decoder(z)
    monkeypatch.setattr(streaming, "UP_HALO", 1)
    found = stream_decode(decoder, z, workspace=40_000)
    assert len(found.voxels) != len(expected.voxels) or not torch.allclose(
        found.voxels.feats, expected.voxels.feats, rtol=1e-5, atol=1e-5
    )


def test_an_encoder_s_subdivisions_guide_in_their_own_order():
    encoder = sparse_vae("FlexiDualGridVaeEncoder", 1, in_channels=6)
    texture = sparse_vae("SparseUnetVaeDecoder", 2, out_channels=6, pred_subdiv=False)
    voxels = latent(16, 500, 3, channels=6)
    encoded = encoder(voxels)
    found = stream_decode(texture, encoded.mean, encoded.subdivisions, workspace=50_000)
    assert torch.equal(found.voxels.coords, voxels.coords)
    assert_same(found, texture(encoded.mean, encoded.subdivisions))


def test_half_precision():
    decoder, z = fewer(sparse_vae("FlexiDualGridVaeDecoder", 5, dtype="bfloat16")), latent(8, 200, 5)
    expected, found = decoder(z), stream_decode(decoder, z, workspace=60_000)
    assert torch.equal(found.voxels.coords, expected.voxels.coords)
    assert torch.allclose(found.voxels.feats, expected.voxels.feats, atol=2e-2)


def test_the_receptive_field_is_measured_and_computed():
    """Changing one latent voxel changes outputs up to the computed distance, and in a dense grid just that far."""
    decoder = sparse_vae("FlexiDualGridVaeDecoder", 3, model_channels=[16, 8], num_blocks=[2, 1])
    assert receptive_field(decoder.config) == [4, 1]
    for level in decoder.blocks[:-1]:
        level[-1].to_subdiv.bias.fill_(1e6)  # keeps every child
    line = torch.arange(12, dtype=torch.int32)
    z = SparseTensor(torch.randn(12, 3), torch.stack([0 * line, line, 0 * line, 0 * line], 1))
    other = z.replace(z.feats + torch.nn.functional.one_hot(torch.tensor(0), 12)[:, None])
    change = (decoder(z).voxels.feats - decoder(other).voxels.feats).abs().amax(1)
    reached = decoder(z).voxels.coords[change > 0, 1] // 2
    assert reached.max() == 4
    published = type(decoder.config)(model_channels=(8,) * 5, latent_channels=3, num_blocks=(4, 16, 8, 4, 0))
    assert receptive_field(published) == [18, 24, 13, 6, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 3), st.integers(1, 200))
def test_cells_own_every_voxel_once_and_know_their_surroundings(seed, side, halo, limit):
    coords = latent(side, max(1, side**3 // 20), seed).coords
    seen = torch.zeros(len(coords), dtype=torch.int64)
    for rows, own in octree_cells(coords, halo, limit):
        assert bool((rows[1:] > rows[:-1]).all())
        seen[rows[own]] += 1
        mine, around = coords[rows[own], 1:], coords[rows, 1:]
        distance = (coords[:, None, 1:] - mine[None]).abs().amax(2).amin(1)
        assert set(torch.nonzero(distance <= halo).flatten().tolist()) <= set(rows.tolist())
        width = (mine.amax(0) - mine.amin(0)).max() + 1
        assert len(rows) <= limit or width <= max(halo, 1)
        assert len(around) >= len(mine)
    assert bool((seen == 1).all())


def test_progress_and_refusals():
    decoder, z, seen = fewer(sparse_vae("FlexiDualGridVaeDecoder", 5)), latent(8, 200, 5), []
    stream_decode(decoder, z, workspace=60_000, callback=lambda *step: seen.append(step))
    assert {name for name, _, _ in seen} == {"level 0", "level 1"}
    assert all(0 < done <= total for _, done, total in seen) and seen[-1][1] == seen[-1][2]

    def stop(level, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_decode(decoder, z, callback=stop)
    with pytest.raises(InputError, match="workspace"):
        stream_decode(decoder, z, workspace=0)
    with pytest.raises(InputError, match="5 channels; this decoder takes 3"):
        stream_decode(decoder, z.replace(torch.zeros(len(z), 5)))
    with pytest.raises(InputError, match="`levels` is 3"):
        stream_upsample(decoder, z, 3)
    blind = sparse_vae("SparseUnetVaeDecoder", 2, out_channels=6, pred_subdiv=False)
    with pytest.raises(InputError, match="predicts no subdivision"):
        stream_decode(blind, z)
    with pytest.raises(InputError, match="share their latent voxels"):
        stream_decode(blind, z, stream_decode(decoder, latent(8, 200, 6)).subdivisions)
