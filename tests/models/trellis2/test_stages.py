"""Quantization, the token limit, noise, and structures without voxels."""

import pytest
import torch
from trellis2_tiny import network, slat_flow, sparse_vae

from sightline.models.trellis2.cascade import Normalization
from sightline.models.trellis2.samplers import SamplerSettings
from sightline.models.trellis2.stages import (
    decode_structure,
    noise,
    quantize_floor,
    quantize_round,
    quantize_to_limit,
    refine_coords,
    sample_latent,
)
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


def test_both_quantizations():
    coords = torch.arange(512, dtype=torch.int32)[:, None].expand(-1, 3)
    for grid in (64, 96):
        floor, half_even = quantize_floor(coords, 512, grid), quantize_round(coords, 512, grid)
        assert floor[:, 0].tolist() == [int((c + 0.5) / 512 * grid) for c in range(512)]
        assert half_even[:, 0].tolist() == [round((c + 0.5) / 512 * (grid - 1)) for c in range(512)]
        assert floor.max() == half_even.max() == grid - 1 and floor.dtype == torch.int32


def dense_voxels(side):
    line = torch.arange(side, dtype=torch.int32)
    zero = torch.zeros(1, dtype=torch.int32)
    return torch.cartesian_prod(zero, line, line, line)


@pytest.mark.parametrize(
    "limit, resolution", [(10**6, 1536), (96**3 + 1, 1536), (96**3, 1408), (88**3, 1280), (64**3, 1024), (1, 1024)]
)
def test_the_token_limit_lowers_the_resolution_by_128_down_to_1024(limit, resolution):
    fine = torch.zeros(96**3, 4, dtype=torch.int32)

    def fill(coords, size, grid):  # as if the shape filled every grid
        line = torch.arange(len(coords), dtype=torch.int32) % grid**3
        return torch.stack([line // grid**2, line // grid % grid, line % grid], dim=-1)

    out = quantize_to_limit(fine, 16, 512, 1536, fill, limit)
    assert out.resolution == resolution and len(out.coords) == (resolution // 16) ** 3


def test_refined_voxels_are_sorted_and_unique_for_any_factor():
    decoder = sparse_vae("FlexiDualGridVaeDecoder", 3)
    latent = SparseTensor(torch.randn(64, 3, generator=torch.Generator().manual_seed(1)), dense_voxels(4))
    out = refine_coords(decoder, latent, 16, 32, quantize=quantize_floor)
    assert out.resolution == 32 and out.coords.dtype == torch.int32
    fine = decoder.upsample(latent, 2)
    expected = fine.clone()
    expected[:, 1:] = ((fine[:, 1:] + 0.5) / 16 * 8).int()
    assert torch.equal(out.coords, torch.unique(expected, dim=0))


def test_noise_is_that_of_the_global_generator():
    torch.manual_seed(11)
    expected = torch.randn(2, 3), torch.randn(5, 1)
    generator = torch.Generator().manual_seed(11)
    assert torch.equal(noise(generator, 2, 3), expected[0]) and torch.equal(noise(generator, 5, 1), expected[1])


def test_an_empty_structure_is_an_error():
    decoder = network("SparseStructureDecoder", latent_channels=2, num_res_blocks=1, channels=[8, 8], out_channels=1)
    decoder.out_layer[2].weight.zero_()
    decoder.out_layer[2].bias.fill_(-1)
    with pytest.raises(InputError, match="structure of item 0 is empty"):
        decode_structure(decoder, torch.randn(1, 2, 4, 4, 4))
    decoder.out_layer[2].bias.fill_(1)
    assert len(decode_structure(decoder, torch.randn(1, 2, 4, 4, 4), 4)) == 64
    with pytest.raises(InputError, match="8\\^3.*pooled to 3\\^3"):
        decode_structure(decoder, torch.randn(1, 2, 4, 4, 4), 3)
    with pytest.raises(InputError, match="structure latent"):
        decode_structure(decoder, torch.randn(1, 3, 4, 4, 4))


def test_latents_come_back_denormalized():
    flow = slat_flow()
    flow.out_layer.weight.zero_()
    flow.out_layer.bias.zero_()  # no velocity: the noise stays
    normalization = Normalization((1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    out = sample_latent(
        flow,
        dense_voxels(2),
        torch.randn(1, 4, 8),
        SamplerSettings(2, 1.0),
        normalization,
        torch.Generator().manual_seed(5),
    )
    expected = noise(torch.Generator().manual_seed(5), 8, 3) * 2 + torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(out.feats, expected)
    assert torch.allclose(normalization.normalize(out.feats) * 2 + torch.tensor([1.0, 2.0, 3.0]), out.feats)


def test_a_texture_model_of_another_width():
    with pytest.raises(InputError, match="noise and shape together"):
        sample_latent(
            slat_flow(),
            dense_voxels(2),
            torch.randn(1, 4, 8),
            SamplerSettings(1, 1.0),
            Normalization((0.0,) * 3, (1.0,) * 3),
            torch.Generator(),
            shape_latent=torch.zeros(8, 3),
        )
