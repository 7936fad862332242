"""How often the networks are evaluated at the released settings of SAM 3D, and what the sampler does with a mask."""

from collections import Counter

import pytest
import torch

from sightline.models.relaxflow.sampling import Guidance, Mix, sample
from sightline.models.relaxflow.schedules import alphas
from sightline.models.sam3d.times import LATENT, STRUCTURE, flow_times, shortcut_times
from sightline.scene.errors import InputError

RELEASED = alphas("linear_cutoff", 25, {"alpha0": 1.0, "mid_ratio": 0.4})


def velocity(x, t, name):
    return {"obs": 1.0, "prior": -1.0}.get(name, 0.0) + 0.1 * x


def count(settings, times, branch="blend", visible=None, shared=True):
    counts = Counter()
    guidance = Guidance(settings.strength, tuple(v / 1000 for v in settings.interval))
    mix = Mix(RELEASED, visible=visible)
    sample(velocity, torch.zeros(4, 2), times, guidance, mix, branch=branch, shared_uncond=shared, counts=counts)
    return counts.total()


def test_evaluations_of_the_structure():
    """The released demo takes 198, of which a mask's pose and the blend need 110, or 99 with the shared pass."""
    times = shortcut_times(STRUCTURE.steps, STRUCTURE.rescale_t)[0]
    alone = count(STRUCTURE, times, "obs")
    assert alone == 25 + 19
    assert count(STRUCTURE, times, shared=False) + alone == 110 - 2  # the first step follows the prior alone
    assert count(STRUCTURE, times) + alone == 99 - 1


def test_evaluations_of_the_latents():
    """The released demo takes 310."""
    times = flow_times(LATENT.steps, LATENT.rescale_t)
    assert count(LATENT, times, visible=torch.zeros(4, 1)) == 49
    assert count(LATENT, times, visible=torch.zeros(4, 1), shared=False) == 60
    assert count(LATENT, times) == 48


def test_the_first_step_by_the_prior_alone_is_exact():
    """What alpha 1 leaves out would have been multiplied by zero."""
    times, guidance = [0.0, 0.5, 1.0], Guidance(2.0)
    start = torch.arange(8.0).view(4, 2)
    skipped = sample(velocity, start, times, guidance, Mix([1.0, 0.5]))
    whole = sample(velocity, start, times, guidance, Mix([1.0, 0.5], visible=torch.zeros(4, 1)))
    torch.testing.assert_close(skipped, whole)


def test_anchored_rows_end_where_the_observation_ends():
    times, guidance, states = [0.0, 0.3, 0.7, 1.0], Guidance(1.0), []
    start = torch.arange(8.0).view(4, 2)
    alone = sample(
        velocity, start, times, guidance, Mix([1.0]), branch="obs", callback=lambda d, s, x, a: states.append(x)
    )
    seen = torch.tensor([1.0, 0, 1, 0])[:, None]
    out = sample(velocity, start, times, guidance, Mix([1.0], visible=seen), anchor=states)
    assert torch.equal(out[::2], alone[::2]) and (out[1::2] - alone[1::2]).abs().min() > 0.5


def test_an_unknown_branch():
    with pytest.raises(InputError, match="branch"):
        sample(velocity, torch.zeros(1, 1), [0, 1], Guidance(), Mix([0.0]), branch="both")
