"""The embedded weights do what their documentation says, on objects drawn here and never in training."""

import numpy as np
import pytest
import torch

from sightline.models.sparsegen import load_sparsegen
from sightline.models.sparsegen.weights import EMBEDDED, EMBEDDED_PATH
from sightline.training.sparsegen.evaluate import BINS, evaluate
from sightline.training.sparsegen.procedural_data import ViewShard, draw_views
from sightline.training.sparsegen.recipe import read_recipe

KINDS = ["car", "chair", "rocket", "lamp", "mug", "truck", "snowman", "boat"]


@pytest.fixture(scope="module")
def model():
    return load_sparsegen(EMBEDDED)[0]


def test_file(model):
    assert EMBEDDED_PATH.stat().st_size < 8_000_000
    assert model.config == read_recipe("tiny").model


def test_one_picture_predicts_the_others(model):
    indices = [1_030_000 + k for k in range(len(KINDS))]
    drawn = [draw_views(i, 5, model.config.input_size, kind) for i, kind in zip(indices, KINDS)]
    shard = ViewShard(*(np.stack(part) for part in zip(*drawn)), KINDS, indices)
    white = torch.ones(BINS, 3, 64, 64)
    one, pictures = evaluate(model, shard, white, novel=4)
    assert one.psnr_novel > 19 and one.psnr_input > 22 and one.ssim_novel > 0.75
    # Colors come from the given picture: with the pictures of another object the result is far worse.
    foreign = ViewShard(np.roll(shard.rgba, 1, 0), shard.azimuth, shard.elevation, KINDS, indices)
    _, others = evaluate(model, foreign, white, novel=4)
    error = (pictures[:, 6:] - pictures[:, 1:5]).square().mean()
    swapped = (others[:, 6:] - pictures[:, 1:5]).square().mean()
    assert float(swapped) > 3 * float(error)
