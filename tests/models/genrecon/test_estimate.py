"""The estimate before sampling: what it counts, with a clock that knows no time."""

from itertools import count

import pytest
import torch
from genrecon_tiny import STEPS, scene_family
from scene_captures import model, write_capture

from sightline.kernels.view_aggregation import AggregatorWeights, aggregate
from sightline.models.genrecon.estimate import aggregation_work, flow_work, stage_work
from sightline.models.trellis2.samplers import SamplerSettings
from sightline.pipelines.genrecon import PlanOptions, SampleOptions, encode_views, estimate_scene, plan_scene
from sightline.scene.captures import PointFilter, read_capture

PLAN = PlanOptions(min_points_per_chunk=20, num_imgs_per_scene=3, points=PointFilter(clean=False))


@pytest.fixture(scope="module")
def family():
    return scene_family()


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return plan_scene(read_capture(write_capture(tmp_path_factory.mktemp("capture"), model(4))), PLAN)


def test_one_evaluation_is_counted_once_and_twice_with_guidance(family):
    cfg = family.get("shape_slat_flow_model_512").config
    plain = SamplerSettings(4, 1.0, 0.0, (0.0, 1.0), 1.0)
    assert stage_work(cfg, plain, [10, 20], 7) == 4 * (flow_work(cfg, 10, 7) + flow_work(cfg, 20, 7))
    guided = SamplerSettings(4, 3.0, 0.0, (0.0, 1.0), 1.0)
    both = flow_work(cfg, 10, 7) + flow_work(cfg, 10, 7, False)
    assert stage_work(cfg, guided, [10], 7) == pytest.approx(4 * both)


def test_samples_outside_of_a_photo_cost_nothing():
    patch = torch.tensor([[0, 1, 1], [2, 2, 3]])
    all_seen = aggregation_work(torch.ones(2, 3, dtype=torch.bool), patch, 8)
    seen = torch.tensor([[True, True, True], [False, False, False]])
    assert aggregation_work(seen, patch, 8) == 2 * 2 * 64 + 3 * 5 * 64 + 3 * (64 + 8) < all_seen


def test_seconds_follow_the_measured_speed(family, plan):
    """Every probe takes one second by this clock, so that stages are counted in probes."""
    changes = {role: {**steps, "guidance_strength": 1.0} for role, steps in STEPS.items()}
    views = encode_views(family, plan)

    def ask(**given):
        clock = count()
        options = SampleOptions(samplers=changes, zero_3d_cond=True, **given)
        return estimate_scene(family, plan, options, views, clock=lambda: float(next(clock)))

    found = ask()
    cfg, chunks = family.get("sparse_structure_flow_model").config, len(plan.layout)
    assert found.tokens and len(found.tokens) == chunks and "photos" not in found.seconds
    one = flow_work(cfg, 16**3, views.tokens.shape[1])
    shape = family.get("shape_slat_flow_model_512").config
    settings = family.settings(changes)["shape_slat_sampler"]
    assert found.seconds["shape"] == pytest.approx(
        stage_work(shape, settings, found.tokens, views.tokens.shape[1]) / one
    )
    assert found.seconds["structure"] >= 2 * chunks  # two steps, and the decoder
    assert ask(batch=4).memory > found.memory > 0
    assert "structure" in str(found) and "GB" in str(found)


def test_photos_and_the_condition_are_counted(family, plan):
    clock = count()
    found = estimate_scene(family, plan, clock=lambda: float(next(clock)))
    assert found.seconds["photos"] == len(plan.views)
    without = estimate_scene(family, plan, SampleOptions(zero_3d_cond=True), clock=lambda: float(next(clock)))
    assert all(found.seconds[s] > without.seconds[s] for s in ("structure", "shape", "texture"))


def test_a_sample_is_worth_what_the_aggregator_does(family):
    """The count stands for `aggregate`: a voxel that nobody sees costs its share of the voxels only."""
    aggregator = family.get("sparse_structure_flow_model").aggregator
    width = aggregator.weight_mlp[2].weight.shape[1]
    tokens = torch.randn(2, 9, width)
    patch, valid = torch.zeros(2, 3, dtype=torch.long), torch.tensor([[True, True, False], [True, False, False]])
    found = aggregator.from_patches(tokens, patch, valid)
    feats = tokens[:, 5][:, None].expand(-1, 3, -1)
    weights: AggregatorWeights = aggregator.weights
    torch.testing.assert_close(found, aggregate(feats * valid[..., None], valid, weights, None, aggregator.two_pass))
    assert not found[2].any()
