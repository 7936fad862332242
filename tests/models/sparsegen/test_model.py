"""The network's own promises: chunks, caches, layers, conventions, types, starting weights."""

import math

import pytest
import torch
from sparsegen_tiny import tiny

from sightline.models.sparsegen import (
    SparseGen,
    SparseGenConfig,
    assemble_views,
    initialize,
    pose_channels,
    render_views,
    sampling_schedule,
    training_schedule,
    view_times,
    vit,
)
from sightline.models.sparsegen.embeddings import frustum_logits
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError

SMALL = tiny(num_decoder_layers=3, head_sets=3, vit_depth=2)


@pytest.fixture
def model():
    return initialize(SparseGen(SMALL), "short_run", seed=1).eval()


def inputs(config=SMALL, batch=2, clean=1, noisy=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    count, size = clean + noisy, config.input_size
    cameras = orbit([40.0 * i for i in range(batch * count)], 20, 1.3, config.fov, size, size).world_to_camera.view(
        batch, count, 4, 4
    )
    images = torch.rand(batch, count, 3, size, size, generator=g) * 2 - 1
    views = assemble_views(config, images[:, :clean], images[:, clean:], cameras)
    return views, view_times(clean, noisy, torch.tensor([500.0, 20.0])[:batch]), cameras


@torch.no_grad()
def test_shapes_and_ranges(model):
    (out,) = model(*inputs())
    count = SMALL.num_gaussians
    assert out.means.shape == out.scales.shape == out.colors.shape == (2, count, 3)
    assert out.quats.shape == (2, count, 4) and out.opacities.shape == (2, count)
    assert out.xyz_offset.shape == (2, SMALL.num_query, SMALL.num_gs_per_query, 3)
    assert out.means.abs().max() <= 0.6 and 0 < out.scales.min() and out.scales.max() <= SMALL.max_scale
    torch.testing.assert_close(out.quats.norm(dim=-1), torch.ones(2, count))
    torch.testing.assert_close(out.means, out.box * 1.2 - 0.6)
    assert len(out[1]) == count and torch.equal(out[1].means, out.means[1])
    torch.testing.assert_close(out[1].rgb, out.colors[1])


@torch.no_grad()
def test_layers(model):
    views, times, cameras = inputs()
    every = model(views, times, cameras, layers="all")
    assert len(every) == 3
    assert torch.equal(model(views, times, cameras)[0].means, every[2].means)
    picked = model(views, times, cameras, layers=[-1, 0])
    assert torch.equal(picked[0].colors, every[2].colors) and torch.equal(picked[1].colors, every[0].colors)
    for wrong in ([3], [], "some"):
        with pytest.raises(ValueError, match="layers"):
            model(views, times, cameras, layers=wrong)


@torch.no_grad()
def test_single_head_set_serves_the_last_layer():
    model = initialize(SparseGen(SparseGenConfig(**SMALL.to_dict() | {"head_sets": 1})), seed=0).eval()
    args = inputs()
    assert len(model(*args, layers="all")) == 1
    assert torch.equal(model(*args, layers=[2])[0].means, model(*args)[0].means)
    with pytest.raises(ValueError, match="layers"):
        model(*args, layers=[0])


@torch.no_grad()
def test_chunks_do_not_change_features(model, monkeypatch):
    views, times, _ = inputs(clean=2, noisy=3)
    whole = model.encode_views(views, times)
    monkeypatch.setattr(vit, "CHUNK_TOKENS", 1)
    torch.testing.assert_close(model.encode_views(views, times), whole, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("noisy", [0, 1, 2])
def test_cache_is_exact(model, noisy):
    views, times, cameras = inputs(clean=2, noisy=noisy)
    cache = model.cache(views[:, :2], cameras)
    a, b = model(views, times, cameras)[0], model(views[:, 2:], times, cameras, cache=cache)[0]
    for name in ("means", "scales", "quats", "opacities", "colors"):
        torch.testing.assert_close(getattr(b, name), getattr(a, name), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="keep"):
        model(views, times, cameras, keep=[0], cache=cache)


@torch.no_grad()
def test_keep_is_as_if_only_these_views_were_given(model):
    views, times, cameras = inputs(clean=2, noisy=2)
    a = model(views, times, cameras, keep=[0, 3])[0]
    b = model(views[:, [0, 3]], times[:, [0, 3]], cameras[:, [0, 3]])[0]
    assert torch.equal(a.means, b.means) and torch.equal(a.colors, b.colors)


@torch.no_grad()
def test_decoder_reads_the_time_of_the_last_view(model):
    """The same clean last view: whatever the time of an earlier view does goes through the encoder only."""
    seen = []
    hook = model.transformer.decoder_layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[3]))
    views, times, cameras = inputs(clean=1, noisy=2)
    model(views, times, cameras, keep=[1, 0])
    hook.remove()
    assert torch.equal(seen[0], model.transformer.t_embedder(torch.zeros(2)))


def test_gradients_reach_every_weight(model):
    views, times, cameras = inputs()
    views.requires_grad_()
    for p in model.parameters():  # adaptive layers start at zero and let nothing through to the time embedding
        p.data += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    model.train()
    total = sum(
        g.means.square().sum()
        + g.scales.sum()
        + g.colors.sum()
        + g.opacities.sum()
        + (g.quats * g.quats.new_tensor([1, 2, 3, 4])).sum()
        for g in model(views, times, cameras, layers="all")
    )
    total.backward()
    silent = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    # a constant added to all keys of an attention changes nothing
    silent = [name for name in silent if not name.endswith("k_proj.bias")]
    assert silent == [] and views.grad.abs().sum() > 0
    assert not model.feature_extractor.model.mask_token.requires_grad


def test_dropout_only_in_training():
    config = SparseGenConfig(**SMALL.to_dict() | {"dropout": 0.5})
    model, args = initialize(SparseGen(config), "short_run", seed=0), inputs()
    with torch.no_grad():
        assert not torch.equal(model.train()(*args)[0].means, model(*args)[0].means)
        assert torch.equal(model.eval()(*args)[0].means, model(*args)[0].means)


@torch.no_grad()
def test_half_precision_keeps_heads_in_float32(model):
    args = inputs()
    full = model(*args)[0]
    model.to_dtype(torch.bfloat16)
    half = model(*args)[0]
    assert model.dtype == torch.bfloat16 and half.means.dtype == torch.float32
    assert {p.dtype for p in model.gs_decoder.parameters()} == {torch.float32} == {model.reference_points.weight.dtype}
    torch.testing.assert_close(half.means, full.means, rtol=0, atol=0.05)


@pytest.mark.parametrize("convention, shift", [("reference", 16.0), ("centered", -8.0)])
def test_ray_conventions(convention, shift):
    config = SparseGenConfig(**SMALL.to_dict() | {"ray_convention": convention})
    cameras = orbit([10, 200], [0, 30], [1.3, 2.6], config.fov, 16, 16)
    channels = pose_channels(cameras.world_to_camera, config)
    torch.testing.assert_close(channels[:, :3, 4, 7] * 1.3, cameras.centers)
    row, column, f = 3, 11, config.focal()
    ray = torch.tensor([column + 0.5 + shift, row + 0.5 + shift, f])
    expected = torch.einsum("vij,j->vi", cameras.camera_to_world[:, :3, :3], ray / ray.norm())
    torch.testing.assert_close(channels[:, 3:, row, column], expected)


def test_centered_rays_meet_the_points_they_see():
    config = SparseGenConfig(**SMALL.to_dict() | {"ray_convention": "centered", "normalize_pose": False})
    cameras = orbit([33], [15], [1.3], config.fov, 16, 16)
    channels = pose_channels(cameras.world_to_camera, config)[0]
    point = cameras.unproject(torch.tensor([[[5.5, 12.5]]]), torch.tensor([[1.1]]))[0, 0]
    along = point - channels[:3, 12, 5]
    torch.testing.assert_close(along / along.norm(), channels[3:, 12, 5], rtol=0, atol=1e-6)


def test_frustum_cells_project_back_to_their_centers():
    cameras = orbit([70, 250], [10, 40], 1.3, SMALL.fov, 16, 16)
    logits = frustum_logits(cameras.world_to_camera, SMALL).unflatten(1, (SMALL.depth_num, 3))
    inside = (logits.abs() < 5).all(dim=2)
    assert inside.sum() > 20
    grid = SMALL.feature_grid
    for view in range(2):
        depth, row, column = inside[view].nonzero().T
        points = torch.sigmoid(logits[view, depth, :, row, column]) * 1.2 - 0.6
        pixels, z = cameras[view].project(points)
        torch.testing.assert_close(pixels[0], torch.stack([column + 0.5, row + 0.5], -1) / grid * 16, rtol=0, atol=1e-2)
        torch.testing.assert_close(z[0], 0.8 + depth * (1.0 / SMALL.depth_num), rtol=0, atol=1e-3)


def test_position_tokens_are_left_alone_where_the_grid_fits():
    fits = SparseGen(SparseGenConfig(**SMALL.to_dict() | {"vit_grid": 4})).feature_extractor.model
    assert fits.position_tokens() is fits.pos_embed
    resampled = SparseGen(SMALL).feature_extractor.model
    assert resampled.position_tokens().shape == (1, 17, SMALL.vit_dims)


def test_short_run_start():
    model = initialize(SparseGen(SMALL), "short_run", seed=3, alpha=0.4, scale=0.03)
    with torch.no_grad():
        out = model.eval()(*inputs())[0]
    assert abs(float(out.opacities.mean()) - 0.4) < 0.1
    assert abs(math.log(float(out.scales.mean()) / 0.03)) < 0.3
    assert float(out.quats[..., 0].abs().mean()) > 0.9


def test_reference_start_is_the_identity_in_every_adaptive_block():
    model = initialize(SparseGen(SMALL), "reference", seed=3)
    gates = [m for name, m in model.named_modules() if name.endswith("adaLN_modulation.1")]
    assert len(gates) == SMALL.vit_depth + SMALL.num_decoder_layers
    assert all(not m.weight.any() and not m.bias.any() for m in gates)
    biases = torch.cat([p.flatten() for name, p in model.gs_decoder.named_parameters() if name.endswith("bias")])
    assert abs(float(biases.detach().std()) - 1) < 0.2
    anchors = model.reference_points.weight
    assert 0 <= anchors.min() and anchors.max() <= 1


@pytest.mark.parametrize("style", ["reference", "short_run"])
def test_seeded_start_repeats_and_leaves_the_global_generator_alone(style):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a = initialize(SparseGen(SMALL), style, seed=7).state_dict()
    torch.random.set_rng_state(before)
    first = torch.rand(1)
    torch.random.set_rng_state(before)
    model = SparseGen(SMALL)
    torch.random.set_rng_state(before)
    b = initialize(model, style, seed=7).state_dict()
    assert torch.equal(torch.rand(1), first)
    assert all(torch.equal(a[key], b[key]) for key in a)
    c = initialize(model, style, seed=8).state_dict()
    assert not torch.equal(c["input_proj.weight"], a["input_proj.weight"])


def test_unknown_style():
    with pytest.raises(InputError, match="style"):
        initialize(SparseGen(SMALL), "warm")


def test_rendering_blends_with_the_background(model):
    views, times, cameras = inputs()
    out = model(views, times, cameras)[0]
    white, alpha = render_views(out, cameras, SMALL)
    black, _ = render_views(out, cameras, SMALL, background=0.0)
    assert white.shape == (2, 3, 3, 16, 16) and alpha.shape == (2, 3, 1, 16, 16)
    torch.testing.assert_close((white - black) / 2, (1 - alpha).expand_as(white), rtol=0, atol=1e-5)
    large, _ = render_views(out, cameras, SMALL, size=32)
    assert large.shape == (2, 3, 3, 32, 32)


def test_schedules():
    sigmas, times = training_schedule(50)
    assert sigmas[0] == 1 and len(sigmas) == 50 and torch.equal(times.round(), torch.arange(50, 0, -1).float())
    sigmas, times = sampling_schedule(7)
    assert sigmas[0] == 1 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all()) and len(times) == 7
    for wrong in (0, -3, 1001, 2.5, True):
        with pytest.raises(InputError, match="steps"):
            sampling_schedule(wrong)
