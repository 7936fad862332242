"""The TRELLIS (v1) pipeline with tiny random networks: counts, masks, branches, outputs, bad input."""

import dataclasses

import numpy as np
import pytest
import torch

from sightline.models.relaxflow.settings import PRESETS, RelaxSettings, StageSettings, preset
from sightline.models.trellis1.checkpoint import build_model
from sightline.models.trellis1.dinov2 import DinoV2, DinoV2Config
from sightline.models.trellis1.family import Trellis1
from sightline.models.trellis2.samplers import SamplerSettings
from sightline.pipelines.relaxflow import Branches, complete, decode, encode, prepare_picture, sample_structure
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError

WIDTH = 48
FLOW = dict(model_channels=WIDTH, cond_channels=16, num_blocks=1, num_heads=2, mlp_ratio=2, qk_rms_norm=True)
REP = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004, "opacity_bias": 0.1, "scaling_activation": "softplus",
}  # fmt: skip
DECODER = dict(resolution=8, model_channels=64, latent_channels=4, num_blocks=1, num_heads=2, window_size=4)


def filled(model, seed):
    generator = torch.Generator().manual_seed(seed)
    buffers = model.computed_buffers() if hasattr(model, "computed_buffers") else {}
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            spread = 1.0 if value.ndim < 2 else value[0].numel() ** -0.5
            value.copy_(buffers.get(name, torch.randn(value.shape, generator=generator) * spread))
    return model.requires_grad_(False).eval()


def build(name, args, seed):
    return filled(build_model(name, args), seed)


@pytest.fixture(scope="module")
def family():
    encoder_config = DinoV2Config(embed_dim=16, depth=1, num_heads=2, img_size=28, patch_size=14)
    with torch.device("meta"):
        encoder = DinoV2(encoder_config)
    structure = dict(FLOW, resolution=4, in_channels=4, out_channels=4, patch_size=1)
    latent = dict(FLOW, resolution=8, in_channels=4, out_channels=4, patch_size=2, num_io_res_blocks=2,
                  io_block_channels=[16])  # fmt: skip
    vae = dict(latent_channels=4, out_channels=1, num_res_blocks=1, num_res_blocks_middle=1, channels=[16, 8])
    networks = {
        "sparse_structure_flow_model": build("SparseStructureFlowModel", structure, 1),
        "sparse_structure_decoder": build("SparseStructureDecoder", vae, 2),
        "slat_flow_model": build("SLatFlowModel", latent, 3),
        "slat_decoder_gs": build("SLatGaussianDecoder", DECODER | {"representation_config": REP}, 4),
        "slat_decoder_mesh": build("SLatMeshDecoder", DECODER | dict(model_channels=256), 5),
        "slat_decoder_rf": build(
            "SLatRadianceFieldDecoder", DECODER | {"representation_config": dict(rank=2, dim=4)}, 6
        ),
    }
    decoder = networks["sparse_structure_decoder"]
    logits = decoder(torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(8)))
    decoder.out_layer[2].bias -= logits.quantile(0.8)  # so that a fifth of the voxels is occupied
    sampler = SamplerSettings(5, 6.0, 0.0, (0.5, 1.0), 3.0)
    return Trellis1(filled(encoder, 7), networks, sampler, sampler, torch.zeros(4), torch.ones(4))


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures():
    return picture(0), [picture(1), picture(2)]


def test_it_completes_and_decodes(family, pictures):
    done = complete(family, *pictures, camera=orbit([0.0], [20.0], 2.0, 40.0, 64, 64))
    assert len(done.latent) == len(done.visible) > 10 and torch.isfinite(done.latent.feats).all()
    assert 0 < float(done.visible.mean()) < 1
    found = decode(family, done, ("gaussian", "mesh", "radiance_field"))
    assert len(found["gaussian"]) == 2 * len(done.latent)
    assert found["gaussian"].means.abs().max() < 0.7 and found["gaussian"].opacities.max() <= 1
    assert found["mesh"].faces.max() < len(found["mesh"].vertices)
    assert found["radiance_field"].trivec.shape[1:] == (2, 3, 4)


def test_the_seed_decides(family, pictures):
    one, same, other = (complete(family, *pictures, seed=s).latent.feats for s in (1, 1, 2))
    assert torch.equal(one, same) and not (one.shape == other.shape and torch.equal(one, other))


def test_without_the_prior_it_is_the_observation(family, pictures):
    quiet = RelaxSettings(StageSettings(prior_weight=0, masked=False), StageSettings(prior_weight=0))
    none = complete(family, *pictures, settings=quiet)
    alone = complete(family, pictures[0], [], branch="obs")
    assert torch.equal(none.latent.feats, alone.latent.feats)
    assert not any("prior" in name for name in none.evaluations)
    moved = complete(family, *pictures).latent.feats
    assert moved.shape != alone.latent.feats.shape or not torch.equal(moved, alone.latent.feats)


def released(steps):
    return SamplerSettings(steps, 6.0, 0.0, (0.5, 1.0), 3.0)


def test_evaluations_at_released_defaults(family, pictures):
    """25 steps, guided in 19 (t >= 0.5 after the shift): plain, then with the prior in 11 of them."""
    family = dataclasses.replace(family, structure_sampler=released(25), latent_sampler=released(25))
    cross = preset("as released")
    cross = dataclasses.replace(cross, structure=cross.structure.changed(attention="cross"))
    camera = orbit([0.0], [20.0], 2.0, 40.0, 64, 64)
    counts = complete(family, *pictures, settings=cross, camera=camera).evaluations
    plain = complete(family, pictures[0], [], branch="obs").evaluations
    structure = sum(n for name, n in counts.items() if name.startswith("structure"))
    assert sum(n for name, n in plain.items() if name.startswith("structure")) == 25 + 19 == 44
    assert structure == 25 + 19 + 11 - 1  # the first step follows the prior alone
    assert structure + 44 == 98  # with the observation for the pose; the released code takes 198


def test_an_all_visible_mask_leaves_the_latents_to_the_picture(family, pictures):
    voxels = complete(family, *pictures).latent
    all_seen = complete(family, *pictures, visible=torch.ones(len(voxels)))
    weightless = RelaxSettings(PRESETS["paper"].structure, StageSettings(prior_weight=0))
    torch.testing.assert_close(all_seen.latent.feats, complete(family, *pictures, settings=weightless).latent.feats)
    none_seen = complete(family, *pictures, visible=torch.zeros(len(voxels)))
    torch.testing.assert_close(none_seen.latent.feats, voxels.feats)


def test_bad_input(family, pictures):
    with pytest.raises(InputError, match="no priors"):
        complete(family, pictures[0], [])
    with pytest.raises(InputError, match="values, but there are"):
        complete(family, *pictures, visible=torch.ones(3))
    with pytest.raises(InputError, match="transparent|nothing|empty|alpha"):
        prepare_picture(np.zeros((8, 8, 4), dtype=np.uint8))
    with pytest.raises(InputError, match="unknown"):
        decode(family, complete(family, *pictures), ("voxels",))
    with pytest.raises(InputError, match="preset"):
        preset("best")
    for wrong in (-1.0, 51.0, float("nan")):
        with pytest.raises(InputError, match="sigma"):
            StageSettings(sigma=wrong)


def test_progress_may_stop_it(family, pictures):
    class Stop(Exception):
        pass

    def stop(stage, done, steps):
        if stage == "latent":
            raise Stop

    with pytest.raises(Stop):
        complete(family, *pictures, progress=stop)


def test_held_voxels_are_those_of_the_picture(family, pictures):
    weightless = RelaxSettings(PRESETS["paper"].structure, StageSettings(prior_weight=0))
    alone = complete(family, *pictures, settings=weightless).latent.feats
    seen = (torch.arange(len(alone)) % 2).float()
    told = []

    def tell(stage, done, steps):
        told.append((stage, done, steps))

    held = complete(family, *pictures, visible=seen, anchored=True, progress=tell).latent.feats
    torch.testing.assert_close(held[seen > 0], alone[seen > 0])
    assert (held - alone)[seen == 0].abs().max() > 1e-3
    latent = [done for stage, done, _ in told if stage == "latent"]
    assert latent == list(range(1, 11)) and {steps for stage, _, steps in told if stage == "latent"} == {10}


def test_the_structure_takes_a_mask_too(family, pictures):
    """Where all is seen the structure is the picture's; stages alone are `complete`."""
    obs, *priors = encode(family, [pictures[0], *pictures[1]])
    both, masked = Branches(obs, priors), StageSettings()

    def run(conditions, **options):
        return sample_structure(family, conditions, masked, torch.Generator().manual_seed(42), **options)

    alone = run(Branches(obs, [], "obs"))
    torch.testing.assert_close(run(both, visible=torch.ones(8, 8, 8)), alone)
    torch.testing.assert_close(run(both, visible=torch.zeros(8, 8, 8)), run(both))
    half = torch.zeros(8, 8, 8)
    half[:4] = 1
    held = run(both, visible=half, anchored=True)
    torch.testing.assert_close(held[:, :, :2], alone[:, :, :2])
    assert (held - alone)[:, :, 2:].abs().max() > 1e-3
    with pytest.raises(InputError, match="no priors"):
        Branches(obs)
