"""Scores of pictures by the features that a trained network gives them: how well views fit words, truth, observation.

Features are rows [N, D] of any length; directions alone count. For the distance of two sets of features see
`metrics.frechet_distance`. Source: RelaxFlow, evaluation (specification, section 8).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scene.errors import InputError


def directions(features: Tensor) -> Tensor:
    """Features [N, D] with length 1, float64; raises InputError for others and for none."""
    if features.ndim != 2 or not len(features):
        raise InputError(f"The features are {list(features.shape)}; [N, D] with N of at least 1 would work.")
    return F.normalize(features.double(), dim=-1)


def text_score(views: Tensor, text: Tensor) -> float:
    """How well views fit words: 100 times the mean cosine of features [N, D] with those of the words [D]."""
    return 100 * float((directions(views) @ directions(text[None])[0]).mean())


def truth_score(views: Tensor, truth: Tensor) -> float:
    """How well views fit true pictures: the mean cosine of features [N, D] with the normalized mean of those [M, D]."""
    middle = F.normalize(directions(truth).mean(0), dim=0)
    return float((directions(views) @ middle).mean())


def observation_scores(views: Tensor, observation: Tensor) -> dict[str, float]:
    """The largest and the mean cosine of features [N, D] with those of the given picture [D]: {"max", "mean"}."""
    cosines = directions(views) @ directions(observation[None])[0]
    return {"max": float(cosines.max()), "mean": float(cosines.mean())}


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` indices (fewer where there are fewer) spread evenly over `count` pictures of a turn."""
    wanted = min(count, wanted)
    return torch.linspace(0, count - 1, wanted).round().long().tolist() if wanted > 1 else list(range(wanted))
