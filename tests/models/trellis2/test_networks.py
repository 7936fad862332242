"""What parity leaves open: half precision on a CPU, errors, the way back along an encoder's subdivisions."""

import pytest
import torch
from trellis2_tiny import CHANNELS, FLOW, LATENT, network, slat_flow, sparse_vae

from sightline.models.trellis2.blocks import absolute_positions, rope_phases
from sightline.models.trellis2.conditions import Condition
from sightline.models.trellis2.sc_vae import texture_head
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


def structure_flow(**changes):
    return network(
        "SparseStructureFlowModel", **{**FLOW, "resolution": 3, "in_channels": 2, "out_channels": 2, **changes}
    )


def voxels(count=40, side=8, channels=LATENT, seed=0, items=1):
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for item in range(items):
        chosen = torch.randperm(side**3, generator=generator)[:count]
        coords = torch.stack(
            [torch.full_like(chosen, item), chosen // side**2, chosen // side % side, chosen % side], 1
        )
        parts.append(coords.int())
    return SparseTensor(torch.randn(count * items, channels, generator=generator), torch.cat(parts), items)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 0.02), ("bfloat16", 0.15)])
def test_half_precision_torsos_on_a_cpu(dtype, tolerance):
    t = torch.tensor([700.0])
    x, tokens = torch.randn(1, 2, 3, 3, 3), torch.randn(1, 4, CHANNELS)
    full, half = structure_flow()(x, t, tokens), structure_flow(dtype=dtype)(x, t, tokens)
    assert half.dtype == torch.float32 and (full - half).abs().max() < tolerance * full.abs().max()
    z = voxels()
    full, half = slat_flow()(z, t, tokens).feats, slat_flow(dtype=dtype)(z, t, tokens).feats
    assert half.dtype == torch.float32 and (full - half).abs().max() < tolerance * full.abs().max()
    guide = sparse_vae("FlexiDualGridVaeDecoder")(z).subdivisions
    args = dict(out_channels=6, pred_subdiv=False)
    full = sparse_vae("SparseUnetVaeDecoder", **args)(z, guide).voxels.feats
    half = sparse_vae("SparseUnetVaeDecoder", **args, dtype=dtype)(z, guide).voxels.feats
    assert half.dtype == torch.float32 and (full - half).abs().max() < tolerance * full.abs().max()
    vae = dict(latent_channels=2, num_res_blocks=1, channels=[8, 8])
    full = network("SparseStructureDecoder", **vae)(x)
    half = network("SparseStructureDecoder", **vae, dtype=dtype)(x)
    assert half.dtype == torch.float32 and (full - half).abs().max() < tolerance * full.abs().max()


def test_positions_do_not_depend_on_the_rows_order():
    coords = torch.randint(0, 96, (20, 3))
    order = torch.randperm(20)
    phases = rope_phases(coords, 128)
    assert phases.shape == (20, 64) and (phases[:, 63] == 1).all()
    assert torch.equal(rope_phases(coords[order], 128), phases[order])
    table = absolute_positions(coords, 32)
    assert table.shape == (20, 32) and not table[:, 30:].any()
    assert torch.equal(absolute_positions(coords[order], 32), table[order])


def test_sparse_models_with_sine_cosine_positions_and_own_modulation():
    flow = slat_flow(pe_mode="ape", share_mod=False, qk_rms_norm=False, qk_rms_norm_cross=False)
    x = voxels(items=2)
    t, tokens = torch.tensor([300.0, 900.0]), torch.randn(2, 4, CHANNELS)
    out = flow(x, t, tokens)
    for item, rows in enumerate(x.layout):
        alone = flow(x.item(item), t[item : item + 1], tokens[item : item + 1])
        assert torch.allclose(alone.feats, out.feats[rows], atol=1e-5)


@pytest.mark.parametrize(
    "run, message",
    [
        (
            lambda: structure_flow()(torch.zeros(1, 2, 4, 4, 4), torch.ones(1), torch.zeros(1, 3, CHANNELS)),
            r"\[B, 2, 3, 3, 3\]",
        ),
        (lambda: structure_flow()(torch.zeros(1, 2, 3, 3, 3), torch.ones(1), torch.zeros(1, 3, 5)), "5 wide.*takes 8"),
        (
            lambda: structure_flow()(torch.zeros(1, 2, 3, 3, 3), torch.ones(1), torch.zeros(2, 3, CHANNELS)),
            r"\[1, M, D\]",
        ),
        (lambda: structure_flow()(torch.zeros(1, 2, 3, 3, 3), torch.ones(1), [torch.zeros(3, CHANNELS)]), "a list"),
        (
            lambda: structure_flow(image_attn_mode="proj")(
                torch.zeros(1, 2, 3, 3, 3), torch.ones(1), torch.zeros(1, 3, CHANNELS)
            ),
            "no projected features.*with a camera",
        ),
        (
            lambda: structure_flow(image_attn_mode="proj")(
                torch.zeros(1, 2, 3, 3, 3), torch.ones(1), Condition(torch.zeros(1, 3, CHANNELS), torch.zeros(1, 27, 5))
            ),
            "5 wide; this model takes 8",
        ),
        (
            lambda: structure_flow(image_attn_mode="proj")(
                torch.zeros(1, 2, 3, 3, 3), torch.ones(1), Condition(torch.zeros(1, 3, CHANNELS), torch.zeros(1, 8, 8))
            ),
            r"\[1, 27, 'P'\]",
        ),
        (
            lambda: structure_flow(image_attn_mode="gated_proj")(
                torch.zeros(1, 2, 3, 3, 3), torch.ones(1), Condition(torch.zeros(1, 3, CHANNELS), torch.zeros(1, 27, 8))
            ),
            "no `color`",
        ),
        (lambda: slat_flow()(voxels(channels=5), torch.ones(1), torch.zeros(1, 3, CHANNELS)), "5 channels.*takes 3"),
        (lambda: slat_flow()(voxels(), torch.ones(1), torch.zeros(2, 3, CHANNELS)), "2 items; the latent has 1"),
        (
            lambda: slat_flow(image_attn_mode="proj")(
                voxels(), torch.ones(1), Condition(torch.zeros(1, 3, CHANNELS), torch.zeros(7, 8))
            ),
            r"\[40, 'P'\]",
        ),
        (
            lambda: sparse_vae("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False)(voxels()),
            "predicts no subdivision",
        ),
        (lambda: sparse_vae("FlexiDualGridVaeDecoder")(voxels(channels=4)), "4 channels; this decoder takes 3"),
        (lambda: sparse_vae("FlexiDualGridVaeDecoder").upsample(voxels(), 3), "2 subdivisions"),
        (lambda: sparse_vae("SparseUnetVaeDecoder")(voxels()), "lacks `out_channels`"),
        (lambda: sparse_vae("SparseUnetVaeEncoder")(voxels()), "lacks `in_channels`"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(run, message):
    with pytest.raises(InputError, match=message) as error:
        run()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_a_guide_for_other_voxels_is_refused():
    guide = sparse_vae("FlexiDualGridVaeDecoder")(voxels()).subdivisions
    texture = sparse_vae("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False)
    with pytest.raises(InputError, match="Level 0 .*must share their latent voxels"):
        texture(voxels(seed=1), guide)
    with pytest.raises(InputError, match="1 subdivision levels"):
        texture(voxels(), guide[:1])


def test_a_latent_without_surface_is_refused():
    decoder = sparse_vae("FlexiDualGridVaeDecoder")
    decoder.blocks[0][-1].to_subdiv.weight.zero_()
    decoder.blocks[0][-1].to_subdiv.bias.fill_(-1)
    with pytest.raises(InputError, match="keeps no voxel at level 0"):
        decoder(voxels())


def test_texture_along_an_encoders_subdivisions_returns_the_input_rows():
    surface = voxels(200, side=16, channels=6)
    encoded = sparse_vae("FlexiDualGridVaeEncoder").encode(
        surface.coords, surface.feats[:, :3].sigmoid(), surface.feats[:, 3:] > 0
    )
    texture = sparse_vae("SparseUnetVaeDecoder", out_channels=6, pred_subdiv=False)
    out = texture(encoded.mean, encoded.subdivisions)
    assert torch.equal(out.voxels.coords, surface.coords) and out.logits == []
    assert texture_head(out.voxels.feats).shape == (200, 6)
    assert encoded.logvar.shape == encoded.mean.feats.shape


def test_gradients_reach_every_parameter():
    flow = slat_flow().requires_grad_(True)
    flow(voxels(), torch.tensor([500.0]), torch.randn(1, 4, CHANNELS)).feats.square().sum().backward()
    decoder = sparse_vae("FlexiDualGridVaeDecoder").requires_grad_(True)
    out = decoder(voxels())
    (out.voxels.feats.square().sum() + sum(level.feats.square().sum() for level in out.logits)).backward()
    for model in (flow, decoder):
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
