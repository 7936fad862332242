"""The sampler as formulas: times, which evaluations are made, what leaves the result alone."""

import pytest
import torch
from trellis2_tiny import CHANNELS, FLOW, network, slat_flow

from sightline.models.trellis2.conditions import Condition, concatenate, negative
from sightline.models.trellis2.samplers import (
    SamplerSettings,
    clean_estimate,
    dense_std,
    dense_velocity,
    flow_times,
    rescaled_guidance,
    sample_flow,
    sparse_std,
    sparse_velocity,
    velocity_of,
)
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


def test_times_run_from_one_to_zero():
    assert flow_times(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    times = flow_times(12, 5.0)
    assert times[0] == 1.0 and times[-1] == 0.0
    assert times[6] == pytest.approx(5 * 0.5 / (1 + 4 * 0.5))
    assert all(a > b for a, b in zip(times, times[1:], strict=False))


def test_the_estimate_and_its_inverse():
    x, v = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for t in (1.0, 0.3, 0.01):
        assert torch.allclose(velocity_of(x, t, clean_estimate(x, t, v)), v)


def test_a_straight_flow_is_integrated_exactly():
    target = torch.randn(1, 2, 3)
    noise = torch.randn(1, 2, 3)
    out = sample_flow(lambda x, t, cond: noise - target, noise, None, None, SamplerSettings(5, 1.0, rescale_t=3.0))
    assert torch.allclose(out, target, atol=1e-5)


@pytest.mark.parametrize(
    "strength, interval, expected",
    [
        (1.0, (0.0, 1.0), ["pos"] * 4),
        (0.0, (0.0, 1.0), ["neg"] * 4),
        (3.0, (0.5, 1.0), ["pos", "neg", "pos", "neg", "pos", "neg", "pos"]),
        (3.0, (2.0, 3.0), ["pos"] * 4),
    ],
)
def test_which_conditions_are_evaluated(strength, interval, expected):
    seen = []

    def velocity(x, t, cond):
        seen.append(cond)
        return torch.zeros_like(x)

    settings = SamplerSettings(4, strength, 0.7, interval)
    sample_flow(velocity, torch.randn(1, 4), "pos", "neg", settings)
    assert seen == expected


def test_rescale_moves_the_deviation_of_the_estimate():
    x, pos, cfg = (torch.randn(2, 5, 4, 4, 4) for _ in range(3))
    unchanged = rescaled_guidance(x, 0.7, pos, cfg, 0.0, dense_std, 1e-5)
    assert torch.allclose(unchanged, cfg, atol=1e-5)
    full = rescaled_guidance(x, 0.7, pos, cfg, 1.0, dense_std, 1e-5)
    assert torch.allclose(dense_std(clean_estimate(x, 0.7, full)), dense_std(clean_estimate(x, 0.7, pos)), rtol=1e-4)


def test_the_sparse_deviation_is_biased_and_per_item():
    x = torch.randn(30, 4)
    layout = [slice(0, 10), slice(10, 30)]
    std = sparse_std(layout)(x)
    assert std.shape == (30, 1)
    for item in layout:
        assert torch.allclose(std[item], x[item].std(unbiased=False).expand(item.stop - item.start, 1), atol=1e-6)


def test_an_interrupt_ends_the_run():
    def stop(done, steps, x_t, x_0):
        if done == 2:
            raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        sample_flow(
            lambda x, t, c: calls.append(t) or x, torch.ones(1, 2), None, None, SamplerSettings(9, 1.0), callback=stop
        )
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"rescale_t": 0}, "rescale_t"),
        ({"cfg": 1}, "no option cfg"),
    ],
)
def test_settings_that_cannot_be_used(change, message):
    with pytest.raises(InputError, match=message):
        SamplerSettings().replace(**change)


def test_both_branches_in_one_pass_equal_one_after_the_other():
    torch.manual_seed(0)
    model = network(
        "SparseStructureFlowModel", resolution=3, in_channels=2, out_channels=2, **FLOW, image_attn_mode="proj"
    )
    cond = Condition(torch.randn(1, 5, CHANNELS), torch.randn(1, 27, CHANNELS))
    velocity, pair = dense_velocity(model)
    x = torch.randn(1, 2, 3, 3, 3)
    check_pair(velocity, pair, x, cond)

    coords = torch.tensor([[0, 1, 2, 3], [0, 4, 4, 4], [1, 0, 0, 0], [1, 5, 6, 7], [1, 7, 7, 7]], dtype=torch.int32)
    voxels = SparseTensor(torch.randn(5, 3), coords, 2)
    flow = slat_flow(in_channels=5, image_attn_mode="proj", proj_in_channels=6)
    cond = Condition([torch.randn(4, CHANNELS), torch.randn(2, CHANNELS)], torch.randn(5, 6))
    check_pair(*sparse_velocity(flow, voxels, torch.randn(5, 2)), voxels.feats, cond)


def check_pair(velocity, pair, x, cond):
    with torch.no_grad():
        expected = velocity(x, 0.6, cond), velocity(x, 0.6, negative(cond))
        for a, b in zip(pair(x, 0.6, cond, negative(cond)), expected, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
        assert not torch.allclose(*expected, atol=1e-2)


def test_conditions_join_item_by_item():
    a, b = torch.randn(1, 2, 3), torch.randn(2, 2, 3)
    assert torch.equal(concatenate(a, b), torch.cat([a, b]))
    assert len(concatenate([a[0]], list(b))) == 3
    joined = concatenate(Condition(a, a), Condition(b, b))
    assert torch.equal(joined.projected, torch.cat([a, b])) and joined.color is None
    zero = negative(Condition([a[0]], b, b))
    assert not zero.projected.any() and not zero.tokens[0].any() and not zero.color.any()
