"""Projected conditions: some tokens equal their part of the grid, views are averaged, NAF only where it is read."""

import math

import pytest
import torch
from trellis2_tiny import CHANNELS, PatchEncoder, cascade, picture

from sightline.kernels.naf import gather_queries, upsample_map
from sightline.kernels.projection import front_camera, sample_map
from sightline.models.trellis2.cascade import ImageStage
from sightline.models.trellis2.image_condition import (
    FrontCamera,
    Pictures,
    PosedCameras,
    project_features,
    projected_condition,
    token_condition,
)
from sightline.models.trellis2.naf import Naf, NafConfig, load_naf
from sightline.scene.cameras import Cameras
from sightline.scene.errors import InputError

CAMERA = FrontCamera(0.7)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return PatchEncoder().requires_grad_(False)


@pytest.fixture(scope="module")
def naf():
    return cascade(True).naf


def rgb(seed=0):
    return picture(seed)[..., :3].copy()


@pytest.mark.parametrize("target", [None, 16, 64])
def test_some_tokens_equal_their_part_of_the_grid(encoder, naf, target):
    pictures, stage = Pictures(encoder, rgb()), ImageStage(32, 6, target)
    tokens, whole = project_features(pictures, stage, CAMERA, None, naf)
    assert tokens.shape == (1, 5, CHANNELS) and whole.shape == (216, CHANNELS * (1 if target is None else 2))
    coords = torch.tensor([[5, 0, 3], [0, 0, 0], [2, 4, 1], [5, 5, 5]])
    _, some = project_features(pictures, stage, CAMERA, coords, naf)
    rows = coords[:, 0] * 36 + coords[:, 1] * 6 + coords[:, 2]
    assert torch.allclose(some, whole[rows], atol=1e-6)


@pytest.mark.parametrize("size, target", [(32, 16), (32, 32), (64, 8), (96, 24)])
def test_naf_at_points_equals_reading_the_whole_map(encoder, size, target):
    torch.manual_seed(2)
    naf = Naf(NafConfig(dim=32, heads_attn=2, heads_rope=2, kernel_size=3, img_layers=2)).requires_grad_(False)
    cells = 4 if target % 3 else 12  # divides the target
    image, patches = torch.rand(1, 3, size, size), torch.randn(1, 6, cells, cells)
    uv = torch.rand(50, 2) * (size + 8) - 4
    queries = naf.queries(image, target)
    expected = sample_map(upsample_map(queries, patches, 2, 3), uv, size)
    assert torch.allclose(naf.at_points(image, patches, uv, size, target), expected, atol=1e-5)
    pixels = torch.randperm(target**2)[:20].sort().values
    a, b = naf.point_queries(image, target, pixels, (cells, cells)), gather_queries(queries[0], pixels, (cells, cells))
    assert torch.allclose(a.vectors, b.vectors, atol=1e-6) and torch.allclose(a.keys, b.keys, atol=1e-6)


def test_naf_with_a_head_across_both_halves():
    torch.manual_seed(3)
    naf = Naf(NafConfig(dim=32, heads_attn=1, heads_rope=1, kernel_size=3, img_layers=1)).requires_grad_(False)
    image, patches, uv = torch.rand(1, 3, 32, 32), torch.randn(1, 6, 4, 4), torch.rand(9, 2) * 32
    expected = sample_map(upsample_map(naf.queries(image, 16), patches, 1, 3), uv, 32)
    assert torch.allclose(naf.at_points(image, patches, uv, 32, 16), expected, atol=1e-5)


def test_naf_loads_its_weights_by_name(naf):
    state = naf.state_dict()
    again = load_naf(state, naf.config)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.queries(image, 16), naf.queries(image, 16))
    with pytest.raises(InputError, match="missing: image_encoder.rope.periods"):
        load_naf({k: v for k, v in state.items() if "periods" not in k}, naf.config)


@pytest.mark.parametrize("size, target, message", [(32, 10, "multiple"), (16, 16, "needs 3")])
def test_sizes_naf_cannot_raise(encoder, naf, size, target, message):
    with pytest.raises(InputError, match=message):
        project_features(Pictures(encoder, rgb()), ImageStage(size, 4, target), CAMERA, None, naf)


def test_a_posed_front_camera_equals_the_front_camera(encoder, naf):
    pictures, stage = Pictures(encoder, rgb()), ImageStage(32, 6, 16)
    distance = 0.5 / math.tan(0.35)
    _, expected = project_features(pictures, stage, CAMERA, None, naf)
    for size in (32, 200):  # a camera of another picture size sees the same
        posed = PosedCameras(front_camera(0.7, distance, size))
        _, found = project_features(pictures, stage, posed, None, naf)
        assert torch.allclose(found, expected, atol=1e-4)


def test_views_are_averaged(encoder, naf):
    stage = ImageStage(32, 6, 16)
    cameras = [front_camera(0.7, 1.4, 32), front_camera(0.9, 1.1, 32)]
    single = [
        project_features(Pictures(encoder, rgb(seed)), stage, PosedCameras(camera), None, naf)
        for seed, camera in enumerate(cameras)
    ]
    both = Pictures(encoder, [rgb(0), rgb(1)])
    tokens, features = project_features(both, stage, PosedCameras(Cameras.cat(cameras)), None, naf)
    assert torch.allclose(tokens, (single[0][0] + single[1][0]) / 2, atol=1e-6)
    assert torch.allclose(features, (single[0][1] + single[1][1]) / 2, atol=1e-6)
    with pytest.raises(InputError, match="2 pictures and 1 cameras"):
        project_features(both, stage, CAMERA, None, naf)


def test_each_image_size_is_encoded_once(encoder):
    pictures = Pictures(encoder, rgb())
    before = encoder.runs
    for size in (32, 64, 32, 64, 32):
        token_condition(pictures, size)
        projected_condition(pictures, ImageStage(size, 4), CAMERA)
    assert encoder.runs - before == 2


def test_shapes_of_conditions(encoder):
    pictures = Pictures(encoder, torch.rand(3, 32, 32))
    assert token_condition(pictures, 32).shape == (1, 5 + 16, CHANNELS)
    dense = projected_condition(pictures, ImageStage(32, 4), CAMERA)
    assert dense.tokens.shape == (1, 5, CHANNELS) and dense.projected.shape == (1, 64, CHANNELS)
    sparse = projected_condition(pictures, ImageStage(32, 4), CAMERA, torch.zeros(7, 3, dtype=torch.int32))
    assert sparse.projected.shape == (7, CHANNELS)
    with pytest.raises(InputError, match=r"\[3, 64, 64\]"):
        pictures.tokens(64)


@pytest.mark.parametrize("fov", [0.0, math.pi, -1.0, 4.0, float("nan")])
def test_fields_of_view_that_cannot_be(fov):
    with pytest.raises(InputError, match="field of view"):
        FrontCamera(fov)


@pytest.mark.parametrize("values", [dict(distance=0.0), dict(distance=-1.0), dict(mesh_scale=0.0)])
def test_cameras_that_cannot_be(encoder, values):
    with pytest.raises(InputError, match="must be above 0"):
        project_features(Pictures(encoder, rgb()), ImageStage(32, 4), FrontCamera(0.7, **values))


def test_inputs_that_are_missing(encoder):
    with pytest.raises(InputError, match="no picture"):
        Pictures(encoder, [])
    with pytest.raises(InputError, match="give it NAF"):
        project_features(Pictures(encoder, rgb()), ImageStage(32, 4, 16), CAMERA)
    with pytest.raises(InputError, match="the grid is 0..3"):
        project_features(Pictures(encoder, rgb()), ImageStage(32, 4), CAMERA, torch.tensor([[0, 0, 4]]))
