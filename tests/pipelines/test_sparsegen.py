"""The sampler as users call it: frames, caches, virtual views, refusals."""

import math

import pytest
import torch
from sparsegen_tiny import tiny

from sightline.models.sparsegen import SparseGen, SparseGenConfig, initialize
from sightline.pipelines import sparsegen as pipeline
from sightline.pipelines.sparsegen import (
    clean_cameras,
    render_splats,
    sample_gaussians,
    sample_sparsegen,
    virtual_cameras,
    working_memory,
)
from sightline.scene.cameras import Cameras, orbit
from sightline.scene.errors import InputError
from sightline.scene.frames import rotation_about_z

CONFIG = tiny(num_query=8, num_gs_per_query=3, vit_grid=2, image_size=16, ray_convention="centered")
FIELDS = ("means", "scales", "quats", "opacities", "sh")


def make(**change):
    model = initialize(SparseGen(SparseGenConfig(**CONFIG.to_dict() | change)), "short_run", seed=2).eval()
    g = torch.Generator().manual_seed(9)
    for p in model.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    return model


@pytest.fixture(scope="module")
def model():
    return make()


def images(count=1, size=16, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def cameras(azimuths, **kwargs):
    return clean_cameras(azimuths, CONFIG.fov, 16, **kwargs)


def close(a, b, atol=1e-5):
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=atol)


@pytest.mark.parametrize("clean", range(1, 7))
@pytest.mark.parametrize("virtual", [0, 1, 4])
def test_any_number_of_views(model, clean, virtual):
    around = cameras([25.0 * i for i in range(clean + virtual)])
    splats = sample_sparsegen(model, images(clean), around[:clean], around[clean:], steps=2)
    assert len(splats) == CONFIG.num_gaussians
    splats.check_finite()


def test_one_picture_alone(model):
    alone = sample_sparsegen(model, images())
    placed = cameras([0.0])
    close(alone, sample_sparsegen(model, images(), placed, virtual_cameras(placed, CONFIG.virtual_views)))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_caches_change_nothing(model, steps):
    around = cameras([0, 80, 150, 290]).world_to_camera[None]
    clean, noise = images(2)[None] * 2 - 1, torch.randn(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    a, b = (sample_gaussians(model, clean, around, noise, steps=steps, cached=cached) for cached in (True, False))
    close(a[0], b[0])


def test_steps_matter_and_seeds_repeat(model):
    first = sample_sparsegen(model, images(), steps=3, seed=1)
    close(first, sample_sparsegen(model, images(), steps=3, seed=1), atol=0)
    assert not torch.equal(first.means, sample_sparsegen(model, images(), steps=3, seed=2).means)
    assert not torch.equal(first.means, sample_sparsegen(model, images(), steps=2, seed=1).means)


def test_given_noise_replaces_the_seed(model):
    noise = torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(4))[0]
    close(sample_sparsegen(model, images(), noise=noise, seed=77), sample_sparsegen(model, images(), seed=4), atol=0)


def test_the_global_generator_is_left_alone(model):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    sample_sparsegen(model, images(), steps=2)
    assert torch.equal(torch.rand(2), expected)


def test_clean_views_are_encoded_once(model):
    counts = []
    with model.feature_extractor.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1])):
        sample_sparsegen(model, images(2), cameras([0, 90]), cameras([180, 270, 300]), steps=3)
    assert counts == [2, 3, 3, 3]


def test_only_the_last_layer_is_decoded_and_only_virtual_views_are_drawn(model):
    decoded, drawn = [], []

    def renderer(*args):
        from sightline.kernels.splat import rasterize

        drawn.append(args[5].shape[1])
        return rasterize(*args)

    with (
        model.gs_decoder[0]["xyz"].register_forward_pre_hook(lambda module, args: decoded.append(0)),
        model.gs_decoder[1]["xyz"].register_forward_pre_hook(lambda module, args: decoded.append(1)),
    ):
        sample_sparsegen(model, images(2), cameras([0, 90]), cameras([180, 270, 300]), steps=3, renderer=renderer)
    assert decoded == [1, 1, 1] and drawn == [3, 3]


def test_callback_counts_steps_and_may_stop(model):
    seen = []
    sample_sparsegen(model, images(), steps=4, callback=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    seen.clear()
    sample_sparsegen(
        model,
        images(),
        cameras([0]),
        cameras([0])[:0],
        steps=4,
        callback=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 1)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_sparsegen(model, images(), steps=4, callback=stop)


def test_larger_pictures_are_resampled(model):
    small = images()
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    close(sample_sparsegen(model, large), sample_sparsegen(model, small), atol=0.2)
    assert len(sample_sparsegen(model, large, orbit([0], 20, 1.3, CONFIG.fov, 64, 64))) == CONFIG.num_gaussians


def test_weights_that_know_one_azimuth_see_a_turned_world():
    model = make(align_first_view=True)
    pictures = images(2)
    home = sample_sparsegen(model, pictures, cameras([0, 70]), cameras([200, 300]), steps=2)
    away = sample_sparsegen(model, pictures, cameras([130, 200]), cameras([330, 430]), steps=2)
    close(home.rotated(rotation_about_z(130)), away, atol=2e-5)
    free = make()
    home, away = (sample_sparsegen(free, pictures, cameras(azimuths)) for azimuths in ([0, 70], [130, 200]))
    assert (home.rotated(rotation_about_z(130)).means - away.means).abs().max() > 1e-3


def test_noise_of_no_strength_forgets_the_seed(model):
    a, b = (sample_sparsegen(model, images(), seed=seed, noise_scale=0.0) for seed in (1, 2))
    close(a, b, atol=0)
    close(a, sample_sparsegen(model, images(), noise=torch.zeros(3, 3, 16, 16)), atol=0)


def test_working_memory_grows_with_views():
    assert 0 < working_memory(CONFIG, 1) < working_memory(CONFIG, 4) < 1 << 30
    assert working_memory(SparseGenConfig(), 4) > 100 << 20


def test_virtual_cameras_go_round():
    first = cameras([30.0], elevation=10.0, radius=2.0)
    around = virtual_cameras(first, 3)
    azimuth = torch.rad2deg(torch.atan2(around.centers[:, 1], around.centers[:, 0])) % 360
    torch.testing.assert_close(azimuth, torch.tensor([120.0, 210.0, 300.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(around.centers.norm(dim=-1), torch.full((3,), 2.0))
    torch.testing.assert_close(around.centers[:, 2], torch.full((3,), 2 * math.sin(math.radians(10))))
    torch.testing.assert_close(around.fov_x, first.fov_x.expand(3))
    assert len(virtual_cameras(first, 0)) == 0
    above = virtual_cameras(cameras([0.0], elevation=90.0), 2)
    assert len(above) == 2 and bool(torch.isfinite(above.world_to_camera).all())
    inside = Cameras(torch.eye(4)[None], first.intrinsics, 16, 16)
    with pytest.raises(InputError, match="origin"):
        virtual_cameras(inside, 2)


def test_rendering_is_a_separate_step(model):
    splats, seen = sample_sparsegen(model, images()), []
    out = render_splats(
        splats, cameras([0, 120, 240]).resized(24, 24), callback=lambda done, total: seen.append((done, total))
    )
    assert out.color.shape == (3, 24, 24, 3) and out.alpha.shape == out.depth.shape == (3, 24, 24)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    bare = render_splats(splats, cameras([0, 120, 240]).resized(24, 24), background=None)
    torch.testing.assert_close(out.color, bare.color + 1 - bare.alpha[..., None], rtol=0, atol=1e-6)


NAN = torch.full((1, 3, 16, 16), 0.5)
NAN[0, 1, 2, 3] = math.nan


@pytest.mark.parametrize(
    "given, words",
    [
        (torch.zeros(0, 3, 16, 16), "`images`"),
        (torch.zeros(1, 3, 0, 0), "empty"),
        (torch.zeros(1, 4, 16, 16), "4 channels"),
        (torch.zeros(3, 16, 16), "`images`"),
        (torch.zeros(7, 3, 16, 16), "7 pictures"),
        (NAN, "NaN"),
        (NAN.nan_to_num(math.inf), "infinit"),
        (torch.full((1, 3, 16, 16), -0.5), r"\[0, 1\]"),
        (torch.full((1, 3, 16, 16), 200.0), r"\[0, 1\]"),
        (torch.zeros(1, 3, 16, 20), "square"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "floats"),
    ],
)
def test_bad_pictures(model, given, words):
    with pytest.raises(InputError, match=words) as caught:
        sample_sparsegen(model, given, cameras([0] * max(1, len(given))))
    assert "\n" not in str(caught.value)


def test_bad_cameras_and_numbers(model):
    def fails(words, *args, **kwargs):
        with pytest.raises(InputError, match=words):
            sample_sparsegen(model, *args, **kwargs)

    fails("2 pictures but 1 camera", images(2), cameras([0]))
    fails("`cameras_clean` is missing", images(2))
    fails("1 pictures but 0 camera", images(1), cameras([0])[:0])
    fails("field of view of 30", images(), orbit([0], 0, 1.3, 30, 16, 16))
    fails("`cameras_virtual` have a field of view", images(), cameras([0]), orbit([0], 0, 1.3, 30, 16, 16))
    fails("16x12", images(), orbit([0], 0, 1.3, CONFIG.fov, 16, 12))
    fails("`noise`", images(), noise=torch.zeros(1, 3, 16, 16))
    fails("`noise`", images(), noise=torch.full((3, 3, 16, 16), math.nan))
    fails("`noise_scale`", images(), noise_scale=math.nan)
    fails("`seed`", images(), seed=-1)
    for steps in (0, -1, 1.5, 100000):
        fails("`steps`", images(), steps=steps)
    fails("`steps`", images(), cameras([0]), cameras([0])[:0], steps=0)
    with pytest.raises(InputError, match="determinant 0"):
        Cameras(torch.diag(torch.tensor([1.0, 1, 0, 1]))[None], cameras([0]).intrinsics, 16, 16)


def test_the_flow_is_exact_for_a_known_denoiser():
    """With a predictor that always says 0.25 the straight path ends where the last step's level puts it."""
    x = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    states = []

    def predict(state, time, self_condition):
        states.append(state)
        return torch.full_like(state, 0.25)

    pipeline.rectified_flow(predict, lambda value: value, x, 6)
    torch.testing.assert_close(states[-1], 0.25 + 0.001 * (x - 0.25), rtol=0, atol=1e-5)


def test_preview_shows_the_guessed_views_of_every_step_but_the_last(model):
    shown = []
    sample_sparsegen(model, images(), steps=4, preview=shown.append)
    assert len(shown) == 3
    assert all(pictures.shape == (3, 3, 16, 16) and 0 <= pictures.min() and pictures.max() <= 1 for pictures in shown)
    assert not torch.equal(shown[0], shown[-1])
    sample_sparsegen(model, images(), preview=lambda pictures: pytest.fail("one step draws nothing"))
