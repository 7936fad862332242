"""Scores from features, against their formulas; the distance of two Gaussians against its closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from sightline.kernels.feature_metrics import evenly, observation_scores, text_score, truth_score
from sightline.kernels.metrics import frechet_distance
from sightline.scene.errors import InputError


def test_scores_are_cosines():
    views = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    word = torch.tensor([5.0, 0.0])
    half = math.sqrt(0.5)
    assert text_score(views, word) == pytest.approx(100 * (1 + 0 + half) / 3)
    assert observation_scores(views, word) == {"max": pytest.approx(1.0), "mean": pytest.approx((1 + half) / 3)}
    truth = torch.tensor([[1.0, 0.0], [0.0, 7.0]])  # their mean direction is the diagonal
    assert truth_score(views, truth) == pytest.approx((half + half + 1) / 3)


def test_the_frechet_distance_is_that_of_the_fitted_gaussians():
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), the root by scipy; and the closed form in one dimension."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(5, 5, generator=generator)
    first = torch.randn(400, 5, generator=generator) @ mix
    second = torch.randn(300, 5, generator=generator) * 2 + 1
    a, b = (np.cov(x.double().numpy().T) for x in (first, second))
    gap = (first.double().mean(0) - second.double().mean(0)).square().sum()
    expected = float(gap) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    line, other = first[:, :1], second[:, :1]
    plain = (line.mean() - other.mean()) ** 2 + (line.std() - other.std()) ** 2
    assert frechet_distance(line, other) == pytest.approx(float(plain), rel=1e-4)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)


def test_views_are_chosen_evenly():
    assert evenly(11, 3) == [0, 5, 10] and evenly(2, 5) == [0, 1] and evenly(7, 1) == [0] and evenly(0, 3) == []


def test_features_that_are_none():
    for wrong in (torch.zeros(0, 4), torch.zeros(4)):
        with pytest.raises(InputError, match="features"):
            text_score(wrong, torch.ones(4))
